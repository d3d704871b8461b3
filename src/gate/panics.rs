//! A panic ends its own call and nothing else. What the call held is given back, and its caller is told of an internal
//! error, never the panic's text. The hook in `telemetry` logs where it happened, in one line.
//!
//! Every call runs as a task of its own, so a panic reaches no other call by itself. But without this module its caller
//! would see a stream that was reset, and nobody would count it.

use crate::telemetry::Metrics;
use futures::FutureExt;
use http_body::{Body, Frame, SizeHint};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The answer that `call` gives, or `None` where it panics. A future that has panicked is dropped and never polled again,
/// so nothing half changed is seen.
pub async fn contained<T>(call: impl Future<Output = T>, metrics: &Metrics) -> Option<T> {
    let answer = AssertUnwindSafe(call).catch_unwind().await.ok();
    if answer.is_none() {
        metrics.panicked();
    }
    answer
}

/// Makes the frame with which a door tells its caller of an internal error.
pub type LastFrame<B> = fn() -> Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

/// A body that ends with a frame of its door's choice where making the body panics.
pub struct ContainedBody<B: Body> {
    /// `None` once it has panicked: it is never polled again.
    body: Option<B>,
    /// What tells the caller of an internal error.
    last: LastFrame<B>,
    metrics: Arc<Metrics>,
}

impl<B: Body> ContainedBody<B> {
    /// That body, which ends with `last` where it panics.
    pub fn new(body: B, last: LastFrame<B>, metrics: Arc<Metrics>) -> Self {
        Self { body: Some(body), last, metrics }
    }
}

impl<B: Body + Unpin> Body for ContainedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context)));
        polled.unwrap_or_else(|_| {
            self.body = None;
            self.metrics.panicked();
            Poll::Ready(Some((self.last)()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
