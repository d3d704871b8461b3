//! What the chunks of a streamed chat completion mean (OpenAI API reference, "Chat completion chunk":
//! <https://platform.openai.com/docs/api-reference/chat-streaming>). The last frame is `[DONE]`.

use super::answer::{Choice, Completion, calls, completion, text};
use crate::wire::{
    ChatEvent, ReadError, ReadFrames, Said, TokenUsage,
    answer::{check_error, parse},
};

/// The chunks of a streamed chat completion.
pub struct Chunks;

impl ReadFrames for Chunks {
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        if data == b"[DONE]" { Ok(Said::End) } else { chunk(data).map(Said::Events) }
    }

    fn whole(self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        Ok(vec![completion(body)?.into()])
    }
}

/// Reads one chunk of a streamed chat completion: an event a choice; the last one carries the usage.
fn chunk(data: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
    let chunk: Completion = parse(data)?;
    check_error(chunk.error)?;
    let event = |choice: Choice| {
        let delta = choice.delta.unwrap_or_default();
        ChatEvent {
            index: choice.index.unwrap_or_default(),
            content: text(delta.content),
            reasoning: delta.reasoning_content.or(delta.reasoning).unwrap_or_default(),
            refusal: delta.refusal.unwrap_or_default(),
            tool_calls: calls(delta.tool_calls).collect(),
            finish_reason: choice.finish_reason.unwrap_or_default(),
            usage: None,
        }
    };
    let mut events: Vec<ChatEvent> = chunk.choices.into_iter().flatten().map(event).collect();
    // A chunk without choices is a sign of life all the same.
    if events.is_empty() {
        events.push(ChatEvent::default());
    }
    if let Some(last) = events.last_mut() {
        last.usage = chunk.usage.map(TokenUsage::from);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        StreamReader,
        fixtures::{call, end_of, fails, items, reported, same_wherever_cut},
    };
    use serde_json::json;

    #[test]
    fn choices_of_one_chunk_are_events_of_their_own() {
        let data = json!({
            "choices": [
                {"index": 0, "delta": {"content": "a"}, "finish_reason": ""},
                {"index": 1, "delta": {"refusal": "b"}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        });
        let events = chunk(data.to_string().as_bytes()).unwrap();
        let usage = TokenUsage { prompt: 1, completion: 1, total: 2, ..TokenUsage::default() };
        let expected = [
            ChatEvent { content: "a".into(), ..ChatEvent::default() },
            ChatEvent {
                index: 1,
                refusal: "b".into(),
                finish_reason: "stop".into(),
                usage: Some(usage),
                ..ChatEvent::default()
            },
        ];
        assert_eq!(events, expected);
        let empty = chunk(b"{\"choices\":[],\"prompt_filter_results\":[]}").unwrap();
        assert_eq!(empty, [ChatEvent::default()]);
        assert!(!empty[0].is_content());
    }

    #[test]
    fn an_error_beside_choices_counts() {
        let data = json!({
            "error": {"message": "m", "code": 429},
            "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
        });
        assert_eq!(reported(chunk(data.to_string().as_bytes())), ("429".into(), "m".into()));
    }

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

    fn read(chunks: &[&[u8]]) -> Vec<Result<ChatEvent, ReadError>> {
        items(Chunks, chunks)
    }

    fn read_text(text: &str) -> Vec<Result<ChatEvent, ReadError>> {
        read(&[text.as_bytes()])
    }

    fn expected() -> Vec<Result<ChatEvent, ReadError>> {
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

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut() {
        same_wherever_cut(FIXTURE, read, &expected());
    }

    #[test]
    fn nothing_after_done_is_read() {
        let text = format!("{FIXTURE}data: {{\"error\":\"late\"}}\n\n");
        assert_eq!(read_text(&text), expected());
    }

    #[test]
    fn ends_are_told_apart() {
        let finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
        let content = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
        let end = |text: &str| end_of(Chunks, text);

        assert_eq!(end(finish), None);
        assert_eq!(end(&format!("{content}data: [DONE]\n\n")), None);
        assert_eq!(end(content), Some(ReadError::EndedEarly));
        assert_eq!(end(""), Some(ReadError::EndedEarly));
        assert_eq!(end("not an event stream\n\n"), Some(ReadError::EndedEarly));
        assert_eq!(end("data: {\"choices\":\n\n"), Some(ReadError::MALFORMED));
        assert_eq!(read(&[b"data: \xff\n\n"]), [Err(ReadError::MALFORMED)]);
    }

    #[test]
    fn an_error_frame_ends_the_stream() {
        let table = [
            "data: {\"error\":{\"message\":\"slow down\",\"code\":429}}\n\ndata: {\"choices\":[]}\n\n",
            "event: error\ndata: {\"message\":\"slow down\",\"code\":429}\n\n",
        ];
        for text in table {
            let mut items = read_text(text);
            let error = reported(items.pop().unwrap());
            assert_eq!((items.len(), error), (0, ("429".into(), "slow down".into())));
        }
        let mut items = read_text("event: error\ndata: it broke\n\n");
        assert_eq!(reported(items.pop().unwrap()).1, "it broke");
    }

    #[test]
    fn an_endless_event_is_refused() {
        let chunk = vec![b'x'; 1 << 20];
        let mut reader = StreamReader::of_events(Chunks);
        reader.push(b"data: ");
        let error = (0..100).find_map(|_| {
            reader.push(&chunk);
            reader.next()
        });
        assert_eq!((error, reader.next(), reader.is_closed()), (Some(Err(ReadError::TooLarge)), None, true));
    }

    #[test]
    fn many_events_in_one_stream_are_no_endless_event() {
        let frame =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(1 << 20));
        let mut chunks = vec![frame.as_bytes(); 10];
        chunks.push(b"data: [DONE]\n\n");
        assert_eq!(read(&chunks).len(), 10);
    }

    #[test]
    fn a_byte_order_mark_does_no_harm() {
        let mut bytes = b"\xef\xbb\xbf\n".to_vec();
        bytes.extend_from_slice(FIXTURE.as_bytes());
        assert_eq!(read(&[&bytes]), expected());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Chunks, &chunks));
        }
    }
}
