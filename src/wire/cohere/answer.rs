//! What comes back from Cohere as a whole (API reference, "Chat", "Embed", "Rerank"). Pure. Reads with tolerance: unknown
//! parts and fields are ignored, missing ones and nulls are empty. Invariant: what is not the protocol is a failure,
//! never an empty success.

use crate::wire::{
    ChatReply, Content, EmbeddingReply, Message, ReadError, RerankReply, RerankRequest, TokenUsage, ToolCall,
    answer::{check_error, parse, reported, vectors},
    rerank::{Place, order},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

/// Reads a whole message.
pub fn message(body: &[u8]) -> Result<ChatReply, ReadError> {
    let answer: Answer = parse(body)?;
    check_error(answer.error)?;
    let said = match answer.message.ok_or(ReadError::MALFORMED)? {
        Told::Said(said) => said,
        Told::Error(message) => return Err(reported(&json!({ "message": message }))),
    };
    let (mut text, mut reasoning) = (String::new(), said.tool_plan.unwrap_or_default());
    for part in said.content.into_iter().flatten() {
        text.push_str(&part.text.unwrap_or_default());
        reasoning.push_str(&part.thinking.unwrap_or_default());
    }
    let calls = (0..).zip(said.tool_calls.into_iter().flatten());
    Ok(ChatReply {
        message: Message {
            role: "assistant".into(),
            content: Content::Text(text),
            tool_calls: calls.map(|(index, call): (i32, Call)| call.start(index)).collect(),
            reasoning,
            ..Message::default()
        },
        finish_reason: finish_reason(answer.finish_reason.unwrap_or_default())?,
        usage: answer.usage.unwrap_or_default().total(),
        // Cohere names neither.
        model: String::new(),
        system_fingerprint: String::new(),
    })
}

/// Reads embeddings; there must be as many as `count`.
pub fn embeddings(body: &[u8], count: usize) -> Result<EmbeddingReply, ReadError> {
    let answer: Embedded = parse(body)?;
    check_error(answer.error)?;
    let told = answer.embeddings.and_then(|embeddings| embeddings.float).ok_or(ReadError::MALFORMED)?;
    Ok(EmbeddingReply { vectors: vectors(told, count)?, usage: answer.meta.unwrap_or_default().total() })
}

/// Reads an order of the request's documents. It is billed by searches, which are no tokens.
pub fn rerank(body: &[u8], request: &RerankRequest) -> Result<RerankReply, ReadError> {
    let answer: Reranked = parse(body)?;
    check_error(answer.error)?;
    let results = order(answer.results.ok_or(ReadError::MALFORMED)?, request)?;
    Ok(RerankReply { results, usage: answer.meta.unwrap_or_default().total() })
}

/// Reads a list of models, of which only matters that it is one.
pub fn models(body: &[u8]) -> Result<(), ReadError> {
    let answer: Models = parse(body)?;
    answer.models.map(|_| ()).ok_or(ReadError::MALFORMED)
}

/// The finish reason of an answer in which the provider failed.
const FAILED: &str = "ERROR";

/// The finish reason of an answer for which the provider took too long.
pub const TIMED_OUT: &str = "TIMEOUT";

/// The contract's word for a finish reason (API reference, "Chat"); one without a word is passed on. Two of Cohere's are
/// errors.
pub(super) fn finish_reason(reason: String) -> Result<String, ReadError> {
    Ok(match reason.as_str() {
        "COMPLETE" | "STOP_SEQUENCE" => "stop".into(),
        "MAX_TOKENS" => "length".into(),
        "TOOL_CALL" => "tool_calls".into(),
        FAILED => return Err(ReadError::reported(FAILED, "the provider failed within the answer")),
        TIMED_OUT => {
            return Err(ReadError::reported(TIMED_OUT, "the provider ran out of time within the answer"));
        }
        _ => reason,
    })
}

#[derive(Deserialize)]
struct Answer {
    error: Option<Value>,
    message: Option<Told>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
}

/// What stands under `message`: in an error, its text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Error(String),
    Said(Said),
}

#[derive(Deserialize)]
struct Said {
    content: Option<Vec<Words>>,
    tool_plan: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

/// A part of the content, or what one gains: the one field or the other.
#[derive(Deserialize)]
pub(super) struct Words {
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
}

/// A tool call, or what one gains.
#[derive(Deserialize)]
pub(super) struct Call {
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Default, Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

impl Call {
    /// A call that begins.
    pub(super) fn start(self, index: i32) -> ToolCall {
        ToolCall { kind: "function".into(), ..self.fragment(index) }
    }

    /// What a call gains.
    pub(super) fn fragment(self, index: i32) -> ToolCall {
        let function = self.function.unwrap_or_default();
        ToolCall {
            index,
            id: self.id.unwrap_or_default(),
            kind: String::new(),
            name: function.name.unwrap_or_default(),
            arguments: function.arguments.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct Embedded {
    error: Option<Value>,
    embeddings: Option<ByType>,
    meta: Option<Usage>,
}

#[derive(Deserialize)]
struct ByType {
    float: Option<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct Reranked {
    error: Option<Value>,
    results: Option<Vec<Place>>,
    meta: Option<Usage>,
}

#[derive(Deserialize)]
struct Models {
    models: Option<Vec<IgnoredAny>>,
}

/// What a call used: `usage` of a message, `meta` of the rest. `tokens` is what the model read and wrote, and the cached
/// ones are a part of that; `billed_units` leaves out what Cohere itself adds to a prompt, and is all that embeddings
/// have. Cohere counts in floating point.
#[derive(Default, Deserialize)]
pub(super) struct Usage {
    tokens: Option<Counts>,
    billed_units: Option<Counts>,
    cached_tokens: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Counts {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
}

impl Usage {
    /// As the contract counts.
    pub(super) fn total(self) -> TokenUsage {
        // The cast saturates.
        let count = |number: Option<f64>| number.unwrap_or_default() as u32;
        let (used, billed) = (self.tokens.unwrap_or_default(), self.billed_units.unwrap_or_default());
        let prompt = count(used.input_tokens.or(billed.input_tokens));
        let completion = count(used.output_tokens.or(billed.output_tokens));
        let total = prompt.saturating_add(completion);
        TokenUsage { prompt, completion, total, cached: count(self.cached_tokens), reasoning: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::reported;

    fn read(body: Value) -> Result<ChatReply, ReadError> {
        message(body.to_string().as_bytes())
    }

    #[test]
    fn a_full_answer_is_read() {
        let body = json!({
            "id": "c14c80c3", "finish_reason": "TOOL_CALL", "logprobs": null,
            "message": {
                "role": "assistant",
                "tool_plan": "I will call both. ",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "a"},
                    {"type": "tomorrow", "data": 1},
                    {"type": "text", "text": "b"},
                ],
                "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                    {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
                "citations": [{"start": 0, "end": 1, "text": "a", "sources": []}],
            },
            "usage": {
                "billed_units": {"input_tokens": 5.0, "output_tokens": 3, "search_units": null},
                "tokens": {"input_tokens": 71.0, "output_tokens": 4},
                "cached_tokens": 16,
            },
        });
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
                reasoning: "I will call both. hm".into(),
                ..Message::default()
            },
            finish_reason: "tool_calls".into(),
            usage: TokenUsage { prompt: 71, completion: 4, total: 75, cached: 16, reasoning: 0 },
            ..ChatReply::default()
        };
        assert_eq!(read(body).unwrap(), expected);
    }

    #[test]
    fn usage_is_what_the_model_used_or_else_what_is_billed() {
        let counts = |input: u32, output: u32| json!({"input_tokens": input, "output_tokens": output});
        let table = [
            (json!({"tokens": counts(71, 4), "billed_units": counts(5, 3)}), (71, 4)),
            (json!({"billed_units": counts(5, 3)}), (5, 3)),
            (json!({"tokens": {}, "billed_units": {"input_tokens": 5}}), (5, 0)),
            (json!({"billed_units": {"search_units": 1}}), (0, 0)),
            (json!({"tokens": null}), (0, 0)),
            (json!({"tokens": {"input_tokens": -1, "output_tokens": 1e30}}), (0, u32::MAX)),
        ];
        for (body, (prompt, completion)) in table {
            let usage = serde_json::from_value::<Usage>(body.clone()).unwrap().total();
            assert_eq!((usage.prompt, usage.completion), (prompt, completion), "{body}");
        }
    }

    #[test]
    fn finish_reasons_have_the_contracts_words() {
        let read = |theirs: &str| read(json!({"message": {}, "finish_reason": theirs}));
        let table = [
            ("COMPLETE", "stop"),
            ("STOP_SEQUENCE", "stop"),
            ("MAX_TOKENS", "length"),
            ("TOOL_CALL", "tool_calls"),
            ("TOMORROW", "TOMORROW"),
        ];
        for (theirs, ours) in table {
            assert_eq!(read(theirs).unwrap().finish_reason, ours);
        }
        assert_eq!(reported(read("ERROR")).0, "ERROR");
        assert_eq!(reported(read("TIMEOUT")).0, "TIMEOUT");
    }

    #[test]
    fn embeddings_are_counted() {
        let read = |body: Value| embeddings(body.to_string().as_bytes(), 2);
        let body = json!({
            "id": "x", "response_type": "embeddings_by_type", "texts": ["a", "b"],
            "embeddings": {"float": [[0.5, 1], [0.25, 2]]},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2}},
        });
        let reply = read(body).unwrap();
        assert_eq!(reply.vectors, [[0.5, 1.0], [0.25, 2.0]]);
        assert_eq!((reply.usage.prompt, reply.usage.total), (2, 2));
        for body in [
            json!({}),
            json!({"embeddings": {"int8": [[1], [2]]}}),
            json!({"embeddings": {"float": [[1]]}}),
            json!({"embeddings": [[1], [2]]}),
        ] {
            assert!(matches!(read(body.clone()), Err(ReadError::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn an_order_is_read() {
        let request = RerankRequest { query: "q".into(), documents: vec!["d".into(); 2], top_n: 0 };
        let body = json!({
            "id": "x", "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        });
        let reply = rerank(body.to_string().as_bytes(), &request).unwrap();
        assert_eq!(reply.results.iter().map(|ranked| ranked.index).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(reply.usage, TokenUsage::default());
        assert!(rerank(b"{\"results\":null}", &request).is_err());
    }

    #[test]
    fn what_is_not_the_protocol_is_a_failure() {
        for body in [
            json!({}),
            json!([]),
            json!("x"),
            json!({"message": 1}),
            json!({"message": {"content": "x"}}),
            json!({"message": {"content": [1]}}),
        ] {
            assert_eq!(read(body.clone()).unwrap_err(), ReadError::MALFORMED, "{body}");
        }
        let error = reported(read(json!({"id": "x", "message": "trial token rate limit exceeded"})));
        assert_eq!(error, (String::new(), "trial token rate limit exceeded".into()));
        assert!(models(b"{\"models\":[]}").is_ok());
        for body in ["{}", "[]", "{\"data\":[]}"] {
            assert_eq!(models(body.as_bytes()).unwrap_err(), ReadError::MALFORMED, "{body}");
        }
    }
}
