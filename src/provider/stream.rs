//! Reads a streamed answer as it comes, and hands its events on.
//!
//! Invariants: memory is bounded, the stream ends after its first failure, and it never ends well before the provider
//! has said that it is done. No timeouts: the engine has them. When the provider goes away in the middle, the last
//! item is a `CONNECTION` failure.

use super::{classify::Classifier, stamp::Stamp};
use crate::{
    balance::Failure,
    wire::{ChatEvent, Decoder, ReadFrames, ReadStream, StreamReader},
};
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// A streamed answer. Dropping it ends the upstream request.
pub type ChatStream = BoxStream<'static, Result<ChatEvent, Failure>>;

/// How long to wait for the end of the body after the last frame. Read to its end, a connection can serve again.
const END_WAIT: Duration = Duration::from_millis(50);

/// How long to wait for the usage behind the last finish reason.
const USAGE_WAIT: Duration = Duration::from_secs(1);

/// Reads chat events from a body's chunks, cut anywhere, and notes on them what only the driver knows.
pub(super) fn chat_events<S, B, D, F>(
    body: S,
    reader: StreamReader<D, F>,
    classifier: Classifier,
    stamp: Stamp,
) -> ChatStream
where
    S: Stream<Item = Result<B, Failure>> + Send + 'static,
    B: AsRef<[u8]> + Send + 'static,
    D: Decoder,
    F: ReadFrames,
{
    let mut begun = false;
    let noted = move |event: ChatEvent| {
        let mut event = stamp.event(event);
        if event.is_content() && !std::mem::replace(&mut begun, true) && !stamp.request_id().is_empty() {
            stamp.request_id().clone_into(&mut event.rare().head.request_id);
        }
        event
    };
    events(body, reader, classifier, noted)
}

/// Reads what comes of a body's chunks, cut anywhere.
pub(super) fn read_stream<S, B, R>(
    body: S,
    reader: R,
    classifier: Classifier,
) -> BoxStream<'static, Result<R::Said, Failure>>
where
    S: Stream<Item = Result<B, Failure>> + Send + 'static,
    B: AsRef<[u8]> + Send + 'static,
    R: ReadStream,
{
    events(body, reader, classifier, |said| said)
}

fn events<S, B, R, N>(
    body: S,
    reader: R,
    classifier: Classifier,
    mut noted: N,
) -> BoxStream<'static, Result<R::Said, Failure>>
where
    S: Stream<Item = Result<B, Failure>> + Send + 'static,
    B: AsRef<[u8]> + Send + 'static,
    R: ReadStream,
    N: FnMut(R::Said) -> R::Said + Send + 'static,
{
    // In a box, since each event would move it.
    let answer = Box::new(Answer { body: body.boxed(), reader, classifier, usage_by: None });
    stream::unfold(Some(answer), |answer| async {
        let mut answer = answer?;
        match answer.next().await? {
            Ok(event) => Some((Ok(event), Some(answer))),
            Err(failure) => Some((Err(failure), None)),
        }
    })
    .map(move |read| read.map(&mut noted))
    .boxed()
}

struct Answer<B, R> {
    body: BoxStream<'static, Result<B, Failure>>,
    reader: R,
    classifier: Classifier,
    /// Until when the usage is waited for, once every choice has ended.
    usage_by: Option<Instant>,
}

impl<B: AsRef<[u8]>, R: ReadStream> Answer<B, R> {
    async fn next(&mut self) -> Option<Result<R::Said, Failure>> {
        let read = loop {
            if let Some(read) = self.reader.next() {
                break read;
            }
            if self.reader.is_closed() {
                let rest = async { while let Some(Ok(_)) = self.body.next().await {} };
                let _ = timeout(END_WAIT, rest).await;
                return None;
            }
            let chunk = if self.reader.is_finished() {
                // Nothing but the usage can follow: neither silence nor a connection that breaks takes the answer back.
                let by = *self.usage_by.get_or_insert_with(|| Instant::now() + USAGE_WAIT);
                timeout_at(by, self.body.next()).await.ok().flatten().and_then(Result::ok)
            } else {
                match self.body.next().await {
                    Some(Err(failure)) => return Some(Err(failure)),
                    Some(Ok(chunk)) => Some(chunk),
                    None => None,
                }
            };
            match chunk {
                Some(chunk) => self.reader.push(chunk.as_ref()),
                None => self.reader.end(),
            }
        };
        Some(read.map_err(|error| self.classifier.unread(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{balance::ErrorClass, provider::fixtures::classifier, wire::openai::stream::Chunks};

    const CONTENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";

    async fn read(chunks: Vec<Result<Vec<u8>, Failure>>) -> Vec<Result<ChatEvent, Failure>> {
        let reader = StreamReader::of_events(Chunks::default());
        let stamp = Stamp::new("openai", &http::HeaderMap::new());
        chat_events(stream::iter(chunks), reader, classifier("openai"), stamp).collect().await
    }

    #[tokio::test]
    async fn a_stream_ends_after_its_first_failure() {
        let broken = Failure::new(ErrorClass::Connection, "broken");
        let items = read(vec![Ok(CONTENT.into()), Err(broken.clone()), Ok(CONTENT.into())]).await;
        assert_eq!((items.len(), items.last()), (2, Some(&Err(broken))));
        let items = read(vec![Ok(CONTENT.into())]).await;
        let early = Failure::new(ErrorClass::Connection, "the stream ended early");
        assert_eq!((items.len(), items.last()), (2, Some(&Err(early))));
        let items = read(vec![Ok(b"data: {\xff\n\n".to_vec()), Ok(CONTENT.into())]).await;
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].as_ref().unwrap_err().class, ErrorClass::ServerError);
    }

    #[tokio::test]
    async fn nothing_after_the_providers_end_is_read() {
        let late = b"data: [DONE]\n\ndata: {\"error\":\"late\"}\n\n".to_vec();
        let broken = Failure::new(ErrorClass::Connection, "broken");
        let items = read(vec![Ok(CONTENT.into()), Ok(late), Err(broken)]).await;
        assert_eq!((items.len(), items[0].is_ok()), (2, true));
        // The answer has no finish reason to end with.
        assert_eq!(items[1], Ok(ChatEvent::default()));
    }

    #[tokio::test]
    async fn an_error_frame_is_classified_without_its_secrets() {
        let table = [
            "data: {\"error\":{\"message\":\"slow down, hunter2hunter2\",\"code\":429}}\n\ndata: {\"choices\":[]}\n\n",
            "event: error\ndata: {\"message\":\"slow down, hunter2hunter2\",\"code\":429}\n\n",
        ];
        for text in table {
            let items = read(vec![Ok(text.into())]).await;
            let [Err(failure)] = items.as_slice() else { panic!("{items:?}") };
            assert_eq!((failure.class, failure.http_status), (ErrorClass::RateLimited, Some(429)));
            assert_eq!(failure.message, "slow down, [removed]");
        }
    }
}
