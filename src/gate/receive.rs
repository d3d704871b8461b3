//! How long a request may take to come in.

use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body that fails where its end has not come in time: whoever sends a message byte by byte must not hold a call's place
/// for as long as it likes.
pub struct TimedBody<B: Body> {
    body: B,
    end: Instant,
    /// Set as soon as something has to be waited for: most requests are there as a whole.
    timer: Option<Pin<Box<Sleep>>>,
    /// The error of a body that is late.
    late: fn() -> B::Error,
    over: bool,
}

impl<B: Body> TimedBody<B> {
    /// That body, which fails with `late` where its end has not come within `limit` from now.
    pub fn new(body: B, limit: Duration, late: fn() -> B::Error) -> Self {
        Self { body, end: Instant::now() + limit, timer: None, late, over: false }
    }
}

impl<B: Body + Unpin> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let end = this.end;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        timer.as_mut().poll(context).map(|()| {
            this.over = true;
            Some(Err((this.late)()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
