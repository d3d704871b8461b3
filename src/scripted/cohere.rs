//! Cohere's API, version 2 (API reference, "Chat", "Chat with Streaming", "Embed", "Rerank", "List Models", "Errors";
//! "Reasoning").

use super::{
    Recorded,
    dialect::{Answer, Call, Dialect, Pieces, bearer, calls, content, wants_stream},
    thinking::thought,
};
use axum::body::Bytes;
use serde_json::{Value, json};

/// Knows its requests by their paths, and by the size of a page of models: nobody else calls it so.
pub(super) struct Cohere;

impl Dialect for Cohere {
    fn serves(&self, request: &Recorded) -> bool {
        request.path.starts_with("/v2/")
            || request.path == "/v1/models" && request.query.contains("page_size=")
    }

    fn key<'a>(&self, request: &'a Recorded) -> Option<&'a str> {
        bearer(request)
    }

    fn answer(&self, request: &Recorded) -> Option<Answer> {
        Some(Answer::Whole(match request.path.as_str() {
            "/v2/chat" if wants_stream(request) => return Some(Answer::Pieces(self.events(request))),
            "/v2/chat" => message(request),
            "/v2/embed" => embeddings(&request.body),
            "/v2/rerank" => order(&request.body),
            "/v1/models" => json!({"models": [{"name": "scripted", "endpoints": ["chat"]}]}),
            _ => return None,
        }))
    }

    fn error(&self, status: u16, key: &str) -> Value {
        let message = match status {
            401 => format!("invalid api token: {key}"),
            402 => "Please add or update your payment method to continue".to_owned(),
            404 => "model 'm' not found, make sure the correct model ID was used".to_owned(),
            429 => "You are past the per minute request limit, please wait and try again later.".to_owned(),
            400..500 => "invalid request".to_owned(),
            _ => "internal server error".to_owned(),
        };
        self.around(&json!({ "message": message }))
    }

    /// Its text is all there is of it.
    fn around(&self, error: &Value) -> Value {
        json!({"id": "scripted", "message": error.get("message")})
    }

    /// The last event of a stream that fails.
    fn event_around(&self, error: &Value) -> Value {
        json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": error.get("message")}})
    }

    fn frame(&self, event: &Value) -> Bytes {
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n").into()
    }
}

impl Cohere {
    fn events(&self, request: &Recorded) -> Pieces {
        let event =
            |kind: &str, message: Value| json!({"type": kind, "index": 0, "delta": {"message": message}});
        let empty =
            json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
        let mut start = vec![json!({"type": "message-start", "id": "scripted", "delta": {"message": empty}})];
        let called = tools(request);
        let (content, last, finish_reason) = if let Some(first) = called.first() {
            let place = |mut event: Value, index: usize| {
                event["index"] = index.into();
                event
            };
            let calls = called.iter().enumerate().flat_map(|(index, own)| {
                let before =
                    index.checked_sub(1).map(|index| json!({"type": "tool-call-end", "index": index}));
                let begin = event("tool-call-start", json!({ "tool_calls": call(own, "") }));
                let more = own.pieces().map(|text| {
                    event("tool-call-delta", json!({"tool_calls": {"function": {"arguments": text}}}))
                });
                let events = [begin].into_iter().chain(more).map(move |event| place(event, index));
                before.into_iter().chain(events).collect::<Vec<_>>()
            });
            let plan = event("tool-plan-delta", json!({"tool_plan": plan(first.name)}));
            ([plan].into_iter().chain(calls).collect(), "tool-call-end", "TOOL_CALL")
        } else {
            let mut thoughts = Vec::new();
            if thinks(request) {
                start.push(event("content-start", json!({"content": {"type": "thinking", "thinking": ""}})));
                thoughts.push(event("content-delta", json!({"content": {"thinking": thought(1)}})));
                thoughts.push(json!({"type": "content-end", "index": 0}));
            }
            let begin = event("content-start", json!({"content": {"type": "text", "text": ""}}));
            if thoughts.is_empty() {
                start.push(begin);
            } else {
                thoughts.push(begin);
            }
            let text = |text| event("content-delta", json!({"content": {"text": text}}));
            thoughts.extend(content(request).map(text));
            (thoughts, "content-end", "COMPLETE")
        };
        let delta = json!({"finish_reason": finish_reason, "usage": usage()});
        let index = called.len().saturating_sub(1);
        let end = [json!({"type": last, "index": index}), json!({"type": "message-end", "delta": delta})];
        Pieces::events(self, &start, content, &end)
    }
}

/// The tools to call, as the prompt says, unless the conversation ends with a tool's result.
fn tools(request: &Recorded) -> Vec<Call<'_>> {
    let last = request.body.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    let answered = last.and_then(|message| message.get("role")).is_some_and(|role| role == "tool");
    let tools = request.body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = tools.iter().filter_map(|tool| tool.pointer("/function/name")?.as_str());
    if answered { Vec::new() } else { calls(request, names) }
}

/// <https://docs.cohere.com/docs/reasoning>.
fn thinks(request: &Recorded) -> bool {
    request.body.pointer("/thinking/type").is_some_and(|kind| kind == "enabled")
}

/// What the model says before it calls.
fn plan(tool: &str) -> String {
    format!("I will call {tool}.")
}

fn call(own: &Call, arguments: &str) -> Value {
    let function = json!({"name": own.name, "arguments": arguments});
    json!({"id": format!("call_{}", own.place), "type": "function", "function": function})
}

/// Ten tokens go in, two of them from the cache; Cohere's own are not billed.
fn usage() -> Value {
    json!({
        "billed_units": {"input_tokens": 4, "output_tokens": 3},
        "tokens": {"input_tokens": 10, "output_tokens": 3},
        "cached_tokens": 2,
    })
}

fn message(request: &Recorded) -> Value {
    let called = tools(request);
    let (message, finish_reason) = if let Some(first) = called.first() {
        let calls: Vec<_> = called.iter().map(|own| call(own, &own.arguments.to_string())).collect();
        (json!({"role": "assistant", "tool_plan": plan(first.name), "tool_calls": calls}), "TOOL_CALL")
    } else {
        let text = json!({"type": "text", "text": content(request).concat()});
        let thinking = json!({"type": "thinking", "thinking": thought(1)});
        let content: Vec<_> = thinks(request).then_some(thinking).into_iter().chain([text]).collect();
        (json!({"role": "assistant", "content": content}), "COMPLETE")
    };
    json!({"id": "scripted", "message": message, "finish_reason": finish_reason, "usage": usage()})
}

/// A vector a text: its length in bytes, its place, and 1.
fn embeddings(request: &Value) -> Value {
    let texts = request.get("texts").and_then(Value::as_array).cloned().unwrap_or_default();
    let vector =
        |(place, text): (usize, &Value)| json!([text.as_str().unwrap_or_default().len(), place, 1.0]);
    json!({
        "id": "scripted",
        "response_type": "embeddings_by_type",
        "texts": texts,
        "embeddings": {"float": texts.iter().enumerate().map(vector).collect::<Vec<_>>()},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": texts.len()}},
    })
}

/// Puts the longest document first, in the order of the request all the same: who reads it must sort.
fn order(request: &Value) -> Value {
    let documents = request.get("documents").and_then(Value::as_array).cloned().unwrap_or_default();
    let place = |(index, document): (usize, &Value)| {
        let length = document.as_str().unwrap_or_default().len();
        json!({"index": index, "relevance_score": length as f64 / 100.0})
    };
    json!({
        "id": "scripted",
        "results": documents.iter().enumerate().map(place).collect::<Vec<_>>(),
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    })
}
