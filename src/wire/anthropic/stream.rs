//! What Anthropic's streamed events mean (API reference, "Streaming messages"). Pure. Events of kinds that are not
//! known are signs of life, as are pings: more kinds may come, says the page.

use super::answer::{Block, Usage, finish_reason, message};
use crate::wire::{
    ChatEvent, ReadError, ReadFrames, Said, ToolCall,
    answer::{check_error, parse},
};
use serde::Deserialize;
use serde_json::Value;

/// Reads one stream's events, in their order.
#[derive(Default)]
pub struct Events {
    usage: Usage,
    /// How many tool calls have begun.
    calls: i32,
    /// The tool call whose block is open. One block ends before the next begins.
    open: Option<Open>,
}

struct Open {
    block: u64,
    call: i32,
    /// Whether no argument has come.
    empty: bool,
}

impl ReadFrames for Events {
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        let event: Event = parse(data)?;
        check_error(event.error)?;
        let block = event.index.unwrap_or_default();
        let out = match event.kind.as_str() {
            "message_start" => {
                self.usage.update(event.message.and_then(|message| message.usage).unwrap_or_default());
                ChatEvent::default()
            }
            "content_block_start" => {
                event.content_block.map(|start| self.start(block, start)).unwrap_or_default()
            }
            "content_block_delta" => self.delta(block, event.delta.unwrap_or_default()),
            "content_block_stop" => self.stop(block),
            "message_delta" => {
                self.usage.update(event.usage.unwrap_or_default());
                match event.delta.and_then(|delta| delta.stop_reason) {
                    Some(reason) => ChatEvent {
                        finish_reason: finish_reason(reason),
                        usage: Some(self.usage.total()),
                        ..ChatEvent::default()
                    },
                    None => ChatEvent::default(),
                }
            }
            "message_stop" => return Ok(Said::End),
            _ => ChatEvent::default(),
        };
        Ok(Said::Events(vec![out]))
    }

    fn whole(self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        Ok(vec![message(body)?.into()])
    }
}

impl Events {
    fn start(&mut self, block: u64, start: Block) -> ChatEvent {
        self.open = None;
        match start.kind.as_str() {
            "text" => ChatEvent { content: start.text.unwrap_or_default(), ..ChatEvent::default() },
            "thinking" => ChatEvent { reasoning: start.thinking.unwrap_or_default(), ..ChatEvent::default() },
            "tool_use" => {
                let mut call = start.tool_call(self.calls);
                // A place holder: the arguments come in fragments.
                if call.arguments == "{}" {
                    call.arguments.clear();
                }
                self.open = Some(Open { block, call: self.calls, empty: call.arguments.is_empty() });
                self.calls = self.calls.saturating_add(1);
                ChatEvent { tool_calls: vec![call], ..ChatEvent::default() }
            }
            _ => ChatEvent::default(),
        }
    }

    fn delta(&mut self, block: u64, delta: Delta) -> ChatEvent {
        match delta.kind.as_deref().unwrap_or_default() {
            "text_delta" => ChatEvent { content: delta.text.unwrap_or_default(), ..ChatEvent::default() },
            "thinking_delta" => {
                ChatEvent { reasoning: delta.thinking.unwrap_or_default(), ..ChatEvent::default() }
            }
            "input_json_delta" => {
                let text = delta.partial_json.unwrap_or_default();
                match self.open.as_mut().filter(|open| open.block == block && !text.is_empty()) {
                    Some(open) => {
                        open.empty = false;
                        fragment(open.call, text)
                    }
                    // Nothing yet, or the input of one of Anthropic's own tools.
                    None => ChatEvent::default(),
                }
            }
            _ => ChatEvent::default(),
        }
    }

    /// A call without arguments has the same arguments as in a whole answer.
    fn stop(&mut self, block: u64) -> ChatEvent {
        match self.open.take_if(|open| open.block == block) {
            Some(Open { call, empty: true, .. }) => fragment(call, "{}".into()),
            _ => ChatEvent::default(),
        }
    }
}

fn fragment(index: i32, arguments: String) -> ChatEvent {
    ChatEvent {
        tool_calls: vec![ToolCall { index, arguments, ..ToolCall::default() }],
        ..ChatEvent::default()
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    error: Option<Value>,
    index: Option<u64>,
    message: Option<Start>,
    content_block: Option<Block>,
    delta: Option<Delta>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Start {
    usage: Option<Usage>,
}

/// What a block or the message gains.
#[derive(Default, Deserialize)]
struct Delta {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        TokenUsage,
        fixtures::{call, end_of, fails, reported, same_wherever_cut, words},
    };

    /// Thinking, text, two tool calls of which one has no arguments, a ping, an event from the future, and usage that
    /// comes in two pieces.
    const FIXTURE: &str = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",",
        "\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,",
        "\"usage\":{\"input_tokens\":10,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":2,",
        "\"output_tokens\":1}}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,",
        "\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,",
        "\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,",
        "\"delta\":{\"type\":\"signature_delta\",\"signature\":\"c2ln\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,",
        "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,",
        "\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße 🌍\"}}\n\n",
        "event: content_block_stop\r\ndata: {\"type\":\"content_block_stop\",\"index\":1}\r\n\r\n",
        "event: tomorrow\ndata: {\"type\":\"tomorrow\",\"index\":\n",
        "data: 9}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,",
        "\"content_block\":{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{}}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,",
        "\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,",
        "\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,",
        "\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"1}\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":3,",
        "\"content_block\":{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"g\",\"input\":{}}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":3}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",",
        "\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":4}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    fn read(chunks: &[&[u8]]) -> Vec<Result<ChatEvent, ReadError>> {
        words(Events::default(), chunks)
    }

    fn read_text(text: &str) -> Vec<Result<ChatEvent, ReadError>> {
        read(&[text.as_bytes()])
    }

    fn expected() -> Vec<Result<ChatEvent, ReadError>> {
        let usage = TokenUsage { prompt: 12, completion: 4, total: 16, cached: 2, reasoning: 0 };
        let events = [
            ChatEvent { reasoning: "hm".into(), ..ChatEvent::default() },
            ChatEvent { content: "Grüße 🌍".into(), ..ChatEvent::default() },
            call(0, "t1", "f", ""),
            fragment(0, "{\"a\":".into()),
            fragment(0, "1}".into()),
            call(1, "t2", "g", ""),
            fragment(1, "{}".into()),
            ChatEvent { finish_reason: "tool_calls".into(), usage: Some(usage), ..ChatEvent::default() },
        ];
        events.into_iter().map(Ok).collect()
    }

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut() {
        same_wherever_cut(FIXTURE, read, &expected());
    }

    #[test]
    fn ends_are_told_apart() {
        let end = |text: &str| end_of(Events::default(), text);
        let (finished, _) = FIXTURE.split_once("event: message_stop").unwrap();
        let (unfinished, _) = FIXTURE.split_once("event: message_delta").unwrap();
        assert_eq!(end(finished), None);
        assert_eq!(end(unfinished), Some(ReadError::EndedEarly));
        assert_eq!(end(""), Some(ReadError::EndedEarly));
        assert_eq!(end("data: {\"type\":\n\n"), Some(ReadError::MALFORMED));
        assert_eq!(end("data: {\"choices\":[]}\n\n"), Some(ReadError::MALFORMED));
        assert_eq!(end(&format!("{FIXTURE}data: nothing after the end is read\n\n")), None);
    }

    #[test]
    fn an_error_in_the_stream_ends_it() {
        let data = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}";
        for name in ["event: error\n", ""] {
            let mut items = read_text(&format!("{name}data: {data}\n\n{FIXTURE}"));
            let error = reported(items.pop().unwrap());
            assert_eq!((items.len(), error), (0, ("overloaded_error".into(), "no".into())));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Events::default(), &chunks));
        }
    }
}
