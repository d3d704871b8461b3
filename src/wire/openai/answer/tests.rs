use super::*;
use crate::wire::{MediaSource, Reasoning, fixtures::reported};
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
                    {"id": "c2", "function": {"name": "g", "arguments": {"z": 2, "b": 1.50}}},
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
        ..ToolCall::default()
    };
    let thought = Reasoning { text: "hm".into(), ..Reasoning::default() };
    let message = Message {
        role: "assistant".into(),
        tool_calls: vec![call(0, "c1", "f", "{\"a\":1}"), call(1, "c2", "g", "{\"z\":2,\"b\":1.5}")],
        reasoning_content: "hm".into(),
        reasoning: vec![thought],
        refusal: "no".into(),
        ..Message::default()
    };
    let usage =
        TokenUsage { prompt: 10, completion: 5, total: 15, cached: 4, reasoning: 3, ..TokenUsage::default() };
    let head = AnswerHead {
        id: "x".into(),
        model: "m-1".into(),
        system_fingerprint: "fp".into(),
        service_tier: "default".into(),
        ..AnswerHead::default()
    };
    let choice = Choice { message, finish_reason: "tool_calls".into(), ..Choice::default() };
    assert_eq!(reply, ChatReply { head, choice, usage: Some(usage), ..ChatReply::default() });
}

#[test]
fn what_no_field_names_is_handed_on() {
    let reply = read(json!({
        "provider": "p", "choices": [
            {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
            {"index": 0, "finish_reason": "stop", "stop_reason": "END", "logprobs": {"content": [{"token": "a"}]},
                "content_filter_results": {"hate": {"filtered": false}},
                "message": {"content": "a", "future": {"x": [1]}, "annotations": [
                    {"type": "url_citation", "url_citation": {"url": "http://u", "title": "t", "start_index": 1}},
                ]}},
        ],
    }))
    .unwrap();
    let (first, second) = (&reply.choice, &reply.more_choices[0]);
    assert_eq!((second.index, second.finish_reason.as_str()), (1, "length"));
    assert_eq!(first.stop_sequence, "END");
    assert_eq!(first.logprobs, Some(Box::new(json!({"content": [{"token": "a"}]}))));
    assert_eq!(
        Value::from(first.extra.clone()),
        json!({"content_filter_results": {"hate": {"filtered": false}}})
    );
    assert_eq!(Value::from(first.message.extra.fields.clone()), json!({"future": {"x": [1]}}));
    assert_eq!(Value::from(reply.extra), json!({"provider": "p"}));
    let annotation = &first.message.annotations[0];
    assert_eq!((annotation.url.as_str(), annotation.title.as_str()), ("http://u", "t"));
}

#[test]
fn reasoning_is_read_wherever_it_stands() {
    let table = [
        json!({"reasoning_content": "hm"}),
        json!({"reasoning_content": "", "reasoning": "hm"}),
        json!({"reasoning": null, "thinking": "hm"}),
        json!({"reasoning": "hm", "reasoning_details": [
            {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "f", "index": 0}]}),
        json!({"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}),
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}]}),
        json!({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": ""}]}),
    ];
    for message in table {
        let reply = read(json!({"choices": [{"message": message}]})).unwrap();
        assert_eq!(reply.choice.message.reasoning_content, "hm", "{message}");
        let [piece] = reply.choice.message.reasoning.as_slice() else { panic!("{message}") };
        assert_eq!(piece.text, "hm");
    }
}

#[test]
fn media_in_an_answer_are_parts() {
    let reply = read(json!({"choices": [{"message": {
        "content": "look", "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}}],
        "audio": {"id": "a1", "data": "UklGRg==", "transcript": "hi"},
    }}]}))
    .unwrap();
    let Content::Parts(parts) = &reply.choice.message.content else { panic!("{reply:?}") };
    let [text, audio, image] = parts.as_slice() else { panic!("{parts:?}") };
    assert_eq!(text.text(), Some("look"));
    assert!(
        matches!(&audio.kind, PartKind::Audio(media) if media.source == MediaSource::Data(b"RIFF".to_vec()) && media.mime_type == "audio/wav")
    );
    assert_eq!(audio.extra.fields["transcript"], "hi");
    assert!(matches!(&image.kind, PartKind::Image(media) if media.mime_type == "image/png"));
}

#[test]
fn errors_under_200_are_errors_and_empty_ones_are_not() {
    let good = json!([{"message": {"content": "x"}}]);
    for error in
        [json!(""), json!({}), json!(null), json!(false), json!([]), json!({"message": "", "code": null})]
    {
        assert!(read(json!({"error": error, "choices": good})).is_ok(), "{error}");
    }
    assert!(read(json!({"base_resp": {"status_code": 0, "status_msg": ""}, "choices": good})).is_ok());
    let table = [
        (json!({"base_resp": {"status_code": 1008, "status_msg": "no money"}, "choices": null}), "1008"),
        (json!({"object": "error", "message": "m", "code": 40001}), "40001"),
        (json!({"code": "InvalidParameter", "message": "m", "request_id": "r"}), "InvalidParameter"),
        (json!({"choices": [{"finish_reason": "error", "message": {"content": "half"}}]}), ""),
        (
            json!({"choices": [{"error": {"code": 502, "message": "m"}, "message": {"content": "half"}}]}),
            "502",
        ),
        (
            json!({"choices": [{"finish_reason": "content_filter", "content_filter_results": {"error": {"code": "x"}}}]}),
            "content_filter",
        ),
    ];
    for (body, code) in table {
        assert_eq!(reported(read(body.clone())).0, code, "{body}");
    }
    let billed = json!({"choices": [], "usage": {"prompt_tokens": 5}});
    assert_eq!(read(billed), Err(ReadError::NoMessage));
}

#[test]
fn an_end_says_whether_the_answer_is_one() {
    let read = |message: Value, reason: &str| {
        let choice = json!({"index": 0, "message": message, "finish_reason": reason});
        read(json!({"choices": [choice], "usage": {"prompt_tokens": 5}}))
    };
    for reason in ["network_error", "insufficient_system_resource"] {
        assert_eq!(reported(read(json!({"content": "half"}), reason)).0, reason);
    }
    // Gemini, where it speaks OpenAI's API (<https://ai.google.dev/gemini-api/docs/openai>).
    let blocked = "content_filter: PROHIBITED_CONTENT";
    for message in [Value::Null, json!({"role": "assistant", "content": ""})] {
        assert_eq!(reported(read(message, blocked)).0, FILTERED);
    }
    let cut = read(json!({"content": "half"}), blocked).unwrap().choice;
    assert_eq!((&*cut.finish_reason, &cut.extra["finish_reason"]), (FILTERED, &json!(blocked)));
    let unusable = "function_call_filter: MALFORMED_FUNCTION_CALL";
    assert_eq!(reported(read(json!({"role": "assistant"}), unusable)).0, "MALFORMED_FUNCTION_CALL");
    assert_eq!(read(json!({"content": "call:f{}"}), unusable).unwrap().choice.finish_reason, unusable);
    assert_eq!(read(json!({"content": "a"}), "sensitive").unwrap().choice.finish_reason, FILTERED);
}

#[test]
fn sparse_answers_are_read() {
    let reply =
        read(json!({"choices": [{"message": {"content": "x", "reasoning": "y"}}], "usage": null})).unwrap();
    let message = reply.choice.message;
    assert_eq!(message.content, Content::Text("x".into()));
    assert_eq!((message.role.as_str(), message.reasoning_content.as_str()), ("assistant", "y"));
    let parts = json!([{"type": "thinking"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 2});
    let reply = read(json!({"choices": [{"message": {"content": parts}}], "usage": usage})).unwrap();
    assert_eq!(reply.choice.message.content, Content::Text("ab".into()));
    assert_eq!(reply.usage.unwrap().total, 3);
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
