//! What comes back from an OpenAI-speaking server. Pure. Reads with tolerance: unknown fields are ignored, missing
//! ones and nulls are empty. Invariant: what is not the protocol is a failure, never an empty success.

use crate::wire::{
    ChatReply, Content, EmbeddingReply, Message, ReadError, SpeechReply, TokenUsage, ToolCall,
    answer::{check_error, parse, vectors},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::Value;
use std::fmt;

/// Reads a whole chat completion.
pub fn completion(body: &[u8]) -> Result<ChatReply, ReadError> {
    let answer: Completion = parse(body)?;
    check_error(answer.error)?;
    let choice = answer.choices.into_iter().flatten().next().ok_or(ReadError::MALFORMED)?;
    let message = choice.message.ok_or(ReadError::MALFORMED)?;
    let tool_calls: Vec<ToolCall> = calls(message.tool_calls)
        .map(|call| if call.kind.is_empty() { ToolCall { kind: "function".into(), ..call } } else { call })
        .collect();
    Ok(ChatReply {
        message: Message {
            role: message.role.filter(|role| !role.is_empty()).unwrap_or_else(|| "assistant".into()),
            content: Content::Text(text(message.content)),
            tool_calls,
            reasoning: message.reasoning_content.or(message.reasoning).unwrap_or_default(),
            refusal: message.refusal.unwrap_or_default(),
            ..Message::default()
        },
        finish_reason: choice.finish_reason.unwrap_or_default(),
        usage: answer.usage.map(TokenUsage::from).unwrap_or_default(),
        model: answer.model.unwrap_or_default(),
        system_fingerprint: answer.system_fingerprint.unwrap_or_default(),
    })
}

/// Reads a list of models, of which only matters that it is one.
pub fn models(body: &[u8]) -> Result<(), ReadError> {
    let answer: Models = parse(body)?;
    check_error(answer.error)?;
    answer.data.map(|_| ()).ok_or(ReadError::MALFORMED)
}

/// Reads embeddings; there must be as many as `count`.
pub fn embeddings(body: &[u8], count: usize) -> Result<EmbeddingReply, ReadError> {
    let answer: Embeddings = parse(body)?;
    check_error(answer.error)?;
    let mut data = answer.data.ok_or(ReadError::MALFORMED)?;
    // A stable sort: a server that gives no index gives them in order.
    data.sort_by_key(|datum| datum.index.unwrap_or_default());
    if data.iter().enumerate().any(|(i, datum)| datum.index.is_some_and(|index| index != i)) {
        return Err(ReadError::Malformed("the provider's embeddings have wrong indices"));
    }
    Ok(EmbeddingReply {
        vectors: vectors(data.into_iter().map(|datum| datum.embedding.0).collect(), count)?,
        usage: answer.usage.map(TokenUsage::from).unwrap_or_default(),
    })
}

/// Reads what was said in a recording (API reference, "Create transcription").
pub fn transcription(body: &[u8]) -> Result<SpeechReply, ReadError> {
    let answer: Transcription = parse(body)?;
    check_error(answer.error)?;
    Ok(SpeechReply { text: answer.text.ok_or(ReadError::MALFORMED)? })
}

/// Reads the error that is JSON in place of audio.
pub fn no_audio(body: &[u8]) -> ReadError {
    let error = parse(body).and_then(|answer: Problem| check_error(answer.error));
    error.err().unwrap_or(ReadError::MALFORMED)
}

#[derive(Deserialize)]
struct Problem {
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Transcription {
    error: Option<Value>,
    text: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Completion {
    pub(super) error: Option<Value>,
    pub(super) model: Option<String>,
    pub(super) system_fingerprint: Option<String>,
    pub(super) choices: Option<Vec<Choice>>,
    pub(super) usage: Option<Usage>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    pub(super) index: Option<i32>,
    pub(super) message: Option<Text>,
    pub(super) delta: Option<Text>,
    pub(super) finish_reason: Option<String>,
}

/// A message or a delta.
#[derive(Default, Deserialize)]
pub(super) struct Text {
    pub(super) role: Option<String>,
    pub(super) content: Option<Value>,
    pub(super) refusal: Option<String>,
    /// DeepSeek's name for it, which most others took.
    pub(super) reasoning_content: Option<String>,
    /// OpenRouter's and newer vLLM's name for it.
    pub(super) reasoning: Option<String>,
    pub(super) tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
pub(super) struct Call {
    index: Option<i32>,
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<Function>,
}

#[derive(Default, Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<Value>,
}

/// Some servers count in floating point.
#[derive(Deserialize)]
pub(super) struct Usage {
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
    total_tokens: Option<f64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<f64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<f64>,
}

#[derive(Deserialize)]
struct Models {
    error: Option<Value>,
    data: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Embeddings {
    error: Option<Value>,
    data: Option<Vec<Datum>>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Datum {
    index: Option<usize>,
    embedding: Vector,
}

/// A vector: numbers, or little-endian floats in base64 (OpenAI's `encoding_format`).
struct Vector(Vec<f32>);

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        // The cast saturates.
        let count = |number: Option<f64>| number.unwrap_or_default() as u32;
        let (prompt, completion) = (count(usage.prompt_tokens), count(usage.completion_tokens));
        Self {
            prompt,
            completion,
            total: usage.total_tokens.map_or(prompt.saturating_add(completion), |total| count(Some(total))),
            cached: count(usage.prompt_tokens_details.and_then(|details| details.cached_tokens)),
            reasoning: count(usage.completion_tokens_details.and_then(|details| details.reasoning_tokens)),
        }
    }
}

/// Content is a text, or with some servers a list of parts of which the texts count.
pub(super) fn text(content: Option<Value>) -> String {
    match content {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        _ => String::new(),
    }
}

pub(super) fn calls(calls: Option<Vec<Call>>) -> impl Iterator<Item = ToolCall> {
    (0..).zip(calls.into_iter().flatten()).map(|(position, call): (i32, Call)| {
        let function = call.function.unwrap_or_default();
        ToolCall {
            index: call.index.unwrap_or(position),
            id: call.id.unwrap_or_default(),
            kind: call.kind.unwrap_or_default(),
            name: function.name.unwrap_or_default(),
            arguments: match function.arguments {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
            },
        }
    })
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers or base64")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vector, A::Error> {
                let mut vector = Vec::with_capacity(1024);
                while let Some(number) = items.next_element::<f32>()? {
                    vector.push(number);
                }
                vector.shrink_to_fit();
                Ok(Vector(vector))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vector, E> {
                let bytes = BASE64_STANDARD.decode(text).map_err(|_| E::custom("not base64"))?;
                let (floats, []) = bytes.as_chunks::<4>() else {
                    return Err(E::custom("not a list of floats"));
                };
                Ok(Vector(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::reported;
    use serde_json::json;

    fn read(body: Value) -> Result<ChatReply, ReadError> {
        completion(body.to_string().as_bytes())
    }

    #[test]
    fn a_full_answer_is_read() {
        let reply = read(json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m-1", "system_fingerprint": "fp",
            "service_tier": "default",
            "choices": [{
                "index": 0, "finish_reason": "tool_calls", "logprobs": null,
                "message": {
                    "role": "assistant", "content": null, "refusal": "no", "reasoning_content": "hm", "annotations": [],
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                        {"id": "c2", "function": {"name": "g", "arguments": {"b": 2}}},
                    ],
                },
            }],
            "usage": {
                "prompt_tokens": 10, "completion_tokens": 5.0, "total_tokens": 15,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 3},
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
                tool_calls: vec![call(0, "c1", "f", "{\"a\":1}"), call(1, "c2", "g", "{\"b\":2}")],
                reasoning: "hm".into(),
                refusal: "no".into(),
                ..Message::default()
            },
            finish_reason: "tool_calls".into(),
            usage: TokenUsage { prompt: 10, completion: 5, total: 15, cached: 4, reasoning: 3 },
            model: "m-1".into(),
            system_fingerprint: "fp".into(),
        };
        assert_eq!(reply, expected);
    }

    #[test]
    fn sparse_answers_are_read() {
        let reply =
            read(json!({"choices": [{"message": {"content": "x", "reasoning": "y"}}], "usage": null}))
                .unwrap();
        assert_eq!(reply.message.content, Content::Text("x".into()));
        assert_eq!((reply.message.role.as_str(), reply.message.reasoning.as_str()), ("assistant", "y"));
        let parts =
            json!([{"type": "thinking"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 2});
        let reply = read(json!({"choices": [{"message": {"content": parts}}], "usage": usage})).unwrap();
        assert_eq!(reply.message.content, Content::Text("ab".into()));
        assert_eq!(reply.usage.total, 3);
    }

    #[test]
    fn what_is_not_the_protocol_is_a_failure() {
        for body in [
            "",
            "hello",
            "[]",
            "{}",
            "{\"choices\":[]}",
            "{\"choices\":[{}]}",
            "{\"choices\":[{\"mess",
            "[null,null,null,[{\"message\":{\"content\":\"x\"}}],null]",
        ] {
            assert_eq!(completion(body.as_bytes()), Err(ReadError::MALFORMED), "{body}");
        }
        let error = json!({"error": {"message": "m", "code": "insufficient_quota"}});
        assert_eq!(reported(read(error)), ("insufficient_quota".into(), "m".into()));
        assert!(read(json!({"error": null, "choices": [{"message": {"content": ""}}]})).is_ok());
    }

    #[test]
    fn embeddings_come_in_the_order_of_the_texts() {
        let read = |data: Value, count| {
            let body = json!({"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}});
            embeddings(body.to_string().as_bytes(), count)
        };
        let shuffled = json!([{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1.0, -2e-1]}]);
        let reply = read(shuffled.clone(), 2).unwrap();
        assert_eq!(reply.vectors, [[1.0, -0.2], [3.0, 4.5]]);
        assert_eq!(reply.usage, TokenUsage { prompt: 3, total: 3, ..TokenUsage::default() });
        let base64 = BASE64_STANDARD.encode([1.0f32, -2.5].map(f32::to_le_bytes).concat());
        assert_eq!(read(json!([{"embedding": base64}]), 1).unwrap().vectors, [[1.0, -2.5]]);
        let unnumbered = json!([{"embedding": [1]}, {"embedding": [2]}]);
        assert_eq!(read(unnumbered, 2).unwrap().vectors, [[1.0], [2.0]]);

        let wrong = [
            (shuffled.clone(), 3),
            (shuffled, 1),
            (json!([{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}]), 2),
            (json!([{"embedding": "AAA"}]), 1),
            (json!([{"embedding": "not base64!"}]), 1),
            (json!([{"embedding": ["x"]}]), 1),
            (json!([{"embedding": []}]), 1),
            (json!([{"embedding": ""}]), 1),
            // More than a float holds, and no number at all.
            (json!([{"embedding": [1e39]}]), 1),
            (json!([{"embedding": BASE64_STANDARD.encode(f32::NAN.to_le_bytes())}]), 1),
            (json!([{}]), 1),
            (Value::Null, 1),
        ];
        for (data, count) in wrong {
            assert!(matches!(read(data.clone(), count), Err(ReadError::Malformed(_))), "{data}");
        }
    }
}
