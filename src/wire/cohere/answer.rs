//! What comes back from Cohere as a whole (API reference, "Chat", "Embed", "Rerank"). Pure. Reads with tolerance: parts that
//! are not known and unknown fields are handed on, missing ones and nulls are empty. Invariant: what is not the protocol is
//! a failure, never an empty success.

use crate::wire::{
    Annotation, AnswerHead, ChatReply, Choice, Content, EmbeddingReply, Keys, Message, Part, PartKind,
    ReadError, Reasoning, RerankReply, RerankRequest, TokenUsage, ToolCall,
    answer::{check_error, keep_counts, no_answer, reported, vectors},
    lenient::{Any, Number, Read, fields, object},
    mend,
    rerank::{Places, order},
    vector::Vector,
};
use serde_json::{Value, json};

/// Reads a whole message.
pub fn message(body: &[u8]) -> Result<ChatReply, ReadError> {
    let mut answer: Answer = object(body)?;
    check_error(&answer.error)?;
    let said = match answer.message {
        // What stands under `message` in an error is its text.
        Value::String(message) => return Err(reported(&json!({ "message": message }))),
        Value::Object(said) => said,
        _ if answer.usage.is_some() => return Err(ReadError::NoMessage),
        _ => return Err(no_answer(body)),
    };
    let said: Said = object(Value::Object(said).to_string().as_bytes())?;
    let mut spoken = Spoken::default();
    match said.content {
        Value::String(text) => spoken.parts.push(PartKind::Text(text).into()),
        Value::Array(items) => items.into_iter().for_each(|item| spoken.item(item)),
        _ => {}
    }
    let plain = spoken.parts.iter().all(|part| part.text().is_some());
    let content = if plain {
        Content::Text(mend::whole(spoken.parts.iter().filter_map(Part::text).collect()))
    } else {
        Content::Parts(spoken.parts)
    };
    let thoughts = mend::whole(said.tool_plan + &spoken.thoughts);
    let reasoning = Reasoning { text: thoughts.clone(), ..Reasoning::default() };
    let calls = (0..).zip(said.tool_calls);
    let choice = Choice {
        message: Message {
            role: "assistant".into(),
            content,
            tool_calls: calls.map(|(index, call): (i32, Call)| call.start(index)).collect(),
            reasoning: if thoughts.is_empty() { Vec::new() } else { vec![reasoning] },
            reasoning_content: thoughts,
            annotations: citations(said.citations),
            ..Message::default()
        },
        finish_reason: finish_reason(answer.finish_reason)?,
        logprobs: answer.logprobs.into_box(),
        ..Choice::default()
    };
    let head = AnswerHead { id: answer.id, ..AnswerHead::default() };
    let usage = answer.usage.as_deref().map(Usage::total);
    keep_counts(&mut answer.rest, "usage", answer.usage.map(|usage| usage.rest()).unwrap_or_default());
    Ok(ChatReply { head, choice, more_choices: Vec::new(), usage, extra: answer.rest })
}

/// Reads embeddings; there must be as many as `count`. `encoding` is the type that was asked for; empty: floating point.
pub fn embeddings(body: &[u8], count: usize, encoding: &str) -> Result<EmbeddingReply, ReadError> {
    let answer: Embedded = object(body)?;
    check_error(&answer.error)?;
    let told = match answer.embeddings {
        Value::Object(mut by_type) => {
            by_type.shift_remove(if encoding.is_empty() { "float" } else { encoding }).unwrap_or_default()
        }
        list => list,
    };
    let Value::Array(items) = told else { return Err(no_answer(body)) };
    let floats = |item: Value| Vector::read(item).ok()?.floats(encoding);
    let read = items.into_iter().map(floats).collect::<Option<Vec<_>>>();
    let read = read.ok_or(ReadError::Malformed("the provider returned an embedding that is no vector"))?;
    Ok(EmbeddingReply {
        vectors: vectors(read, count)?,
        usage: answer.meta.as_deref().map(Usage::total).unwrap_or_default(),
    })
}

/// Reads an order of the request's documents. It is billed by searches, which are no tokens.
pub fn rerank(body: &[u8], request: &RerankRequest) -> Result<RerankReply, ReadError> {
    let answer: Reranked = object(body)?;
    check_error(&answer.error)?;
    let places = answer.results.0.ok_or_else(|| no_answer(body))?;
    Ok(RerankReply {
        results: order(places, request)?,
        usage: answer.meta.as_deref().map(Usage::total).unwrap_or_default(),
    })
}

/// Reads a list of models, of which only matters that it is one.
pub fn models(body: &[u8]) -> Result<(), ReadError> {
    let answer: Listed = object(body)?;
    if answer.models.is_array() { Ok(()) } else { Err(no_answer(body)) }
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

#[derive(Default)]
struct Spoken {
    parts: Vec<Part>,
    thoughts: String,
}

impl Spoken {
    fn item(&mut self, item: Value) {
        let text = |name: &str| item.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        match (text("text"), text("thinking")) {
            (Some(text), _) => self.parts.push(PartKind::Text(text).into()),
            (None, Some(thought)) => self.thoughts.push_str(&thought),
            (None, None) => {
                if let Value::Object(fields) = item {
                    self.parts.push(Part::opaque(fields));
                }
            }
        }
    }
}

/// What a text refers to ("Documents and citations"). A list of them, or one.
pub(super) fn citations(value: Value) -> Vec<Annotation> {
    let items = match value {
        Value::Array(items) => items,
        object @ Value::Object(_) => vec![object],
        _ => Vec::new(),
    };
    let annotation = |json: Value| {
        let source = |name: &str| {
            let document = json.pointer(&format!("/sources/0/document/{name}"));
            document.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Annotation {
            kind: "citation".into(),
            url: source("url"),
            title: source("title"),
            text: text("text"),
            json,
        }
    };
    items.into_iter().map(annotation).collect()
}

fields! {
    struct Answer {
        error: Value,
        id: String,
        message: Value,
        finish_reason: String,
        logprobs: Any,
        usage: Option<Box<Usage>>,
    }
    ignores []
}

fields! {
    struct Said {
        content: Value,
        tool_plan: String,
        tool_calls: Vec<Call>,
        citations: Value,
    }
    ignores ["role"]
}

fields! {
    /// A tool call, or what one gains.
    pub(super) struct Call {
        id: String,
        function: Option<Box<Function>>,
    }
    ignores ["type"]
}

fields! {
    struct Function {
        name: String,
        arguments: String,
    }
    ignores []
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
            id: self.id,
            kind: String::new(),
            name: function.name,
            arguments: function.arguments,
            extra: self.rest.into(),
        }
    }
}

fields! {
    struct Embedded {
        error: Value,
        embeddings: Value,
        meta: Option<Box<Usage>>,
    }
    ignores []
}

fields! {
    struct Reranked {
        error: Value,
        results: Places,
        meta: Option<Box<Usage>>,
    }
    ignores []
}

fields! {
    struct Listed {
        models: Value,
    }
    ignores []
}

fields! {
    /// What a call used: `usage` of a message, `meta` of the rest. `tokens` is what the model read and wrote, and the cached
    /// ones are a part of that; `billed_units` leaves out what Cohere itself adds to a prompt, and is all that embeddings
    /// have. Cohere counts in floating point.
    pub(super) struct Usage {
        tokens: Value,
        billed_units: Value,
        cached: Number = "cached_tokens",
    }
    ignores []
}

impl Usage {
    /// As the contract counts.
    pub(super) fn total(&self) -> TokenUsage {
        let count = |name: &str| {
            let of = |counts: &Value| counts.get(name).map(Number::of).filter(|count| count.0.is_some());
            of(&self.tokens).or_else(|| of(&self.billed_units)).unwrap_or_default().count()
        };
        let prompt = count("input_tokens").saturating_add(count("image_tokens"));
        let completion = count("output_tokens");
        let total = prompt.saturating_add(completion);
        TokenUsage { prompt, completion, total, cached: self.cached.count(), ..TokenUsage::default() }
    }

    /// What is billed, and what else has no field.
    pub(super) fn rest(self) -> Keys {
        let mut rest = self.rest;
        rest.insert("billed_units".to_owned(), self.billed_units);
        rest
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
            ..ToolCall::default()
        };
        let thoughts = "I will call both. hm";
        let future = json!({"type": "tomorrow", "data": 1}).as_object().unwrap().clone();
        let text = |text: &str| Part::from(PartKind::Text(text.into()));
        let choice = Choice {
            message: Message {
                role: "assistant".into(),
                content: Content::Parts(vec![text("a"), Part::opaque(future), text("b")]),
                tool_calls: vec![call(0, "t1", "f", "{\"a\":1}"), call(1, "t2", "g", "{}")],
                reasoning_content: thoughts.into(),
                reasoning: vec![Reasoning { text: thoughts.into(), ..Reasoning::default() }],
                annotations: vec![Annotation {
                    kind: "citation".into(),
                    text: "a".into(),
                    json: json!({"start": 0, "end": 1, "text": "a", "sources": []}),
                    ..Annotation::default()
                }],
                ..Message::default()
            },
            finish_reason: "tool_calls".into(),
            ..Choice::default()
        };
        let usage = TokenUsage { prompt: 71, completion: 4, total: 75, cached: 16, ..TokenUsage::default() };
        let head = AnswerHead { id: "c14c80c3".into(), ..AnswerHead::default() };
        let billed = json!({"usage": {"billed_units": {"input_tokens": 5.0, "output_tokens": 3, "search_units": null}}});
        let extra = billed.as_object().unwrap().clone();
        let expected =
            ChatReply { head, choice, usage: Some(usage), extra: extra.into(), ..ChatReply::default() };
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
            let usage = object::<Usage>(body.to_string().as_bytes()).unwrap().total();
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
            assert_eq!(read(theirs).unwrap().choice.finish_reason, ours);
        }
        assert_eq!(reported(read("ERROR")).0, "ERROR");
        assert_eq!(reported(read("TIMEOUT")).0, "TIMEOUT");
    }

    #[test]
    fn embeddings_are_counted() {
        let read = |body: Value| embeddings(body.to_string().as_bytes(), 2, "");
        let body = json!({
            "id": "x", "response_type": "embeddings_by_type", "texts": ["a", "b"],
            "embeddings": {"float": [[0.5, 1], [0.25, 2]]},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2}},
        });
        let reply = read(body).unwrap();
        assert_eq!(reply.vectors, [[0.5, 1.0], [0.25, 2.0]]);
        assert_eq!((reply.usage.prompt, reply.usage.total), (2, 2));
        let int8 = json!({"embeddings": {"int8": [[1, -2]]}}).to_string();
        assert_eq!(embeddings(int8.as_bytes(), 1, "int8").unwrap().vectors, [[1.0, -2.0]]);
        for body in
            [json!({}), json!({"embeddings": {"int8": [[1], [2]]}}), json!({"embeddings": {"float": [[1]]}})]
        {
            assert!(matches!(read(body.clone()), Err(ReadError::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn an_order_is_read() {
        let request =
            RerankRequest { query: "q".into(), documents: vec!["d".into(); 2], ..RerankRequest::default() };
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
        for body in [json!({}), json!([]), json!("x"), json!({"message": 1})] {
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
