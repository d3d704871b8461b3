//! A panic ends its own call and nothing else: what the call held is given back, and its caller is told INTERNAL, never
//! the panic's text. Where it happened is one line in the log, by the hook in `telemetry`.
//!
//! Every call runs as a task of its own, so that a panic reaches no other by itself. But without this its caller would
//! see a stream that was reset, and nobody would count it.

use super::status;
use crate::telemetry::Metrics;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// See the module's documentation.
#[derive(Clone)]
pub struct Contain {
    metrics: Arc<Metrics>,
}

impl Contain {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for Contain {
    type Service = Contained<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Contained { metrics: self.metrics.clone(), inner }
    }
}

/// A service whose panics are caught.
#[derive(Clone)]
pub struct Contained<S> {
    metrics: Arc<Metrics>,
    inner: S,
}

impl<S, B> Service<Request<B>> for Contained<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready, not its clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let metrics = self.metrics.clone();
        // What has panicked is dropped and never looked at again, so that nothing half changed is seen.
        Box::pin(async move {
            let answer = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
            let Ok(answer) = answer.await else {
                metrics.panicked();
                return Ok(status::internal().into_http());
            };
            Ok(answer?.map(|body| contained(body, metrics)))
        })
    }
}

/// A body that ends with INTERNAL where making it panics.
fn contained(body: Body, metrics: Arc<Metrics>) -> Body {
    // An answer of headers alone must stay one: nothing is left to panic.
    if body.is_end_stream() {
        return body;
    }
    Body::new(ContainedBody { body: Some(body), metrics })
}

struct ContainedBody {
    /// None once it has panicked: it is never looked at again.
    body: Option<Body>,
    metrics: Arc<Metrics>,
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
