//! What responses and their events mean.

use super::*;
use crate::wire::{
    TokenUsage,
    fixtures::{call, end_of, fails, reported, same_wherever_cut, words},
};
use serde_json::Value;

/// Events as OpenAI sends them.
fn stream(events: &[Value]) -> String {
    let frame = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(frame).collect()
}

fn read(chunks: &[&[u8]]) -> Vec<Result<ChatEvent, ReadError>> {
    words(Events::default(), chunks)
}

fn created() -> Value {
    let response = json!({"id": "resp_1", "object": "response", "status": "in_progress", "model": "m", "output": [],
        "error": null, "usage": null, "service_tier": "default", "tools": [{"type": "function", "name": "f"}]});
    json!({"type": "response.created", "sequence_number": 0, "response": response})
}

fn usage() -> Value {
    json!({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14})
}

fn head() -> AnswerHead {
    AnswerHead {
        id: "resp_1".into(),
        model: "m".into(),
        service_tier: "default".into(),
        ..AnswerHead::default()
    }
}

#[test]
fn a_stream_means_the_same_wherever_it_is_cut() {
    let text = stream(&[
        created(),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1", "summary": []}}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "hm"}),
        json!({"type": "response.output_item.done", "output_index": 0,
            "item": {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "id": "msg_1", "content": []}}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Grüße 🌍"}),
        json!({"type": "response.output_text.done", "output_index": 1, "content_index": 0, "text": "Grüße 🌍"}),
        json!({"type": "response.tomorrow", "x": {"y": 1}}),
        json!({"type": "response.output_item.added", "output_index": 2,
            "item": {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"}),
        json!({"type": "response.output_item.added", "output_index": 3,
            "item": {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c2", "name": "g", "input": ""}}),
        json!({"type": "response.custom_tool_call_input.delta", "output_index": 3, "delta": "x"}),
        json!({"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "usage": usage()}}),
    ]);
    let mut first = think(Reasoning { text: "hm".into(), ..Reasoning::default() });
    first.rare().head = head();
    let mut custom = call(1, "c2", "g", "");
    custom.tool_calls[0].kind = "custom".into();
    let usage =
        TokenUsage { prompt: 9, completion: 5, total: 14, cached: 4, reasoning: 2, ..TokenUsage::default() };
    let expected = [
        first,
        think(Reasoning { data: "e".into(), id: "rs_1".into(), ..Reasoning::default() }),
        ChatEvent { content: "Grüße 🌍".into(), ..ChatEvent::default() },
        call(0, "c1", "f", ""),
        call(0, "", "", "{}"),
        custom,
        call(1, "", "", "x"),
        ChatEvent { finish_reason: "tool_calls".into(), usage: Some(usage), ..ChatEvent::default() },
    ];
    same_wherever_cut(&text, read, &expected.into_iter().map(Ok).collect());
}

#[test]
fn a_failure_is_an_error_in_whatever_form() {
    let fields = json!({"code": "rate_limit_exceeded", "message": "slow down"});
    let table = [
        json!({"type": "response.failed", "response": {"id": "r", "status": "failed", "error": fields}}),
        json!({"type": "error", "error": fields}),
        json!({"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": null}),
    ];
    for event in table {
        let named = stream(&[created(), event.clone()]);
        for text in [named, format!("data: {event}\n\n")] {
            let error = end_of(Events::default(), &text).ok_or(ReadError::EndedEarly);
            let expected = ("rate_limit_exceeded".into(), "slow down".into());
            assert_eq!(reported(Err::<(), _>(error.unwrap())), expected, "{text}");
        }
    }
    let silent = stream(&[created(), json!({"type": "response.failed", "response": {"status": "failed"}})]);
    assert!(matches!(end_of(Events::default(), &silent), Some(ReadError::Reported(_))));
    assert_eq!(end_of(Events::default(), &stream(&[created()])), Some(ReadError::EndedEarly));
    assert_eq!(end_of(Events::default(), "data: {}\n\n"), Some(ReadError::MALFORMED));
}

#[test]
fn ends_are_told_apart() {
    let table = [
        (json!({"status": "completed"}), "stop"),
        (json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}), "length"),
        (
            json!({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}),
            "content_filter",
        ),
        (json!({"status": "incomplete"}), "length"),
    ];
    for (response, reason) in table {
        let kind = format!("response.{}", response["status"].as_str().unwrap());
        for delta in [None, Some(json!({"type": "response.output_text.delta", "delta": "a"}))] {
            let mut events = vec![created()];
            events.extend(delta);
            events.push(json!({"type": kind, "response": response}));
            let said = read(&[stream(&events).as_bytes()]).pop().unwrap().unwrap();
            assert_eq!(said.finish_reason, reason, "{response}");
        }
    }
}

#[test]
fn a_tool_that_the_provider_runs_is_content() {
    let item = json!({"type": "web_search_call", "id": "ws_1", "status": "in_progress"});
    let text =
        stream(&[created(), json!({"type": "response.output_item.added", "output_index": 0, "item": item})]);
    let said = read(&[text.as_bytes()]).remove(0).unwrap();
    assert!(said.is_content());
    assert_eq!(said.rare.unwrap().head, head());
}

fn whole() -> Value {
    json!({
        "id": "resp_1", "object": "response", "status": "completed", "model": "m", "service_tier": "default",
        "error": null, "incomplete_details": null, "usage": usage(), "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "message", "id": "msg_1", "role": "assistant", "content": [
                {"type": "output_text", "text": "a", "annotations": []}, {"type": "refusal", "refusal": "no"}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
        ],
    })
}

#[test]
fn a_whole_response_is_read() {
    let reply = response(whole().to_string().as_bytes()).unwrap();
    let message = &reply.choice.message;
    assert_eq!((&reply.head, reply.choice.finish_reason.as_str()), (&head(), "tool_calls"));
    assert_eq!((message.content.text().as_str(), message.refusal.as_str()), ("a", "no"));
    assert_eq!((message.reasoning_content.as_str(), message.reasoning[0].data.as_str()), ("hm", "e"));
    assert_eq!((message.tool_calls[0].id.as_str(), reply.usage.unwrap().cached), ("c1", 4));
    // In place of a stream, and as the only event of one.
    let stray = end_of(Events::default(), &whole().to_string());
    let only =
        end_of(Events::default(), &stream(&[json!({"type": "response.completed", "response": whole()})]));
    assert_eq!((stray, only), (None, None));
    let queued = json!({"id": "r", "object": "response", "status": "queued", "output": []});
    assert_eq!(response(queued.to_string().as_bytes()).unwrap().choice.finish_reason, "");
}

#[test]
fn what_is_no_response_is_an_error() {
    let failed =
        json!({"object": "response", "status": "failed", "error": {"code": "server_error", "message": "m"}});
    assert_eq!(reported(response(failed.to_string().as_bytes())), ("server_error".into(), "m".into()));
    let silent = json!({"object": "response", "status": "failed", "error": null});
    assert!(matches!(response(silent.to_string().as_bytes()), Err(ReadError::Reported(_))));
    for body in ["", "{}", "[]", "{\"choices\":[]}", "<html>", "{\"object\":\"list\",\"data\":[]}"] {
        assert_eq!(response(body.as_bytes()).err(), Some(ReadError::MALFORMED), "{body}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_breaks_it(chunks: Vec<Vec<u8>>, body: Vec<u8>) {
        proptest::prop_assert!(fails(Events::default(), &chunks));
        let _ = response(&body);
    }
}
