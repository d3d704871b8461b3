//! How long a request may take to come in.

use super::status;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};

/// That body, which fails where its end has not come within `limit`: whoever sends a message byte by byte must not hold a
/// call's place for as long as it likes.
pub(super) fn within(limit: Duration, body: Body) -> Body {
    if http_body::Body::is_end_stream(&body) {
        return body;
    }
    Body::new(Timed { body, end: Instant::now() + limit, late: None, over: false })
}

struct Timed {
    body: Body,
    end: Instant,
    /// Set as soon as something has to be waited for: most requests are there as a whole.
    late: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let late = this.late.get_or_insert_with(|| Box::pin(sleep_until(this.end)));
        late.as_mut().poll(context).map(|()| {
            this.over = true;
            Some(Err(status::too_slow()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
