//! What comes back from Anthropic as a whole (API reference, "Create a Message"). Pure. Reads with tolerance: unknown
//! blocks are parts that only Anthropic knows, unknown fields are handed on, missing ones and nulls are empty. Invariant:
//! what is not the protocol is a failure, never an empty success.

use crate::wire::{
    Annotation, AnswerHead, ChatReply, Choice, Content, Keys, Message, Part, PartKind, ReadError, Reasoning,
    TokenUsage, ToolCall,
    answer::{check_error, keep_counts, no_answer},
    lenient::{Number, fields, object},
    mend,
};
use serde_json::Value;

/// Reads a whole message.
pub fn message(body: &[u8]) -> Result<ChatReply, ReadError> {
    let mut answer: Answer = object(body)?;
    check_error(&answer.error)?;
    if !answer.content.is_array() {
        return Err(if answer.usage.is_some() { ReadError::NoMessage } else { no_answer(body) });
    }
    let (head, choice) = (answer.head(), answer.choice()?);
    let usage = answer.usage.as_deref().map(Usage::total);
    keep_counts(&mut answer.rest, "usage", answer.usage.map(|usage| usage.rest()).unwrap_or_default());
    Ok(ChatReply { head, choice, more_choices: Vec::new(), usage, extra: answer.rest })
}

impl Answer {
    pub(super) fn head(&mut self) -> AnswerHead {
        let take = std::mem::take;
        let service_tier = self.usage.as_mut().map(|usage| take(&mut usage.service_tier));
        AnswerHead {
            id: take(&mut self.id),
            model: take(&mut self.model),
            service_tier: service_tier.unwrap_or_default(),
            ..AnswerHead::default()
        }
    }

    /// What it says, and how it ends.
    pub(super) fn choice(&mut self) -> Result<Choice, ReadError> {
        let mut spoken = Spoken::default();
        if let Value::Array(blocks) = self.content.take() {
            for (place, block) in (0..).zip(blocks) {
                spoken.block(place, block)?;
            }
        }
        Ok(Choice {
            message: spoken.message(),
            finish_reason: finish_reason(std::mem::take(&mut self.stop_reason)),
            stop_sequence: std::mem::take(&mut self.stop_sequence),
            ..Choice::default()
        })
    }
}

/// Reads a count of tokens (API reference, "Count tokens in a Message").
pub fn count(body: &[u8]) -> Result<u32, ReadError> {
    let answer: Count = object(body)?;
    check_error(&answer.error)?;
    answer.input_tokens.0.map(|_| answer.input_tokens.count()).ok_or_else(|| no_answer(body))
}

/// The contract's word for a stop reason (API reference, "Handling stop reasons"); one without a word is passed on.
pub(super) fn finish_reason(stop_reason: String) -> String {
    match stop_reason.as_str() {
        "end_turn" | "stop_sequence" => "stop".into(),
        "max_tokens" | "model_context_window_exceeded" => "length".into(),
        "tool_use" => "tool_calls".into(),
        "refusal" => "content_filter".into(),
        _ => stop_reason,
    }
}

fields! {
    struct Count {
        error: Value,
        input_tokens: Number,
    }
    ignores []
}

fields! {
    pub(super) struct Answer {
        error: Value,
        id: String,
        model: String,
        content: Value,
        stop_reason: String,
        stop_sequence: String,
        pub(super) usage: Option<Box<Usage>>,
    }
    ignores ["type", "role"]
}

/// What the blocks of a message say together.
#[derive(Default)]
struct Spoken {
    parts: Vec<Part>,
    reasoning: Vec<Reasoning>,
    /// Whether reasoning came behind a part: then it matters where the parts end.
    mixed: bool,
    calls: Vec<ToolCall>,
    annotations: Vec<Annotation>,
}

impl Spoken {
    fn block(&mut self, place: i32, mut block: Value) -> Result<(), ReadError> {
        let kind = block.get("type").and_then(Value::as_str).ok_or(ReadError::MALFORMED)?.to_owned();
        match kind.as_str() {
            "text" => {
                self.annotations
                    .extend(citations(block.get_mut("citations").map(Value::take).unwrap_or_default()));
                self.parts.push(PartKind::Text(mend::whole(text(&block, "text"))).into());
            }
            "thinking" | "redacted_thinking" => {
                self.mixed |= !self.parts.is_empty();
                self.reasoning.push(reasoning(&block, place));
            }
            "tool_use" => {
                let index = i32::try_from(self.calls.len()).unwrap_or(i32::MAX);
                self.calls.push(tool_call(block, index));
            }
            // One that the contract has no word for, such as those of Anthropic's own tools.
            _ => {
                if let Value::Object(fields) = block {
                    self.parts.push(Part::opaque(fields));
                }
            }
        }
        Ok(())
    }

    fn message(self) -> Message {
        let plain = self.parts.iter().all(|part| part.text().is_some()) && !self.mixed;
        let content = if plain {
            Content::Text(self.parts.iter().filter_map(Part::text).collect())
        } else {
            Content::Parts(self.parts)
        };
        Message {
            role: "assistant".into(),
            content,
            tool_calls: self.calls,
            reasoning_content: self.reasoning.iter().map(|piece| piece.text.as_str()).collect(),
            reasoning: self.reasoning,
            annotations: self.annotations,
            ..Message::default()
        }
    }
}

pub(super) fn text(block: &Value, name: &str) -> String {
    block.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Thinking with its signature, or thinking that only Anthropic can read ("Extended thinking").
pub(super) fn reasoning(block: &Value, index: i32) -> Reasoning {
    Reasoning {
        text: mend::whole(text(block, "thinking")),
        signature: text(block, "signature"),
        data: text(block, "data"),
        index,
        ..Reasoning::default()
    }
}

pub(super) fn tool_call(block: Value, index: i32) -> ToolCall {
    let Value::Object(mut fields) = block else { return ToolCall::default() };
    let mut take = |name: &str| match fields.shift_remove(name) {
        Some(Value::String(text)) => text,
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    take("type");
    let (id, name, arguments) = (take("id"), take("name"), take("input"));
    let arguments = if arguments.is_empty() { "{}".to_owned() } else { mend::whole(arguments) };
    ToolCall { index, id, kind: "function".into(), name, arguments, extra: fields.into() }
}

/// What a text refers to ("Citations", "Web search tool").
pub(super) fn citations(value: Value) -> Vec<Annotation> {
    let Value::Array(items) = value else { return Vec::new() };
    let annotation = |json: Value| {
        let title = [text(&json, "title"), text(&json, "document_title")];
        Annotation {
            kind: text(&json, "type"),
            url: text(&json, "url"),
            title: title.into_iter().find(|title| !title.is_empty()).unwrap_or_default(),
            text: text(&json, "cited_text"),
            json,
        }
    };
    items.into_iter().map(annotation).collect()
}

fields! {
    /// Counts of tokens. Those from the cache and those written to it are not part of `input_tokens` ("Prompt caching").
    #[derive(Clone)]
    pub(super) struct Usage {
        input: Number = "input_tokens",
        cache_creation: Number = "cache_creation_input_tokens",
        cache_read: Number = "cache_read_input_tokens",
        output: Number = "output_tokens",
        details: Option<Box<Details>> = "output_tokens_details",
        pub(super) service_tier: String,
    }
    ignores []
}

fields! {
    #[derive(Clone)]
    struct Details {
        thinking: Number = "thinking_tokens" | "reasoning_tokens",
    }
    ignores []
}

impl Usage {
    /// Takes the later counts: in a stream they are totals so far, and a zero says nothing.
    pub(super) fn update(&mut self, later: Self) {
        let pairs = [
            (&mut self.input, later.input),
            (&mut self.cache_creation, later.cache_creation),
            (&mut self.cache_read, later.cache_read),
            (&mut self.output, later.output),
        ];
        for (own, later) in pairs {
            if later.count() > 0 {
                *own = later;
            }
        }
        self.details = later.details.or(self.details.take());
        self.rest.extend(later.rest);
    }

    /// What it says beside the counts that have a field, such as the uses of Anthropic's own tools.
    pub(super) fn rest(self) -> Keys {
        self.rest
    }

    /// As the contract counts: `prompt` is all that went in, `cached` the part of it that came from the cache.
    pub(super) fn total(&self) -> TokenUsage {
        let (cached, cache_write) = (self.cache_read.count(), self.cache_creation.count());
        let prompt = self.input.count().saturating_add(cache_write).saturating_add(cached);
        let completion = self.output.count();
        TokenUsage {
            prompt,
            completion,
            total: prompt.saturating_add(completion),
            cached,
            cache_write,
            reasoning: self.details.as_ref().map(|details| details.thinking.count()).unwrap_or_default(),
            ..TokenUsage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::reported;
    use serde_json::json;

    fn read(body: Value) -> Result<ChatReply, ReadError> {
        message(body.to_string().as_bytes())
    }

    #[test]
    fn a_full_answer_is_read() {
        let server_tool =
            json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"q": 1}});
        let citation =
            json!({"type": "web_search_result_location", "url": "http://u", "title": "t", "cited_text": "c"});
        let reply = read(json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "a", "citations": null},
                server_tool,
                {"type": "text", "text": "b", "citations": [citation]},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"z": 1, "a": 2}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
            "stop_reason": "tool_use", "stop_sequence": null, "container": {"id": "c"},
            "usage": {
                "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30,
                "output_tokens": 5, "service_tier": "standard", "output_tokens_details": {"thinking_tokens": 2},
            },
        }))
        .unwrap();
        let call = |index, id: &str, name: &str, arguments: &str| ToolCall {
            index,
            id: id.into(),
            kind: "function".into(),
            name: name.into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        };
        let thinking = Reasoning { text: "hm".into(), signature: "s".into(), ..Reasoning::default() };
        let redacted = Reasoning { data: "x".into(), index: 1, ..Reasoning::default() };
        let message = Message {
            role: "assistant".into(),
            content: Content::Parts(vec![
                PartKind::Text("a".into()).into(),
                Part::opaque(server_tool.as_object().unwrap().clone()),
                PartKind::Text("b".into()).into(),
            ]),
            tool_calls: vec![call(0, "t1", "f", "{\"z\":1,\"a\":2}"), call(1, "t2", "g", "{}")],
            reasoning_content: "hm".into(),
            reasoning: vec![thinking, redacted],
            annotations: vec![Annotation {
                kind: "web_search_result_location".into(),
                url: "http://u".into(),
                title: "t".into(),
                text: "c".into(),
                json: citation,
            }],
            ..Message::default()
        };
        let expected = ChatReply {
            head: AnswerHead {
                id: "msg_1".into(),
                model: "claude-x".into(),
                service_tier: "standard".into(),
                ..AnswerHead::default()
            },
            choice: Choice { message, finish_reason: "tool_calls".into(), ..Choice::default() },
            usage: Some(TokenUsage {
                prompt: 60,
                completion: 5,
                total: 65,
                cached: 30,
                cache_write: 20,
                reasoning: 2,
                ..TokenUsage::default()
            }),
            extra: json!({"container": {"id": "c"}}).as_object().unwrap().clone().into(),
            ..ChatReply::default()
        };
        assert_eq!(reply, expected);
    }

    #[test]
    fn text_blocks_are_one_text() {
        let blocks = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let reply =
            read(json!({"content": blocks, "stop_reason": "stop_sequence", "stop_sequence": "END"})).unwrap();
        assert_eq!(reply.choice.message.content, Content::Text("ab".into()));
        assert_eq!(
            (reply.choice.finish_reason.as_str(), reply.choice.stop_sequence.as_str()),
            ("stop", "END")
        );
    }

    #[test]
    fn stop_reasons_have_the_contracts_words() {
        let table = [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("tool_use", "tool_calls"),
            ("refusal", "content_filter"),
            ("pause_turn", "pause_turn"),
        ];
        for (theirs, ours) in table {
            let reply = read(json!({"content": [], "stop_reason": theirs})).unwrap();
            assert_eq!(reply.choice.finish_reason, ours);
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_a_failure() {
        for body in [
            json!({}),
            json!([]),
            json!("x"),
            json!({"content": [{}]}),
            json!({"content": "x"}),
            json!([null, null, [], null, null]),
        ] {
            assert_eq!(read(body.clone()).unwrap_err(), ReadError::MALFORMED, "{body}");
        }
        let error = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "m"}});
        assert_eq!(reported(read(error)), ("rate_limit_error".into(), "m".into()));
        assert_eq!(read(json!({"usage": {"input_tokens": 1}})).unwrap_err(), ReadError::NoMessage);
        assert_eq!(count(b"{\"input_tokens\":\"7\"}"), Ok(7));
        assert_eq!(count(b"{}"), Err(ReadError::MALFORMED));
    }
}
