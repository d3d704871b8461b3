//! What comes back from Anthropic as a whole (API reference, "Create a Message"). Pure. Reads with tolerance: unknown
//! blocks and fields are ignored, missing ones and nulls are empty. Invariant: what is not the protocol is a failure,
//! never an empty success.

use crate::wire::{
    ChatReply, Content, Message, ReadError, TokenUsage, ToolCall,
    answer::{check_error, parse},
};
use serde::Deserialize;
use serde_json::Value;

/// Reads a whole message.
pub fn message(body: &[u8]) -> Result<ChatReply, ReadError> {
    let answer: Answer = parse(body)?;
    check_error(answer.error)?;
    let mut message = Message { role: "assistant".into(), ..Message::default() };
    let mut text = String::new();
    for block in answer.content.ok_or(ReadError::MALFORMED)? {
        match block.kind.as_str() {
            "text" => text.push_str(&block.text.unwrap_or_default()),
            "thinking" => message.reasoning.push_str(&block.thinking.unwrap_or_default()),
            "tool_use" => {
                let index = message.tool_calls.len() as i32;
                message.tool_calls.push(block.tool_call(index));
            }
            // Tools of Anthropic's own, and thoughts that are not to be read.
            _ => {}
        }
    }
    message.content = Content::Text(text);
    Ok(ChatReply {
        message,
        finish_reason: finish_reason(answer.stop_reason.unwrap_or_default()),
        usage: answer.usage.unwrap_or_default().total(),
        model: answer.model.unwrap_or_default(),
        system_fingerprint: String::new(),
    })
}

/// Reads a count of tokens (API reference, "Count tokens in a Message").
pub fn count(body: &[u8]) -> Result<u32, ReadError> {
    let answer: Count = parse(body)?;
    check_error(answer.error)?;
    answer.input_tokens.ok_or(ReadError::MALFORMED)
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

#[derive(Deserialize)]
struct Count {
    error: Option<Value>,
    input_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<Value>,
    model: Option<String>,
    content: Option<Vec<Block>>,
    stop_reason: Option<String>,
    usage: Option<Usage>,
}

/// A block of content.
#[derive(Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Value>,
}

impl Block {
    pub(super) fn tool_call(self, index: i32) -> ToolCall {
        ToolCall {
            index,
            id: self.id.unwrap_or_default(),
            kind: "function".into(),
            name: self.name.unwrap_or_default(),
            arguments: self.input.map_or_else(|| "{}".into(), |input| input.to_string()),
        }
    }
}

/// Counts of tokens. Those from the cache and those written to it are not part of `input_tokens` ("Prompt caching").
#[derive(Clone, Copy, Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the wire's names")]
pub(super) struct Usage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Usage {
    /// Takes the later counts: in a stream they are totals so far.
    pub(super) fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
    }

    /// As the contract counts: `prompt` is all that went in, `cached` the part of it that came from the cache.
    pub(super) fn total(self) -> TokenUsage {
        let count = |tokens: Option<u64>| u32::try_from(tokens.unwrap_or_default()).unwrap_or(u32::MAX);
        let (cached, completion) = (count(self.cache_read_input_tokens), count(self.output_tokens));
        let prompt = count(self.input_tokens)
            .saturating_add(count(self.cache_creation_input_tokens))
            .saturating_add(cached);
        TokenUsage { prompt, completion, total: prompt.saturating_add(completion), cached, reasoning: 0 }
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
        let reply = read(json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "a", "citations": null},
                {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
                {"type": "text", "text": "b"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {
                "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30,
                "output_tokens": 5, "service_tier": "standard",
            },
        }))
        .unwrap();
        let call = |index, id: &str, name: &str, arguments: &str| ToolCall {
            index,
            id: id.into(),
            kind: "function".into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        let expected = ChatReply {
            message: Message {
                role: "assistant".into(),
                content: Content::Text("ab".into()),
                tool_calls: vec![call(0, "t1", "f", "{\"a\":1}"), call(1, "t2", "g", "{}")],
                reasoning: "hm".into(),
                ..Message::default()
            },
            finish_reason: "tool_calls".into(),
            usage: TokenUsage { prompt: 60, completion: 5, total: 65, cached: 30, reasoning: 0 },
            model: "claude-x".into(),
            system_fingerprint: String::new(),
        };
        assert_eq!(reply, expected);
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
            assert_eq!(reply.finish_reason, ours);
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
    }
}
