//! What Anthropic's streamed events mean (API reference, "Streaming messages"). Pure. Events of kinds that are not
//! known are signs of life, as are pings: more kinds may come, says the page.

use super::answer::{Answer, Usage, citations, finish_reason, message, reasoning, text, tool_call};
use crate::wire::{
    ChatEvent, Part, ReadError, ReadFrames, Reasoning, Said, ToolCall,
    answer::{check_error, keep_counts, no_answer},
    lenient::{Number, fields, object},
};
use serde_json::{Map, Value};

/// Reads one stream's events, in their order.
#[derive(Default)]
pub struct Events {
    usage: Usage,
    /// How many tool calls have begun.
    calls: i32,
    /// The block that is open. One block ends before the next begins.
    open: Option<Open>,
}

struct Open {
    block: i32,
    what: Block,
}

/// What an open block is, where its deltas do not say all.
enum Block {
    /// A tool call, and whether no argument has come.
    Call(i32, bool),
    /// A block that only Anthropic knows, and its input so far.
    Opaque(Map<String, Value>, String),
}

impl ReadFrames for Events {
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        let event: Event = object(data)?;
        check_error(&event.error)?;
        let block = event.index.index().unwrap_or_default();
        let out = match event.kind.as_str() {
            "message_start" => self.begin(event.message)?,
            "content_block_start" => self.start(block, event.content_block),
            "content_block_delta" => self.delta(block, &event.delta),
            "content_block_stop" => self.stop(block),
            "message_delta" => {
                self.usage.update(event.usage.map(|usage| *usage).unwrap_or_default());
                let mut out = ChatEvent {
                    finish_reason: finish_reason(text(&event.delta, "stop_reason")),
                    usage: Some(self.usage.total()),
                    ..ChatEvent::default()
                };
                let sequence = text(&event.delta, "stop_sequence");
                if !sequence.is_empty() {
                    out.rare().stop_sequence = sequence;
                }
                let mut extra = event.rest;
                keep_counts(&mut extra, "usage", std::mem::take(&mut self.usage.rest));
                if let Value::Object(delta) = event.delta {
                    let own = ["stop_reason", "stop_sequence"];
                    extra.extend(
                        delta
                            .into_iter()
                            .filter(|(name, value)| !own.contains(&name.as_str()) && !value.is_null()),
                    );
                }
                if !extra.is_empty() {
                    out.rare().extra = extra;
                }
                out
            }
            "message_stop" => return Ok(Said::End),
            "" => return Err(no_answer(data)),
            _ => ChatEvent::default(),
        };
        Ok(Said::Events(vec![out]))
    }

    fn whole(&mut self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        Ok(message(body)?.into_events())
    }
}

impl Events {
    /// What the message has at its start. With tools that code has called it may be all of it
    /// (<https://platform.claude.com/docs/en/agents-and-tools/tool-use/programmatic-tool-calling>).
    fn begin(&mut self, message: Option<Box<Answer>>) -> Result<ChatEvent, ReadError> {
        let Some(mut message) = message else { return Ok(ChatEvent::default()) };
        let head = message.head();
        let mut out = ChatEvent::from(message.choice()?);
        self.calls = i32::try_from(out.tool_calls.len()).unwrap_or(i32::MAX);
        out.rare().head = head;
        out.rare().extra = message.rest;
        self.usage.update(message.usage.map(|usage| *usage).unwrap_or_default());
        out.usage = Some(self.usage.total());
        Ok(out)
    }

    fn start(&mut self, block: i32, start: Value) -> ChatEvent {
        self.open = None;
        match start.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text" => ChatEvent { content: text(&start, "text"), ..ChatEvent::default() },
            "thinking" | "redacted_thinking" => think(reasoning(&start, block)),
            "tool_use" => {
                let mut call = tool_call(start, self.calls);
                // A place holder: the arguments come in fragments.
                if call.arguments == "{}" {
                    call.arguments.clear();
                }
                self.open = Some(Open { block, what: Block::Call(self.calls, call.arguments.is_empty()) });
                self.calls = self.calls.saturating_add(1);
                ChatEvent { tool_calls: vec![call], ..ChatEvent::default() }
            }
            _ => {
                if let Value::Object(fields) = start {
                    self.open = Some(Open { block, what: Block::Opaque(fields, String::new()) });
                }
                ChatEvent::default()
            }
        }
    }

    fn delta(&mut self, block: i32, delta: &Value) -> ChatEvent {
        match delta.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text_delta" => ChatEvent { content: text(delta, "text"), ..ChatEvent::default() },
            "thinking_delta" => {
                think(Reasoning { text: text(delta, "thinking"), index: block, ..Reasoning::default() })
            }
            "signature_delta" => {
                think(Reasoning { signature: text(delta, "signature"), index: block, ..Reasoning::default() })
            }
            "citations_delta" => {
                let mut out = ChatEvent::default();
                out.rare().annotations =
                    citations(vec![delta.get("citation").cloned().unwrap_or_default()].into());
                out
            }
            "input_json_delta" => {
                let piece = text(delta, "partial_json");
                match self.open.as_mut().filter(|open| open.block == block && !piece.is_empty()) {
                    Some(Open { what: Block::Call(call, empty), .. }) => {
                        *empty = false;
                        fragment(*call, piece)
                    }
                    Some(Open { what: Block::Opaque(_, input), .. }) => {
                        input.push_str(&piece);
                        ChatEvent::default()
                    }
                    None => ChatEvent::default(),
                }
            }
            // A block that only Anthropic knows grows by texts under its own names, such as a summary that was compacted
            // (<https://platform.claude.com/docs/en/build-with-claude/compaction>).
            _ => {
                if let Some(Open { what: Block::Opaque(own, _), .. }) =
                    self.open.as_mut().filter(|open| open.block == block)
                {
                    for (name, gain) in
                        delta.as_object().into_iter().flatten().filter(|(name, _)| *name != "type")
                    {
                        match (own.get_mut(name), gain) {
                            (Some(Value::String(text)), Value::String(more)) => text.push_str(more),
                            _ => drop(own.insert(name.clone(), gain.clone())),
                        }
                    }
                }
                ChatEvent::default()
            }
        }
    }

    /// A call without arguments has the same arguments as in a whole answer.
    fn stop(&mut self, block: i32) -> ChatEvent {
        match self.open.take_if(|open| open.block == block).map(|open| open.what) {
            Some(Block::Call(call, true)) => fragment(call, "{}".into()),
            Some(Block::Opaque(mut fields, input)) => {
                if let Ok(input) = serde_json::from_str::<Value>(&input) {
                    fields.insert("input".into(), input);
                }
                let mut out = ChatEvent::default();
                out.rare().parts.push(Part::opaque(fields));
                out
            }
            Some(Block::Call(_, false)) | None => ChatEvent::default(),
        }
    }
}

fn think(piece: Reasoning) -> ChatEvent {
    if piece.text.is_empty() && piece.signature.is_empty() && piece.data.is_empty() {
        return ChatEvent::default();
    }
    ChatEvent { reasoning_content: piece.text.clone(), reasoning: vec![piece], ..ChatEvent::default() }
}

fn fragment(index: i32, arguments: String) -> ChatEvent {
    ChatEvent {
        tool_calls: vec![ToolCall { index, arguments, ..ToolCall::default() }],
        ..ChatEvent::default()
    }
}

fields! {
    struct Event {
        kind: String = "type",
        error: Value,
        index: Number,
        message: Option<Box<Answer>>,
        content_block: Value,
        delta: Value,
        usage: Option<Box<Usage>>,
    }
    ignores []
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        AnswerHead, TokenUsage,
        fixtures::{call, end_of, fails, reported, same_wherever_cut, thought, words},
    };
    use serde_json::json;

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
        let usage = TokenUsage { prompt: 12, completion: 4, total: 16, cached: 2, ..TokenUsage::default() };
        let mut first = thought("hm");
        first.rare().head =
            AnswerHead { id: "msg_1".into(), model: "claude-x".into(), ..AnswerHead::default() };
        let signature = think(Reasoning { signature: "c2ln".into(), ..Reasoning::default() });
        let events = [
            first,
            signature,
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

    fn event(data: &Value) -> String {
        format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
    }

    #[test]
    fn a_zero_never_overwrites_a_count() {
        let known = json!({"input_tokens": 15, "cache_read_input_tokens": 100, "output_tokens": 1});
        let zero = json!({"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 7});
        for (first, last) in [(&known, &zero), (&zero, &known)] {
            let last = json!({"input_tokens": last["input_tokens"], "cache_read_input_tokens": last["cache_read_input_tokens"], "output_tokens": 7});
            let text = [
                json!({"type": "message_start", "message": {"id": "m", "usage": first}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last}),
                json!({"type": "message_stop"}),
            ];
            let text: String = text.iter().map(event).collect();
            let usage = read_text(&text).pop().unwrap().unwrap().usage.unwrap();
            assert_eq!((usage.prompt, usage.cached, usage.completion, usage.total), (115, 100, 7, 122));
        }
    }

    #[test]
    fn blocks_without_a_word_are_whole_parts() {
        let text = [
            json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"q\":"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "x"}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "content_block_delta", "index": 2,
                "delta": {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "c"}}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"}}),
            json!({"type": "message_stop"}),
        ];
        let text: String = text.iter().map(event).collect();
        let items: Vec<_> =
            read_text(&format!("{text}data: [DONE]\n\n")).into_iter().map(Result::unwrap).collect();
        let part = &items[0].rare.as_ref().unwrap().parts[0];
        let expected =
            json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"q": 1}});
        assert_eq!(Value::from(part.extra.fields.clone()), expected);
        assert_eq!((items[1].reasoning[0].data.as_str(), items[1].reasoning[0].index), ("x", 1));
        assert_eq!(items[2].rare.as_ref().unwrap().annotations[0].text, "c");
        assert_eq!(items[3].rare.as_ref().unwrap().stop_sequence, "END");
    }

    /// After a stream that Anthropic sent when code had called its tools (programmatic tool calling).
    #[test]
    fn a_message_may_be_whole_at_its_start() {
        let result =
            json!({"type": "code_execution_tool_result", "tool_use_id": "s1", "content": {"return_code": 0}});
        let text = [
            json!({"type": "message_start", "message": {
                "id": "m", "model": "x", "container": {"id": "c"}, "stop_reason": "tool_use", "stop_details": null,
                "content": [result, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}}],
                "usage": {"input_tokens": 0, "output_tokens": 0}}}),
            json!({"type": "message_stop"}),
        ];
        let text: String = text.iter().map(event).collect();
        let items: Vec<_> = read_text(&text).into_iter().map(Result::unwrap).collect();
        let (call, rare) = (&items[0].tool_calls[0], items[0].rare.as_ref().unwrap());
        assert_eq!((call.id.as_str(), call.arguments.as_str()), ("t1", "{\"a\":1}"));
        assert_eq!((rare.head.id.as_str(), &rare.extra["container"]), ("m", &json!({"id": "c"})));
        assert_eq!(Value::from(rare.parts[0].extra.fields.clone()), result);
        assert_eq!(items[1].finish_reason, "tool_calls");
        // One that says nothing at all is no success.
        let nothing = [
            event(&json!({"type": "message_start", "message": {"id": "m", "content": [], "usage": {}}})),
            event(&json!({"type": "message_stop"})),
        ];
        assert_eq!(end_of(Events::default(), &nothing.concat()), Some(ReadError::NoMessage));
    }

    /// Its own page for each: compaction, code execution (`container`), refusals (`stop_details`), and the web search tool.
    #[test]
    fn what_no_field_names_is_handed_on() {
        let text = [
            json!({"type": "message_start", "message": {"id": "m", "usage": {
                "input_tokens": 1, "inference_geo": "global", "cache_creation": {"ephemeral_1h_input_tokens": 0}}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "compaction", "content": null}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": "in "}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": "short"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "usage": {"output_tokens": 2, "server_tool_use": {"web_search_requests": 1}},
                "delta": {"stop_reason": "refusal", "stop_sequence": null, "container": {"id": "c"},
                    "stop_details": {"type": "refusal", "category": "x"}}}),
            json!({"type": "message_stop"}),
        ];
        let text: String = text.iter().map(event).collect();
        let items: Vec<_> = read_text(&text).into_iter().map(Result::unwrap).collect();
        let part = &items[0].rare.as_ref().unwrap().parts[0];
        assert_eq!(
            Value::from(part.extra.fields.clone()),
            json!({"type": "compaction", "content": "in short"})
        );
        let extra: serde_json::Map<_, _> = items
            .iter()
            .filter_map(|event| event.rare.as_ref())
            .flat_map(|rare| rare.extra.clone())
            .collect();
        let expected = json!({
            "container": {"id": "c"}, "stop_details": {"type": "refusal", "category": "x"},
            "usage": {"inference_geo": "global", "server_tool_use": {"web_search_requests": 1}},
        });
        assert_eq!(Value::from(extra), expected);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
            proptest::prop_assert!(fails(Events::default(), &chunks));
        }
    }
}
