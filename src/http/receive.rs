//! How the body of a request comes in: its bytes are counted as they come, so that whoever sends much is told at once.

use super::error::Fault;
use crate::gate::Refusal;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_ENCODING};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A request that takes less is not counted: the number of calls bounds these.
const SMALL: usize = 16 << 10;

/// Reads the whole body, of at most `most` bytes, within `time`. `hold` counts how many bytes it takes, or says that it is too
/// much.
pub async fn received(
    body: Incoming,
    headers: &HeaderMap,
    most: usize,
    time: Duration,
    mut hold: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Fault> {
    if headers.get(CONTENT_ENCODING).is_some_and(|name| name != "identity") {
        return Err(Fault::unsupported("a request is sent without content-encoding"));
    }
    if body.size_hint().lower() > most as u64 {
        return Err(Fault::too_large(most));
    }
    let end = Instant::now() + time;
    match timeout_at(end, whole(body, most, &mut hold)).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Refusal::TooSlow.into()),
    }
}

async fn whole(
    mut body: Incoming,
    most: usize,
    hold: &mut impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Fault> {
    // What the client says of the length is believed as far as it has sent something.
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(most);
    let mut pieces = BytesMut::new();
    let mut counted = SMALL;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Fault::unreadable("its body was broken off, or is not framed as HTTP says"))?;
        let Ok(data) = frame.into_data() else { continue };
        if pieces.is_empty() && body.is_end_stream() && data.len() <= most {
            // It came in one piece. A copy, where the piece would keep far more in memory than itself.
            if data.len() > counted {
                hold(data.len())?;
            }
            return Ok(data);
        }
        let length = pieces.len() + data.len();
        if length > most {
            return Err(Fault::too_large(most));
        }
        if length > counted {
            counted = length.saturating_mul(2).min(expected.max(length));
            hold(counted)?;
            pieces.reserve(counted - pieces.len());
        }
        pieces.put(data);
    }
    Ok(pieces.freeze())
}
