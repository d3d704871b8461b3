//! How long a request may take to come in.

use super::status;
use futures::{StreamExt, stream};
use http_body::Body as _;
use http_body_util::{BodyStream, StreamBody};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

/// That body, which fails where its end has not come within `limit`: whoever sends a message byte by byte must not hold a
/// call's place for as long as it likes.
pub(super) fn within(limit: Duration, body: Body) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let end = Instant::now() + limit;
    let frames = stream::unfold(Some(BodyStream::new(body)), move |frames| async move {
        let mut frames = frames?;
        match timeout_at(end, frames.next()).await {
            Ok(frame) => Some((frame?, Some(frames))),
            Err(_) => Some((Err(status::too_slow()), None)),
        }
    });
    Body::new(StreamBody::new(frames))
}
