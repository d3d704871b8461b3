//! What a forwarded request's answer is, where its endpoint is known: a reader beside the bytes tells what is no answer, or
//! breaks off.

use super::{ByteStream, Whole, call::Call, client::Response};
use crate::{
    balance::Failure,
    wire::{ChatEvent, Endpoint, Passed, ReadStream, glance, passing},
};
use bytes::Bytes;
use futures::{StreamExt, future::ready, stream};
use http::{HeaderMap, header};

/// Reads the answer to a forwarded request to its first content, where it is from that endpoint: an answer that is an error,
/// or says nothing, is a failure. The bytes stay as they are.
///
/// # Errors
/// Where it is no answer.
pub(super) async fn judged(
    call: &Call<'_>,
    endpoint: Endpoint,
    response: Response,
) -> Result<ByteStream, Failure> {
    if is_of(response.headers(), "event-stream") {
        return begun(response.into_body().into_stream(), endpoint, call).await;
    }
    if !is_of(response.headers(), "json") {
        return Ok(response.into_body().into_stream());
    }
    let whole = call
        .whole_bytes(response, |bytes, body| {
            if !Call::is_stream(body) {
                glance(endpoint, body)?;
            }
            Ok(bytes.clone())
        })
        .await?;
    // The room is taken until the bytes are handed on.
    let Whole { reply, room } = whole;
    let held = move |piece| {
        let _room = &room;
        piece
    };
    Ok(stream::once(ready(Ok(reply))).map(held).boxed())
}

/// A stream from its first content on, with all that came before. It fails where the reader beside it finds that it has.
async fn begun(mut body: ByteStream, endpoint: Endpoint, call: &Call<'_>) -> Result<ByteStream, Failure> {
    let classifier = call.classifier();
    let mut reader = passing(endpoint, false);
    let (mut before, mut size) = (Vec::new(), 0_usize);
    loop {
        let chunk = body.next().await.transpose()?;
        match &chunk {
            Some(bytes) => reader.push(bytes),
            None => reader.end(),
        }
        size += chunk.as_ref().map_or(0, Bytes::len);
        let is_over = chunk.is_none();
        before.extend(chunk);
        let mut has_content = is_over || size > MOST_BEFORE;
        for passed in reader.by_ref() {
            has_content |= is_content(&passed.map_err(|error| classifier.unread(error))?);
        }
        if has_content {
            break;
        }
    }
    let before = stream::iter(before.into_iter().map(Ok));
    let rest = stream::unfold(Some((body, reader, None)), move |state| {
        let classifier = classifier.clone();
        async move {
            let (mut body, mut reader, late) = state?;
            if let Some(failure) = late {
                return Some((Err(failure), None));
            }
            let chunk = match body.next().await {
                Some(Err(_)) | None if reader.is_closed() || reader.is_finished() => return None,
                Some(Err(failure)) => return Some((Err(failure), None)),
                Some(Ok(chunk)) => {
                    reader.push(&chunk);
                    Some(chunk)
                }
                None => {
                    reader.end();
                    None
                }
            };
            let error = reader.by_ref().find_map(Result::err).map(|error| classifier.unread(error));
            match (chunk, error) {
                (Some(chunk), error) => Some((Ok(chunk), Some((body, reader, error)))),
                (None, Some(failure)) => Some((Err(failure), None)),
                (None, None) => None,
            }
        }
    });
    Ok(before.chain(rest).boxed())
}

/// So many bytes may come before the first content.
const MOST_BEFORE: usize = 32 << 20;

fn is_content(passed: &Passed) -> bool {
    match passed {
        Passed::Frame { events, .. } => events.iter().any(ChatEvent::is_content),
        Passed::Event(event) => event.is_content(),
    }
}

/// Whether the media type in those headers has that word.
pub(super) fn is_of(headers: &HeaderMap, word: &str) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|media_type| media_type.to_ascii_lowercase().contains(word))
}
