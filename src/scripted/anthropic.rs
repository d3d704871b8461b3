//! Anthropic's Messages API (API reference, "Create a Message", "Streaming messages", "Errors"; "Extended thinking").

use super::{
    Recorded,
    dialect::{Answer, Call, Dialect, Pieces, bearer, calls, content, header, wants_stream},
    thinking::{signature, thought},
};
use axum::{body::Bytes, http::StatusCode};
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
            "/v1/messages" if thinks(request) => Some(self.thinking(request)),
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
    /// Thinks, and checks that what it has thought before has come back.
    fn thinking(&self, request: &Recorded) -> Answer {
        if let Some(why) = altered(request) {
            let error = json!({"type": "invalid_request_error", "message": why});
            return Answer::Refused(StatusCode::BAD_REQUEST, self.around(&error));
        }
        let round = rounds(request).count() + 1;
        let tool = request.body.pointer(&format!("/tools/{}/name", round - 1)).and_then(Value::as_str);
        let (last, stop_reason) = match tool {
            Some(name) => {
                let id = format!("toolu_{round}");
                (json!({"type": "tool_use", "id": id, "name": name, "input": {"round": round}}), "tool_use")
            }
            None => (json!({"type": "text", "text": content(request).concat()}), "end_turn"),
        };
        let mut blocks = thoughts(round);
        blocks.push(last);
        if !wants_stream(request) {
            return Answer::Whole(envelope(request, &blocks.into(), &stop_reason.into(), 3));
        }
        let message = envelope(request, &json!([]), &Value::Null, 1);
        let start = [json!({"type": "message_start", "message": message})];
        let events = blocks.iter().enumerate().flat_map(|(index, block)| in_events(index, block));
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
        let end = [json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}})];
        let done = vec![self.frame(&json!({"type": "message_stop"}))];
        Answer::Pieces(Pieces { done, ..Pieces::events(self, &start, events, &end) })
    }

    fn events(&self, request: &Recorded) -> Pieces {
        let message = envelope(request, &json!([]), &Value::Null, 1);
        let mut start = vec![json!({"type": "message_start", "message": message}), json!({"type": "ping"})];
        let calls = tools(request);
        let (content, last, stop_reason) = if calls.is_empty() {
            start.push(begins(0, &json!({"type": "text", "text": ""})));
            let text = |text| gains(0, &json!({"type": "text_delta", "text": text}));
            (content(request).map(text).to_vec(), 0, "end_turn")
        } else {
            let blocks = calls.iter().enumerate().flat_map(|(index, call)| {
                let more = |text| gains(index, &json!({"type": "input_json_delta", "partial_json": text}));
                let before = index.checked_sub(1).map(ends);
                let begin = begins(index, &tool_use(call, &json!({})));
                before.into_iter().chain([begin]).chain(call.pieces().map(more))
            });
            (blocks.collect(), calls.len() - 1, "tool_use")
        };
        let end = [
            ends(last),
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

/// A block begins.
fn begins(index: usize, block: &Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

/// A block gains something.
fn gains(index: usize, delta: &Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

/// A block ends.
fn ends(index: usize) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn thinks(request: &Recorded) -> bool {
    let asked = request.body.pointer("/thinking/type");
    asked.is_some_and(|kind| kind == "enabled" || kind == "adaptive")
}

/// What it thinks in that round. Some of it only Anthropic can read ("Extended thinking", thinking redaction).
fn thoughts(round: usize) -> Vec<Value> {
    let text = thought(round);
    let mut blocks = vec![json!({"type": "thinking", "thinking": text, "signature": signature(&text)})];
    if round == 2 {
        blocks.push(json!({"type": "redacted_thinking", "data": signature("redacted")}));
    }
    blocks
}

/// The assistant's messages behind the last question, each with its place.
fn rounds(request: &Recorded) -> impl Iterator<Item = (usize, &Value)> {
    let messages =
        request.body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_question = |message: &Value| {
        message.get("role").is_some_and(|role| role == "user")
            && message.pointer("/content/0/type").is_none_or(|kind| kind != "tool_result")
    };
    let behind = messages.iter().rposition(is_question).map_or(0, |place| place + 1);
    let places = messages.iter().enumerate().skip(behind);
    places.filter(|(_, message)| message.get("role").is_some_and(|role| role == "assistant"))
}

/// Why the thinking within the loop of tools is not what it was ("Extended thinking", preserving thinking blocks; the
/// words: <https://github.com/deepset-ai/haystack-core-integrations/issues/2146>,
/// <https://github.com/anthropics/claude-code/issues/63267>).
fn altered(request: &Recorded) -> Option<String> {
    rounds(request).zip(1..).find_map(|((place, message), round)| {
        let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let kind = |block: &Value| block.get("type").and_then(Value::as_str).unwrap_or("text").to_owned();
        let is_thought = |block: &&Value| ["thinking", "redacted_thinking"].contains(&kind(block).as_str());
        let begins: Vec<Value> = blocks.iter().take_while(is_thought).cloned().collect();
        if begins.is_empty() {
            let found = blocks.first().map_or_else(|| "text".to_owned(), kind);
            return Some(format!(
                "messages.{place}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{found}`. When \
                 `thinking` is enabled, a final `assistant` message must start with a thinking block."
            ));
        }
        (begins != thoughts(round)).then(|| {
            format!(
                "messages.{place}.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message \
                 cannot be modified. These blocks must remain as they were in the original response."
            )
        })
    })
}

/// A block as a stream has it: empty first, and then what it gains.
fn in_events(index: usize, block: &Value) -> Vec<Value> {
    let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
    let delta = |delta: Value| gains(index, &delta);
    let (start, deltas) = match text("type") {
        "thinking" => {
            let (begin, end) = text("thinking").split_at_checked(5).unwrap_or_default();
            let deltas = vec![
                delta(json!({"type": "thinking_delta", "thinking": begin})),
                delta(json!({"type": "thinking_delta", "thinking": end})),
                delta(json!({"type": "signature_delta", "signature": text("signature")})),
            ];
            (json!({"type": "thinking", "thinking": "", "signature": ""}), deltas)
        }
        "tool_use" => {
            let input = block.get("input").map(ToString::to_string).unwrap_or_default();
            let mut start = block.clone();
            start["input"] = json!({});
            (start, vec![delta(json!({"type": "input_json_delta", "partial_json": input}))])
        }
        "text" => {
            let text = text("text");
            (json!({"type": "text", "text": ""}), vec![delta(json!({"type": "text_delta", "text": text}))])
        }
        _ => (block.clone(), Vec::new()),
    };
    let mut events = vec![begins(index, &start)];
    events.extend(deltas);
    events.push(ends(index));
    events
}

/// The tools to call, as the prompt says, unless the conversation ends with a tool's result.
fn tools(request: &Recorded) -> Vec<Call<'_>> {
    let last = request.body.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    let answered = last.and_then(|message| message.pointer("/content/0/type")) == Some(&"tool_result".into());
    let tools = request.body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = tools.iter().filter_map(|tool| tool.get("name")?.as_str());
    if answered { Vec::new() } else { calls(request, names) }
}

fn tool_use(call: &Call, input: &Value) -> Value {
    json!({"type": "tool_use", "id": format!("toolu_{}", call.place), "name": call.name, "input": input})
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
    let calls = tools(request);
    let (blocks, stop_reason) = if calls.is_empty() {
        (json!([{"type": "text", "text": content(request).concat()}]), "end_turn")
    } else {
        (calls.iter().map(|call| tool_use(call, &call.arguments)).collect(), "tool_use")
    };
    envelope(request, &blocks, &stop_reason.into(), 3)
}
