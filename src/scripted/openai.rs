//! OpenAI's API (API reference), and Azure's, which is the same under other paths and with the key in another header.

use super::{
    Recorded,
    dialect::{Answer, Call, Dialect, Pieces, bearer, calls, content, header, wants_stream},
    reasoning::{Reasoning, rounds},
};
use axum::{body::Bytes, http::StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// Takes every request that no other vendor knows as its own.
pub(super) struct OpenAi;

impl Dialect for OpenAi {
    fn serves(&self, _: &Recorded) -> bool {
        true
    }

    fn key<'a>(&self, request: &'a Recorded) -> Option<&'a str> {
        let azure = header(request, "api-key").filter(|_| request.path.starts_with("/openai/"));
        azure.or_else(|| bearer(request))
    }

    fn answer(&self, request: &Recorded) -> Option<Answer> {
        let body = &request.body;
        if let Some(why) = Reasoning::asked(request).and_then(|reasoning| reasoning.altered(request)) {
            let error = json!({"message": why, "type": "invalid_request_error", "param": null, "code": null});
            return Some(Answer::Refused(StatusCode::BAD_REQUEST, self.around(&error)));
        }
        Some(Answer::Whole(match endpoint(&request.path)? {
            "chat/completions" if wants_stream(request) => return Some(Answer::Pieces(self.chunks(request))),
            "chat/completions" => completion(request),
            "audio/speech" => return Some(Answer::Pieces(speech(request))),
            "embeddings" => embeddings(body),
            "moderations" => moderation(body),
            "rerank" => order(body),
            "audio/transcriptions" | "audio/translations" => transcription(body),
            "completions" if wants_stream(request) => return Some(Answer::Pieces(self.texts(request))),
            "completions" => text_completion(request, &content(request).concat(), Some("stop")),
            "images/generations" => {
                json!({"created": 0, "data": [{"b64_json": BASE64_STANDARD.encode(&request.key)}]})
            }
            "models" => json!({
                "object": "list",
                "data": [{"id": "scripted", "object": "model", "created": 0, "owned_by": "rota"}],
            }),
            _ => return None,
        }))
    }

    /// Who streams unasked counts unasked.
    fn otherwise(&self, request: &Recorded) -> Recorded {
        let mut other = request.clone();
        if let Some(fields) = other.body.as_object_mut() {
            fields.insert("stream".into(), (!wants_stream(request)).into());
            fields.insert("stream_options".into(), json!({"include_usage": true}));
        }
        other
    }

    fn error(&self, status: u16, key: &str) -> Value {
        let (message, kind, code) = match status {
            401 => (
                format!("Incorrect API key provided: {key}."),
                "invalid_request_error",
                Some("invalid_api_key"),
            ),
            402 => ("No credit left".to_owned(), "insufficient_quota", Some("insufficient_quota")),
            404 => ("The model does not exist".to_owned(), "invalid_request_error", Some("model_not_found")),
            429 => ("Rate limit reached for requests".to_owned(), "requests", Some("rate_limit_exceeded")),
            400..500 => ("Invalid request".to_owned(), "invalid_request_error", None),
            _ => ("The server had an error".to_owned(), "server_error", None),
        };
        self.around(&json!({"message": message, "type": kind, "param": null, "code": code}))
    }
}

/// What follows the API's root. On Azure that is a deployment's, or one like OpenAI's.
fn endpoint(path: &str) -> Option<&str> {
    if let Some(rest) = path.strip_prefix("/openai/deployments/") {
        return rest.split_once('/').map(|(_, endpoint)| endpoint);
    }
    if path == "/openai/models" {
        return Some("models");
    }
    path.strip_prefix("/openai").unwrap_or(path).strip_prefix("/v1/")
}

/// The tools to call: with reasoning one after the other, else as the prompt says, unless the conversation ends with a
/// tool's result.
fn tools(request: &Recorded) -> Vec<Call<'_>> {
    let body = &request.body;
    let last = body.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    let answered = last.and_then(|message| message.get("role")).is_some_and(|role| role == "tool");
    let tools = body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut names = tools.iter().filter_map(|tool| tool.pointer("/function/name")?.as_str());
    if Reasoning::asked(request).is_some() {
        let place = rounds(request).count();
        let name = names.nth(place).into_iter();
        return name.map(|name| Call { name, place: place + 1, arguments: json!({}) }).collect();
    }
    if answered { Vec::new() } else { calls(request, names) }
}

fn id(call: &Call) -> String {
    format!("call_{}", call.place)
}

/// What an answer costs.
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

fn completion(request: &Recorded) -> Value {
    let calls = tools(request);
    let (mut message, finish) = if calls.is_empty() {
        (json!({"role": "assistant", "content": content(request).concat(), "refusal": null}), "stop")
    } else {
        let call = |call: &Call| {
            let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
            json!({"id": id(call), "type": "function", "function": function})
        };
        let calls: Vec<_> = calls.iter().map(call).collect();
        (json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
    };
    if let Some(reasoning) = Reasoning::asked(request) {
        reasoning.add_to(&mut message, rounds(request).count() + 1);
    }
    let mut out = envelope("chat.completion", &request.body);
    out.insert("choices".into(), json!([{"index": 0, "message": message, "finish_reason": finish}]));
    out.insert("usage".into(), usage());
    Value::Object(out)
}

impl OpenAi {
    /// A streamed chat answer.
    fn chunks(&self, request: &Recorded) -> Pieces {
        let chunk = |choices: Value| {
            let mut out = envelope("chat.completion.chunk", &request.body);
            out.insert("choices".into(), choices);
            out
        };
        let delta = |delta: Value, finish: Value| {
            Value::Object(chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}])))
        };
        let calls = tools(request);
        let (content, finish) = if calls.is_empty() {
            (content(request).map(|text| json!({"content": text})).to_vec(), "stop")
        } else {
            let fragments = calls.iter().zip(0..).flat_map(|(call, index)| {
                let function = json!({"name": call.name, "arguments": ""});
                let start = json!({"index": index, "id": id(call), "type": "function", "function": function});
                let more = call.pieces().map(|text| json!({"index": index, "function": {"arguments": text}}));
                [start].into_iter().chain(more)
            });
            (fragments.map(|fragment| json!({"tool_calls": [fragment]})).collect(), "tool_calls")
        };
        let start = [delta(json!({"role": "assistant", "content": ""}), Value::Null)];
        let mut end = vec![delta(json!({}), finish.into())];
        if request.body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)) {
            let mut last = chunk(json!([]));
            last.insert("usage".into(), usage());
            end.push(Value::Object(last));
        }
        let done = vec!["data: [DONE]\n\n".into()];
        let reasoning =
            Reasoning::asked(request).map(|reasoning| reasoning.deltas(rounds(request).count() + 1));
        let content =
            reasoning.into_iter().flatten().chain(content).map(|content| delta(content, Value::Null));
        Pieces { done, ..Pieces::events(self, &start, content, &end) }
    }

    /// A streamed text.
    fn texts(&self, request: &Recorded) -> Pieces {
        let texts = content(request).map(|text| text_completion(request, &text, None));
        let done = vec!["data: [DONE]\n\n".into()];
        let end = [text_completion(request, "", Some("stop"))];
        Pieces { done, ..Pieces::events(self, &[], texts, &end) }
    }
}

/// The whole of a text without a chat, or a piece of it.
fn text_completion(request: &Recorded, text: &str, finish: Option<&str>) -> Value {
    let mut out = envelope("text_completion", &request.body);
    out.insert(
        "choices".into(),
        json!([{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}]),
    );
    if finish.is_some() {
        out.insert("usage".into(), usage());
    }
    Value::Object(out)
}

/// Names the key, as a chat does, behind the mark of an MP3 file.
fn speech(request: &Recorded) -> Pieces {
    let words = content(request).map(Bytes::from);
    Pieces::plain("audio/mpeg", [Bytes::from_static(b"ID3")].into_iter().chain(words).collect())
}

/// A vector a text: its length in bytes, its place, and 1.
fn embeddings(request: &Value) -> Value {
    let texts: Vec<&str> = match request.get("input") {
        Some(Value::Array(texts)) => texts.iter().map(|text| text.as_str().unwrap_or_default()).collect(),
        Some(Value::String(text)) => vec![text],
        _ => Vec::new(),
    };
    // The official clients ask for these bytes unasked.
    let packed = request.get("encoding_format").is_some_and(|format| format == "base64");
    let datum = |(index, text): (usize, &&str)| {
        let vector = [text.len() as f32, index as f32, 1.0];
        let embedding = if packed {
            BASE64_STANDARD.encode(vector.map(f32::to_le_bytes).concat()).into()
        } else {
            json!([text.len(), index, 1.0])
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
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
