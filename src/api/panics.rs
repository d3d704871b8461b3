//! A panic ends its own call and nothing else: what the call held is given back, and its caller is told INTERNAL, never
//! the panic's text. Where it happened is one line in the log, by the hook in `telemetry`.
//!
//! Every call runs as a task of its own, so that a panic reaches no other by itself. But without this its caller would
//! see a stream that was reset, and nobody would count it.

use super::status;
use crate::telemetry::Metrics;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};

/// The answer that `call` gives, or INTERNAL where it panics. It is dropped then and never looked at again, so that nothing
/// half changed is seen.
pub(super) async fn contained<E>(
    call: impl Future<Output = Result<Response<Body>, E>>,
    metrics: &Metrics,
) -> Result<Response<Body>, E> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| {
        metrics.panicked();
        Ok(status::internal().into_http())
    })
}

/// A body that ends with INTERNAL where making it panics.
pub(super) struct ContainedBody {
    /// None once it has panicked: it is never looked at again.
    body: Option<Body>,
    metrics: Arc<Metrics>,
}

impl ContainedBody {
    pub(super) fn new(body: Body, metrics: Arc<Metrics>) -> Self {
        Self { body: Some(body), metrics }
    }
}

impl http_body::Body for ContainedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context)));
        polled.unwrap_or_else(|_| {
            self.body = None;
            self.metrics.panicked();
            let mut trailers = HeaderMap::new();
            let written = status::internal().add_header(&mut trailers);
            Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
