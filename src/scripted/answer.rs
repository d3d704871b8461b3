//! The bodies a scripted upstream sends, shaped as in OpenAI's API reference. Always the same for the same request.

use serde_json::{Map, Value, json};

/// The chunks of a streamed answer.
pub(super) struct Chunks {
    /// The role alone.
    pub(super) role: Value,
    /// Those with content.
    pub(super) content: Vec<Value>,
    /// The finish reason, then the usage if it was asked for.
    pub(super) end: Vec<Value>,
}

/// The whole answer of an endpoint; none for an unknown one.
pub(super) fn whole(path: &str, key: &str, request: &Value) -> Option<Value> {
    match path {
        "/v1/chat/completions" => Some(completion(key, request)),
        "/v1/embeddings" => Some(embeddings(request)),
        "/v1/moderations" => Some(moderation(request)),
        "/v1/rerank" => Some(order(request)),
        "/v1/audio/transcriptions" => Some(transcription(request)),
        "/v1/models" => Some(json!({
            "object": "list",
            "data": [{"id": "scripted", "object": "model", "created": 0, "owned_by": "rota"}],
        })),
        _ => None,
    }
}

/// What the model says. Names the key, so that a test sees who served.
fn content(key: &str) -> [String; 3] {
    ["served ".to_owned(), "by ".to_owned(), key.to_owned()]
}

/// The tool to call: the first, unless the conversation ends with a tool's result.
fn tool(request: &Value) -> Option<&str> {
    let last = request.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    let answered = last.and_then(|message| message.get("role")).is_some_and(|role| role == "tool");
    let name = request.pointer("/tools/0/function/name").and_then(Value::as_str);
    name.filter(|_| !answered)
}

fn usage() -> Value {
    json!({
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    })
}

/// What both forms of an answer begin with.
fn envelope(object: &str, request: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("id".into(), "chatcmpl-scripted".into());
    out.insert("object".into(), object.into());
    out.insert("created".into(), 0.into());
    out.insert("model".into(), request.get("model").cloned().unwrap_or_default());
    out.insert("system_fingerprint".into(), "fp_scripted".into());
    out
}

fn completion(key: &str, request: &Value) -> Value {
    let (message, finish) = match tool(request) {
        Some(name) => {
            let call =
                json!({"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}});
            (json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
        }
        None => (json!({"role": "assistant", "content": content(key).concat(), "refusal": null}), "stop"),
    };
    let mut out = envelope("chat.completion", request);
    out.insert("choices".into(), json!([{"index": 0, "message": message, "finish_reason": finish}]));
    out.insert("usage".into(), usage());
    Value::Object(out)
}

/// The chunks of a streamed chat answer.
pub(super) fn chunks(key: &str, request: &Value) -> Chunks {
    let chunk = |choices: Value| {
        let mut out = envelope("chat.completion.chunk", request);
        out.insert("choices".into(), choices);
        out
    };
    let delta = |delta: Value, finish: Value| {
        Value::Object(chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}])))
    };
    let (content, finish) = match tool(request) {
        Some(name) => {
            let start = json!({
                "index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""},
            });
            let more = |text: &str| json!({"index": 0, "function": {"arguments": text}});
            let calls = [start, more("{"), more("}")].map(|call| json!({"tool_calls": [call]}));
            (calls.to_vec(), "tool_calls")
        }
        None => (content(key).map(|text| json!({"content": text})).to_vec(), "stop"),
    };
    let mut end = vec![delta(json!({}), finish.into())];
    if request.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)) {
        let mut last = chunk(json!([]));
        last.insert("usage".into(), usage());
        end.push(Value::Object(last));
    }
    Chunks {
        role: delta(json!({"role": "assistant", "content": ""}), Value::Null),
        content: content.into_iter().map(|content| delta(content, Value::Null)).collect(),
        end,
    }
}

/// A vector a text: its length in bytes, its place, and 1.
fn embeddings(request: &Value) -> Value {
    let texts: Vec<&str> = match request.get("input") {
        Some(Value::Array(texts)) => texts.iter().map(|text| text.as_str().unwrap_or_default()).collect(),
        Some(Value::String(text)) => vec![text],
        _ => Vec::new(),
    };
    let datum = |(index, text): (usize, &&str)| json!({"object": "embedding", "index": index, "embedding": [text.len(), index, 1.0]});
    json!({
        "object": "list",
        "data": texts.iter().enumerate().map(datum).collect::<Vec<_>>(),
        "model": request.get("model"),
        "usage": {"prompt_tokens": texts.len(), "total_tokens": texts.len()},
    })
}

/// Flags what speaks of violence.
fn moderation(request: &Value) -> Value {
    let flagged = request.get("input").and_then(Value::as_str).is_some_and(|text| text.contains("violence"));
    json!({
        "id": "modr-1",
        "model": request.get("model"),
        "results": [{
            "flagged": flagged,
            "categories": {"hate": false, "violence": flagged},
            "category_scores": {"hate": 0.01, "violence": if flagged { 0.9 } else { 0.02 }},
        }],
    })
}

/// Has heard the name of the file.
fn transcription(request: &Value) -> Value {
    let form = request.as_str().unwrap_or_default();
    let name = form.split("filename=\"").nth(1).and_then(|rest| rest.split('"').next());
    json!({"text": name.unwrap_or_default()})
}

/// Puts the longest document first, in the order of the request all the same: who reads it must sort.
fn order(request: &Value) -> Value {
    let documents = request.get("documents").and_then(Value::as_array).cloned().unwrap_or_default();
    let place = |(index, document): (usize, &Value)| {
        let length = document.as_str().unwrap_or_default().len();
        json!({"index": index, "relevance_score": length as f64 / 100.0, "document": {"text": document}})
    };
    json!({
        "model": request.get("model"),
        "results": documents.iter().enumerate().map(place).collect::<Vec<_>>(),
        "usage": {"total_tokens": documents.len()},
    })
}

/// The usual error body of a status. Repeats the key where OpenAI does: who reads it must not.
pub(super) fn error(status: u16, key: &str) -> Value {
    let (message, kind, code) = match status {
        401 => {
            (format!("Incorrect API key provided: {key}."), "invalid_request_error", Some("invalid_api_key"))
        }
        402 => ("No credit left".to_owned(), "insufficient_quota", Some("insufficient_quota")),
        404 => ("The model does not exist".to_owned(), "invalid_request_error", Some("model_not_found")),
        429 => ("Rate limit reached for requests".to_owned(), "requests", Some("rate_limit_exceeded")),
        400..500 => ("Invalid request".to_owned(), "invalid_request_error", None),
        _ => ("The server had an error".to_owned(), "server_error", None),
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}
