//! Anthropic's Messages API (API reference, "Create a Message", "Streaming messages", "Errors").

use super::{
    Recorded,
    dialect::{Answer, Dialect, Pieces, bearer, content, header, wants_stream},
};
use axum::body::Bytes;
use serde_json::{Value, json};

/// Knows its requests by the header that each of them must carry.
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn serves(&self, request: &Recorded) -> bool {
        request.path.starts_with("/v1/messages") || request.headers.contains_key("anthropic-version")
    }

    fn key<'a>(&self, request: &'a Recorded) -> Option<&'a str> {
        header(request, "x-api-key").or_else(|| bearer(request))
    }

    fn answer(&self, request: &Recorded) -> Option<Answer> {
        match request.path.as_str() {
            "/v1/messages" if wants_stream(request) => Some(Answer::Pieces(self.events(request))),
            "/v1/messages" => Some(Answer::Whole(message(request))),
            "/v1/messages/count_tokens" => Some(Answer::Whole(json!({"input_tokens": 10}))),
            "/v1/models" => Some(Answer::Whole(json!({
                "data": [{
                    "type": "model",
                    "id": "scripted",
                    "display_name": "Scripted",
                    "created_at": "2026-01-01T00:00:00Z",
                }],
                "has_more": false,
                "first_id": "scripted",
                "last_id": "scripted",
            }))),
            _ => None,
        }
    }

    fn error(&self, status: u16, key: &str) -> Value {
        let (kind, message) = match status {
            401 => ("authentication_error", format!("invalid x-api-key: {key}")),
            402 => ("billing_error", "No credit left".to_owned()),
            403 => ("permission_error", format!("{key} may not use this")),
            404 => ("not_found_error", "The model does not exist".to_owned()),
            413 => ("request_too_large", "Request too large".to_owned()),
            429 => ("rate_limit_error", "Rate limit reached for requests".to_owned()),
            400..500 => ("invalid_request_error", "Invalid request".to_owned()),
            504 => ("timeout_error", "Took too long".to_owned()),
            529 => ("overloaded_error", "Overloaded".to_owned()),
            _ => ("api_error", "The server had an error".to_owned()),
        };
        self.around(&json!({"type": kind, "message": message}))
    }

    fn around(&self, error: &Value) -> Value {
        json!({"type": "error", "error": error, "request_id": "req_scripted"})
    }

    fn frame(&self, event: &Value) -> Bytes {
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n").into()
    }
}

impl Anthropic {
    fn events(&self, request: &Recorded) -> Pieces {
        let block = |block: Value| json!({"type": "content_block_start", "index": 0, "content_block": block});
        let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta});
        let message = envelope(request, &json!([]), &Value::Null, 1);
        let mut start = vec![json!({"type": "message_start", "message": message}), json!({"type": "ping"})];
        let (content, stop_reason) = if let Some(name) = tool(request) {
            let call = block(json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}));
            let more = |text: &str| delta(json!({"type": "input_json_delta", "partial_json": text}));
            ([call, more("{"), more("}")], "tool_use")
        } else {
            start.push(block(json!({"type": "text", "text": ""})));
            let text = |text| delta(json!({"type": "text_delta", "text": text}));
            (content(&request.key).map(text), "end_turn")
        };
        let end = [
            json!({"type": "content_block_stop", "index": 0}),
            json!({
                "type": "message_delta",
                "delta": {"stop_reason": stop_reason, "stop_sequence": null},
                "usage": {"output_tokens": 3},
            }),
        ];
        let done = vec![self.frame(&json!({"type": "message_stop"}))];
        Pieces { done, ..Pieces::events(self, &start, content, &end) }
    }
}

/// The tool to call: the first, unless the conversation ends with a tool's result.
fn tool(request: &Recorded) -> Option<&str> {
    let last = request.body.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    let answered = last.and_then(|message| message.pointer("/content/0/type")) == Some(&"tool_result".into());
    request.body.pointer("/tools/0/name").and_then(Value::as_str).filter(|_| !answered)
}

/// Ten tokens go in, two of them from the cache.
fn envelope(request: &Recorded, content: &Value, stop_reason: &Value, output_tokens: u32) -> Value {
    json!({
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": request.body.get("model"),
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": 8,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 2,
            "output_tokens": output_tokens,
        },
    })
}

fn message(request: &Recorded) -> Value {
    let (block, stop_reason) = match tool(request) {
        Some(name) => (json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}), "tool_use"),
        None => (json!({"type": "text", "text": content(&request.key).concat()}), "end_turn"),
    };
    envelope(request, &json!([block]), &stop_reason.into(), 3)
}
