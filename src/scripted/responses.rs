//! OpenAI's Responses API (API reference, "Create a model response", "Streaming events";
//! <https://developers.openai.com/docs/guides/streaming-responses>). It reasons where `reasoning` is asked for, and does not
//! want that back.

use super::{
    Recorded,
    dialect::{Answer, Call, Dialect, Pieces, calls, content, wants_stream},
    openai::OpenAi,
    thinking::{signature, thought},
};
use axum::body::Bytes;
use serde_json::{Value, json};

/// Knows its requests by their path.
pub(super) struct Responses;

impl Dialect for Responses {
    fn serves(&self, request: &Recorded) -> bool {
        matches!(&*request.path, "/v1/responses" | "/openai/v1/responses" | "/openai/responses")
    }

    fn key<'a>(&self, request: &'a Recorded) -> Option<&'a str> {
        OpenAi.key(request)
    }

    fn answer(&self, request: &Recorded) -> Option<Answer> {
        Some(if wants_stream(request) {
            Answer::Pieces(self.pieces(request))
        } else {
            Answer::Whole(response(request, "completed", &items(request).into()))
        })
    }

    fn error(&self, status: u16, key: &str) -> Value {
        OpenAi.error(status, key)
    }

    /// Of this API alone an error in a stream is an event like the others ("Streaming events", `error`).
    fn event_around(&self, error: &Value) -> Value {
        let field = |name: &str| error.get(name);
        json!({
            "type": "error",
            "code": field("code"),
            "message": field("message"),
            "param": field("param"),
            "sequence_number": 99,
        })
    }

    fn frame(&self, event: &Value) -> Bytes {
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n").into()
    }
}

impl Responses {
    /// The same answer as events. What comes before any content and behind it stays apart.
    fn pieces(&self, request: &Recorded) -> Pieces {
        let items = items(request);
        let open = response(request, "in_progress", &json!([]));
        let mut events = vec![
            json!({"type": "response.created", "response": open}),
            json!({"type": "response.in_progress", "response": open}),
        ];
        for (place, item) in items.iter().enumerate() {
            events.extend(in_events(place, item, &content(request)));
        }
        let whole = response(request, "completed", &items.into());
        events.push(json!({"type": "response.completed", "response": whole}));
        for (event, number) in events.iter_mut().zip(0..) {
            event["sequence_number"] = number.into();
        }

        let is_content = |event: &Value| {
            event
                .get("type")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.rsplit('.').next() == Some("delta"))
        };
        let frame = |event: &Value| self.frame(event);
        let first = events.iter().position(is_content).unwrap_or_default();
        let behind = events.iter().rposition(is_content).map_or(0, |last| last + 1);
        let (before, rest) = events.split_at(first);
        let (content, after) = rest.split_at(behind.saturating_sub(first));
        let (last, end) = after.split_last().map_or((None, after), |(last, end)| (Some(last), end));
        Pieces {
            start: before.iter().map(frame).collect(),
            end: end.iter().map(frame).collect(),
            done: last.into_iter().map(frame).collect(),
            // A piece ends with its content.
            ..Pieces::plain(
                "text/event-stream",
                content
                    .split_inclusive(is_content)
                    .map(|piece| piece.iter().map(frame).collect::<Vec<_>>().concat().into())
                    .collect(),
            )
        }
    }
}

/// The tools to call, as the prompt says, unless the conversation ends with a tool's result.
fn tools(request: &Recorded) -> Vec<Call<'_>> {
    let last = request.body.get("input").and_then(Value::as_array).and_then(|items| items.last());
    let answered = last.and_then(|item| item.get("type")).is_some_and(|kind| kind == "function_call_output");
    let tools = request.body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = tools.iter().filter_map(|tool| tool.get("name")?.as_str());
    if answered { Vec::new() } else { calls(request, names) }
}

/// What the answer consists of.
fn items(request: &Recorded) -> Vec<Value> {
    let reasoning = request.body.get("reasoning").filter(|reasoning| reasoning.is_object()).map(|_| {
        json!({
            "id": "rs_1",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": thought(1)}],
            "encrypted_content": signature(&thought(1)),
        })
    });
    let calls = tools(request);
    let text = calls.is_empty().then(|| {
        let part = json!({"type": "output_text", "text": content(request).concat(), "annotations": [], "logprobs": []});
        json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]})
    });
    let call = |call: &Call| {
        json!({
            "id": format!("fc_{}", call.place),
            "type": "function_call",
            "status": "completed",
            "call_id": format!("call_{}", call.place),
            "name": call.name,
            "arguments": call.arguments.to_string(),
        })
    };
    reasoning.into_iter().chain(text).chain(calls.iter().map(call)).collect()
}

/// What makes an item in a stream: it is added empty, gains its content, and is done.
fn in_events(place: usize, item: &Value, texts: &[String]) -> Vec<Value> {
    let id = item.get("id");
    let mut empty = item.clone();
    let event = |kind: &str, fields: Value| {
        let mut event = json!({"type": format!("response.{kind}"), "item_id": id, "output_index": place});
        if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
            event.extend(fields);
        }
        event
    };
    let content = match item.get("type").and_then(Value::as_str) {
        Some("message") => {
            empty["status"] = "in_progress".into();
            empty["content"] = json!([]);
            let part = item.pointer("/content/0");
            let text = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
            let at = |mut fields: Value| {
                fields["content_index"] = 0.into();
                fields
            };
            let delta =
                |text: &String| event("output_text.delta", at(json!({"delta": text, "logprobs": []})));
            let done = item.pointer("/content/0/text");
            [event("content_part.added", at(json!({ "part": text })))]
                .into_iter()
                .chain(texts.iter().map(delta))
                .chain([
                    event("output_text.done", at(json!({"text": done, "logprobs": []}))),
                    event("content_part.done", at(json!({ "part": part }))),
                ])
                .collect()
        }
        Some("function_call") => {
            empty["status"] = "in_progress".into();
            empty["arguments"] = "".into();
            let arguments = item.get("arguments").and_then(Value::as_str).unwrap_or_default();
            let (begin, rest) = arguments.split_at_checked(1).unwrap_or_default();
            let delta = |text| event("function_call_arguments.delta", json!({ "delta": text }));
            let done = json!({"name": item.get("name"), "arguments": arguments});
            vec![delta(begin), delta(rest), event("function_call_arguments.done", done)]
        }
        _ => {
            empty["summary"] = json!([]);
            let part = item.pointer("/summary/0");
            let text = item.pointer("/summary/0/text");
            let none = json!({"type": "summary_text", "text": ""});
            vec![
                event("reasoning_summary_part.added", json!({"summary_index": 0, "part": none})),
                event("reasoning_summary_text.delta", json!({"summary_index": 0, "delta": text})),
                event("reasoning_summary_text.done", json!({"summary_index": 0, "text": text})),
                event("reasoning_summary_part.done", json!({"summary_index": 0, "part": part})),
            ]
        }
    };
    let whole = |kind: &str, item: &Value| json!({"type": format!("response.output_item.{kind}"), "output_index": place, "item": item});
    [whole("added", &empty)].into_iter().chain(content).chain([whole("done", item)]).collect()
}

/// An answer, or what is told of one that has begun.
fn response(request: &Recorded, status: &str, output: &Value) -> Value {
    let given = |name: &str| request.body.get(name).cloned().unwrap_or_default();
    let or = |name: &str, usual: Value| request.body.get(name).cloned().unwrap_or(usual);
    let usage = json!({
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 13,
    });
    json!({
        "id": "resp_scripted",
        "object": "response",
        "created_at": 0,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "instructions": given("instructions"),
        "max_output_tokens": given("max_output_tokens"),
        "model": given("model"),
        "output": output,
        "parallel_tool_calls": or("parallel_tool_calls", true.into()),
        "previous_response_id": given("previous_response_id"),
        "reasoning": or("reasoning", json!({"effort": null, "summary": null})),
        "store": or("store", true.into()),
        "temperature": or("temperature", 1.0.into()),
        "text": or("text", json!({"format": {"type": "text"}})),
        "tool_choice": or("tool_choice", "auto".into()),
        "tools": or("tools", json!([])),
        "top_p": or("top_p", 1.0.into()),
        "truncation": "disabled",
        "usage": if status == "completed" { usage } else { Value::Null },
        "user": given("user"),
        "metadata": or("metadata", json!({})),
    })
}
