//! Turns the bytes of a streamed answer into [`ChatEvent`]s: server-sent events (WHATWG HTML, section 9.2) whose data
//! each vendor reads in its own way ([`Frames`]).
//!
//! Invariants: memory is bounded, the stream ends after its first failure, and it never ends well before the provider
//! has said that it is done. No timeouts: the engine has them. When the provider goes away in the middle, the last
//! item is a `CONNECTION` failure.

use super::{
    ChatEvent, ChatStream, UpstreamClient, classify,
    client::{self, Response},
    redact::Redactor,
};
use crate::{
    balance::{ErrorClass, Failure},
    wire::{
        answer,
        sse::{Event, Parser, Unreadable},
    },
};
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use http::{HeaderValue, header};
use std::{collections::VecDeque, time::Duration};

/// Bound of one event, in bytes; what the parser may hold.
const MAX_EVENT: usize = 8 << 20;

/// How long to wait for the end of the body after the last frame. Read to its end, a connection can serve again.
const END_WAIT: Duration = Duration::from_millis(50);

/// What one frame says.
pub(crate) enum Frame {
    /// What is new. A frame that says nothing is an empty event, since it is a sign of life all the same.
    Events(Vec<ChatEvent>),
    /// The provider is done.
    End,
}

/// How a vendor's frames are read, one after the other. Errors under `event: error` never get here.
pub(crate) trait Frames: Send + 'static {
    /// Reads the data of the next frame, never empty.
    fn read(&mut self, data: &[u8], redactor: &Redactor) -> Result<Frame, Failure>;

    /// Reads JSON that came in place of a stream.
    fn whole(self, body: &[u8], redactor: &Redactor) -> Result<Vec<ChatEvent>, Failure>;
}

/// Reads chat events from what a provider answers to the request for a stream.
pub(super) async fn answered(
    client: &UpstreamClient,
    response: Response,
    redactor: Redactor,
    frames: impl Frames,
) -> Result<ChatStream, Failure> {
    if is_json(&response) {
        let events = frames.whole(&client.read(response).await?, &redactor)?;
        return Ok(stream::iter(events.into_iter().map(Ok)).boxed());
    }
    Ok(chat_events(client::body(response), redactor, frames))
}

/// Whether the provider answers with JSON instead of a stream: an error, or a server that answers as a whole whatever
/// is asked.
fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| value.starts_with(b"application/json"))
}

/// Reads chat events from a body's chunks, cut anywhere.
pub(crate) fn chat_events<S, B>(body: S, redactor: Redactor, frames: impl Frames) -> ChatStream
where
    S: Stream<Item = Result<B, Failure>> + Send + 'static,
    B: AsRef<[u8]> + Send + 'static,
{
    let parser = Parser::new(MAX_EVENT);
    let reader = Reader {
        body: body.boxed(),
        parser,
        unreadable: None,
        ready: VecDeque::new(),
        finished: false,
        redactor,
        frames,
    };
    stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await? {
            Ok(event) => Some((Ok(event), Some(reader))),
            Err(failure) => Some((Err(failure), None)),
        }
    })
    .boxed()
}

struct Reader<B, R> {
    body: BoxStream<'static, Result<B, Failure>>,
    parser: Parser,
    unreadable: Option<Unreadable>,
    /// Chat events of the last event that are not yet taken.
    ready: VecDeque<ChatEvent>,
    /// Whether a finish reason has come.
    finished: bool,
    redactor: Redactor,
    frames: R,
}

impl<B: AsRef<[u8]>, R: Frames> Reader<B, R> {
    async fn next(&mut self) -> Option<Result<ChatEvent, Failure>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let event = match self.event().await {
                Some(Ok(event)) => event,
                Some(Err(failure)) => return Some(Err(failure)),
                None if self.finished => return None,
                None => return Some(Err(Failure::new(ErrorClass::Connection, "the stream ended early"))),
            };
            let data = event.data.trim();
            if data.is_empty() {
                continue;
            }
            if event.name == "error" {
                let error = serde_json::from_str(data).unwrap_or_else(|_| data.into());
                return Some(Err(classify::of_value(&error, &self.redactor)));
            }
            match self.frames.read(data.as_bytes(), &self.redactor) {
                Ok(Frame::Events(events)) => {
                    self.finished |= events.iter().any(|event| !event.finish_reason.is_empty());
                    self.ready.extend(events);
                }
                Ok(Frame::End) => {
                    let rest = async { while let Some(Ok(_)) = self.body.next().await {} };
                    let _ = tokio::time::timeout(END_WAIT, rest).await;
                    return None;
                }
                Err(failure) => return Some(Err(failure)),
            }
        }
    }

    async fn event(&mut self) -> Option<Result<Event, Failure>> {
        loop {
            if let Some(event) = self.parser.next() {
                return Some(Ok(event));
            }
            // Behind the events before it, wherever the stream was cut.
            if let Some(reason) = self.unreadable {
                return Some(Err(match reason {
                    Unreadable::NotText => answer::malformed(),
                    Unreadable::TooLarge => {
                        Failure::new(ErrorClass::ServerError, "an event of the stream is too large")
                    }
                }));
            }
            match self.body.next().await? {
                Ok(chunk) => self.unreadable = self.parser.push(chunk.as_ref()).err(),
                Err(failure) => return Some(Err(failure)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        TokenUsage,
        fixtures::{call, end_of, fails, items, redactor, same_wherever_cut},
        openai::answer::Chunks,
    };
    use std::future;

    /// Comments, CR LF and CR line ends, several lines of data, text of several bytes a character, and both ends.
    const FIXTURE: &str = concat!(
        ": ping\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n",
        "event: message\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"Grüße 🌍\"}}],\"usage\":null}\n\n",
        ": ping\r\r",
        "data: {\"choices\":[{\"delta\":\ndata: {\"reasoning_content\":\"hm\"}}]}\n\n",
        "id: 7\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c\",\"type\":\"function\",",
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\n",
        "data: [DONE]\n\n",
    );

    async fn read(chunks: Vec<Vec<u8>>) -> Vec<Result<ChatEvent, Failure>> {
        items(Chunks, chunks).await
    }

    async fn read_text(text: &str) -> Vec<Result<ChatEvent, Failure>> {
        read(vec![text.into()]).await
    }

    fn expected() -> Vec<Result<ChatEvent, Failure>> {
        let usage = TokenUsage { prompt: 3, completion: 4, total: 7, ..TokenUsage::default() };
        vec![
            Ok(ChatEvent::default()),
            Ok(ChatEvent { content: "Grüße 🌍".into(), ..ChatEvent::default() }),
            Ok(ChatEvent { reasoning: "hm".into(), ..ChatEvent::default() }),
            Ok(call(1, "c", "f", "{")),
            Ok(ChatEvent { finish_reason: "stop".into(), ..ChatEvent::default() }),
            Ok(ChatEvent { usage: Some(usage), ..ChatEvent::default() }),
        ]
    }

    #[tokio::test]
    async fn a_stream_means_the_same_wherever_it_is_cut() {
        same_wherever_cut(FIXTURE, read, &expected()).await;
    }

    #[tokio::test]
    async fn nothing_after_done_is_read() {
        let text = format!("{FIXTURE}data: {{\"error\":\"late\"}}\n\n");
        assert_eq!(read_text(&text).await, expected());
    }

    #[tokio::test]
    async fn ends_are_told_apart() {
        let finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
        let content = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
        let class = async |text: &str| end_of(Chunks, text).await;

        assert_eq!(class(finish).await, None);
        assert_eq!(class(&format!("{content}data: [DONE]\n\n")).await, None);
        assert_eq!(class(content).await, Some(ErrorClass::Connection));
        assert_eq!(class("").await, Some(ErrorClass::Connection));
        assert_eq!(class("not an event stream\n\n").await, Some(ErrorClass::Connection));
        assert_eq!(class("data: {\"choices\":\n\n").await, Some(ErrorClass::ServerError));
        let not_text = read(vec![b"data: \xff\n\n".to_vec()]).await;
        assert_eq!(not_text[0].as_ref().unwrap_err().class, ErrorClass::ServerError);
        let broken = Failure::new(ErrorClass::Connection, "broken");
        let body = stream::iter([Ok(content.to_owned()), Err(broken.clone())]);
        let read: Vec<_> = chat_events(body, redactor(), Chunks).collect().await;
        assert_eq!(read.last(), Some(&Err(broken)));
    }

    #[tokio::test]
    async fn an_error_frame_is_classified_and_ends_the_stream() {
        let table = [
            "data: {\"error\":{\"message\":\"slow down, hunter2hunter2\",\"code\":429}}\n\ndata: {\"choices\":[]}\n\n",
            "event: error\ndata: {\"message\":\"slow down, hunter2hunter2\",\"code\":429}\n\n",
        ];
        for text in table {
            let items = read_text(text).await;
            let [Err(failure)] = items.as_slice() else { panic!("{items:?}") };
            assert_eq!(failure.class, ErrorClass::RateLimited);
            assert_eq!(failure.message, "slow down, [removed]");
        }
        let items = read_text("event: error\ndata: it broke\n\n").await;
        assert_eq!(items[0].as_ref().unwrap_err().message, "it broke");
    }

    #[tokio::test]
    async fn an_endless_event_is_refused() {
        let chunk = vec![b'x'; 1 << 20];
        let body = stream::once(future::ready(Ok(b"data: ".to_vec())))
            .chain(stream::repeat_with(move || Ok(chunk.clone())));
        let items: Vec<_> = chat_events(body, redactor(), Chunks).collect().await;
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].as_ref().unwrap_err().class, ErrorClass::ServerError);
    }

    #[tokio::test]
    async fn many_events_in_one_stream_are_no_endless_event() {
        let frame =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(1 << 20));
        let mut chunks: Vec<_> = (0..10).map(|_| frame.clone().into_bytes()).collect();
        chunks.push(b"data: [DONE]\n\n".to_vec());
        assert_eq!(read(chunks).await.len(), 10);
    }

    #[tokio::test]
    async fn a_byte_order_mark_does_no_harm() {
        let mut bytes = b"\xef\xbb\xbf\n".to_vec();
        bytes.extend_from_slice(FIXTURE.as_bytes());
        assert_eq!(read(vec![bytes]).await, expected());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Chunks, chunks));
        }
    }
}
