use super::*;
use crate::wire::{
    Annotation, AnswerHead, Media, MediaSource, Message, Part, PartKind, Reasoning, assemble,
    fixtures::{call, words},
    openai::{answer::completion, stream::Chunks},
};
use proptest::prelude::*;

fn stamp() -> Stamp {
    Stamp { id: "1".into(), created: 7, model: "claude".into() }
}

fn content(text: &str) -> ChatEvent {
    ChatEvent { content: text.into(), ..ChatEvent::default() }
}

fn end(reason: &str) -> ChatEvent {
    ChatEvent { finish_reason: reason.into(), ..ChatEvent::default() }
}

fn thought(text: &str, signature: &str) -> ChatEvent {
    let piece = Reasoning {
        text: text.into(),
        signature: signature.into(),
        kind: "anthropic".into(),
        ..Reasoning::default()
    };
    ChatEvent { reasoning_content: text.into(), reasoning: vec![piece], ..ChatEvent::default() }
}

fn usage() -> TokenUsage {
    TokenUsage {
        prompt: 10,
        completion: 5,
        total: 15,
        cached: 4,
        cache_write: 1,
        reasoning: 2,
        ..TokenUsage::default()
    }
}

/// All that the events are as a stream.
fn stream(mut writer: ChatWriter, events: Vec<ChatEvent>) -> String {
    let mut out = Vec::new();
    for event in events {
        writer.event(&stamp(), event, &mut out);
    }
    writer.end(&stamp(), &mut out);
    String::from_utf8(out).unwrap()
}

/// What each chunk's choice says, or its usage.
fn chunks(stream: &str) -> Vec<Value> {
    let mut blocks: Vec<_> = stream.split_terminator("\n\n").collect();
    assert_eq!(blocks.pop(), Some("data: [DONE]"), "{stream}");
    let chunk = |block: &str| {
        assert!(!block.contains('\n'), "one line: {block}");
        let chunk: Value = serde_json::from_str(block.strip_prefix("data: ").unwrap()).unwrap();
        let same = [&chunk["id"], &chunk["object"], &chunk["created"], &chunk["model"]];
        assert_eq!(
            same,
            [&json!("chatcmpl-1"), &json!("chat.completion.chunk"), &json!(7), &json!("claude")]
        );
        match chunk["choices"].as_array().unwrap().as_slice() {
            [] => chunk["usage"].clone(),
            [choice] => choice.clone(),
            more => panic!("{more:?}"),
        }
    };
    blocks.into_iter().map(chunk).collect()
}

fn deltas(stream: &str) -> Vec<Value> {
    chunks(stream).iter().map(|choice| choice["delta"].clone()).collect()
}

fn role() -> Value {
    json!({"role": "assistant", "content": ""})
}

#[test]
fn a_stream_is_told_in_the_order_of_openai() {
    let events = vec![
        thought("h", ""),
        thought("m", ""),
        thought("", "s"),
        content("He"),
        ChatEvent::default(),
        content("llo"),
        call(0, "a", "f", "{\"x\""),
        call(0, "", "", ":1}"),
        call(1, "b", "g", ""),
        call(1, "", "", "{}"),
        ChatEvent { usage: Some(usage()), ..end("tool_calls") },
    ];
    let told = stream(ChatWriter::new(false, false), events);
    let detail = |fields: Value| {
        let mut detail = json!({"type": "reasoning.text", "index": 0});
        detail.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!([detail])
    };
    let first = detail(json!({"format": "anthropic-claude-v1", "place": 0, "text": "h"}));
    let begun = |index: i32, id: &str, name: &str, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
    };
    let more = |index: i32, arguments: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]});
    let expected = [
        role(),
        json!({"reasoning_content": "h", "reasoning_details": first}),
        json!({"reasoning_content": "m", "reasoning_details": detail(json!({"text": "m"}))}),
        json!({"reasoning_details": detail(json!({"signature": "s"}))}),
        json!({"content": "He"}),
        json!({"content": "llo"}),
        begun(0, "a", "f", "{\"x\""),
        more(0, ":1}"),
        begun(1, "b", "g", ""),
        more(1, "{}"),
        json!({}),
    ];
    assert_eq!(deltas(&told), expected);
    let reasons: Vec<_> = chunks(&told).iter().map(|choice| choice["finish_reason"].clone()).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.is_null()).count(), reasons.len() - 1);
    assert_eq!(reasons.last(), Some(&json!("tool_calls")));
    assert!(!told.contains("usage"), "nobody asked for it");
}

#[test]
fn usage_comes_last_where_it_is_asked_for() {
    let events = vec![content("a"), ChatEvent { usage: Some(usage()), ..end("stop") }];
    let told = stream(ChatWriter::new(true, false), events);
    let expected = json!({
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0, "cache_write_tokens": 1},
        "completion_tokens_details": {
            "reasoning_tokens": 2, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    });
    assert_eq!(chunks(&told).last(), Some(&expected));
    assert_eq!(told.matches("\"usage\":null").count(), 3, "{told}");
    let none = stream(ChatWriter::new(true, false), vec![content("a"), end("stop")]);
    assert_eq!(chunks(&none).last().unwrap()["finish_reason"], "stop");
}

#[test]
fn a_choice_begins_behind_those_before_it() {
    let told = stream(ChatWriter::default(), vec![ChatEvent { index: 2, ..content("c") }, content("a")]);
    let seen: Vec<_> =
        chunks(&told).iter().map(|choice| (choice["index"].clone(), choice["delta"].clone())).collect();
    let expected = [
        (json!(0), role()),
        (json!(1), role()),
        (json!(2), role()),
        (json!(2), json!({"content": "c"})),
        (json!(0), json!({"content": "a"})),
    ];
    assert_eq!(seen, expected);
    let far = stream(ChatWriter::default(), vec![ChatEvent { index: i32::MAX, ..content("x") }]);
    assert!(chunks(&far).len() < 200);
    stream(ChatWriter::default(), vec![ChatEvent { index: -1, ..content("x") }]);
}

#[test]
fn references_and_pictures_are_told_once() {
    let page = |url: &str| {
        let annotation = Annotation { url: url.into(), ..Annotation::default() };
        let rare = RareEvent { annotations: vec![annotation], ..RareEvent::default() };
        ChatEvent { rare: Some(Box::new(rare)), ..ChatEvent::default() }
    };
    let picture = || {
        let media = Media {
            source: MediaSource::Data(b"abc".to_vec()),
            mime_type: "image/png".into(),
            ..Media::default()
        };
        let rare = RareEvent { parts: vec![PartKind::Image(media).into()], ..RareEvent::default() };
        ChatEvent { rare: Some(Box::new(rare)), ..ChatEvent::default() }
    };
    let events = vec![page("https://a"), content("x"), page("https://b"), picture(), picture(), end("stop")];
    let told = deltas(&stream(ChatWriter::default(), events));
    let image = |index: i32| json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}, "index": index});
    assert_eq!(told[..2], [role(), json!({"content": "x"})]);
    assert_eq!((&told[2]["images"], &told[3]["images"]), (&json!([image(0)]), &json!([image(1)])));
    let urls: Vec<_> =
        told[4]["annotations"].as_array().unwrap().iter().map(|one| &one["url_citation"]["url"]).collect();
    assert_eq!(urls, ["https://a", "https://b"]);
    assert_eq!(told[5], json!({}));
}

#[test]
fn what_functions_were_asked_for_is_a_function_call() {
    let events =
        vec![call(0, "a", "f", ""), call(0, "", "", "{}"), call(1, "b", "g", "{}"), end("tool_calls")];
    let told = stream(ChatWriter::new(false, true), events);
    let expected = [
        role(),
        json!({"function_call": {"name": "f", "arguments": ""}}),
        json!({"function_call": {"arguments": "{}"}}),
        json!({}),
    ];
    assert_eq!(deltas(&told), expected);
    assert_eq!(chunks(&told).last().unwrap()["finish_reason"], "function_call");
}

#[test]
fn what_follows_the_provider_s_own_frames_fits_them() {
    let mut writer = ChatWriter::default();
    let head = AnswerHead { id: "chatcmpl-1".into(), model: "claude".into(), ..AnswerHead::default() };
    let rare = RareEvent { head, ..RareEvent::default() };
    writer.heard(&ChatEvent { rare: Some(Box::new(rare)), ..content("a") });
    writer.heard(&call(0, "c", "f", "{}"));
    let mut out = Vec::new();
    let other = Stamp { id: "2".into(), created: 7, model: "other".into() };
    writer.event(&other, content("b"), &mut out);
    writer.event(&other, call(5, "d", "g", "{}"), &mut out);
    writer.end(&other, &mut out);
    let told = deltas(&String::from_utf8(out).unwrap());
    assert_eq!((&told[0], &told[1]["tool_calls"][0]["index"]), (&json!({"content": "b"}), &json!(1)));
}

#[test]
fn a_failure_and_a_sign_of_life_are_events_of_their_own() {
    let mut out = Vec::new();
    let report = ErrorReport {
        status: 503,
        reason: "UPSTREAM_CONNECTION".into(),
        message: "m\nn".into(),
        ..ErrorReport::default()
    };
    ChatWriter::default().error(&stamp(), &report, &mut out);
    let text = String::from_utf8(out).unwrap();
    let error: Value =
        serde_json::from_str(text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap()).unwrap();
    assert_eq!(
        (&error["error"]["message"], &error["error"]["type"]),
        (&json!("m\nn"), &json!("server_error"))
    );
    assert_eq!(ChatWriter::default().keep_alive(), b": keep-alive\n\n");
}

fn whole(writer: &mut ChatWriter, reply: ChatReply) -> Value {
    serde_json::from_slice(&writer.whole(&stamp(), Output::Chat(Box::new(reply)))).unwrap()
}

#[test]
fn a_whole_answer_is_openais() {
    let audio = Part {
        extra: Map::from_iter([("transcript".to_owned(), "hi".into())]).into(),
        ..PartKind::Audio(Media { source: MediaSource::Data(b"abc".to_vec()), ..Media::default() }).into()
    };
    let choice = Choice {
        message: Message {
            content: Content::Parts(vec![
                PartKind::Text("a".into()).into(),
                audio,
                PartKind::Text("b".into()).into(),
            ]),
            tool_calls: call(0, "c", "f", "{}").tool_calls,
            reasoning_content: "hm".into(),
            reasoning: thought("hm", "s").reasoning,
            annotations: vec![Annotation { url: "https://h".into(), ..Annotation::default() }],
            ..Message::default()
        },
        finish_reason: "pause_turn".into(),
        stop_sequence: "END".into(),
        ..Choice::default()
    };
    let head = AnswerHead { id: "msg_1".into(), service_tier: "standard".into(), ..AnswerHead::default() };
    let second = Choice { index: 1, finish_reason: "length".into(), ..Choice::default() };
    let reply =
        ChatReply { head, choice, more_choices: vec![second], usage: Some(usage()), ..ChatReply::default() };
    let expected = json!({
        "id": "msg_1", "object": "chat.completion", "created": 7, "model": "claude", "service_tier": "standard",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant", "content": "ab", "refusal": null, "reasoning_content": "hm",
                    "audio": {"id": "audio_1", "data": "YWJj", "expires_at": 7, "transcript": "hi"},
                    "reasoning_details": [{"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1", "place": 0, "text": "hm", "signature": "s"}],
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://h", "title": "", "start_index": 0, "end_index": 0}}],
                },
                "logprobs": null, "finish_reason": "stop", "stop_reason": "END",
            },
            {
                "index": 1, "message": {"role": "assistant", "content": "", "refusal": null},
                "logprobs": null, "finish_reason": "length",
            },
        ],
        "usage": head::usage(&usage()),
    });
    assert_eq!(whole(&mut ChatWriter::default(), reply), expected);
}

#[test]
fn content_is_null_beside_calls_and_refusals() {
    let with = |message: Message| {
        let choice = Choice { message, ..Choice::default() };
        whole(&mut ChatWriter::new(false, true), ChatReply { choice, ..ChatReply::default() })["choices"][0]["message"].clone()
    };
    let called = with(Message { tool_calls: call(0, "c", "f", "{}").tool_calls, ..Message::default() });
    assert_eq!(called["content"], Value::Null);
    assert_eq!((&called["function_call"]["name"], called.get("tool_calls")), (&json!("f"), None));
    let refused = with(Message { refusal: "no".into(), ..Message::default() });
    assert_eq!((&refused["content"], &refused["refusal"]), (&Value::Null, &json!("no")));
}

/// What a stream can say, of one choice.
fn any_event() -> impl Strategy<Value = ChatEvent> {
    prop_oneof![
        "[a-z\\n\"]{0,6}".prop_map(|text| content(&text)),
        "[a-z]{1,4}".prop_map(|text| ChatEvent { refusal: text, ..ChatEvent::default() }),
        ("[a-z]{1,4}", "[a-z]{0,2}").prop_map(|(text, signature)| thought(&text, &signature)),
        ("[a-z]{1,3}", "[a-z]{1,3}").prop_map(|(id, name)| call(0, &id, &name, "{}")),
    ]
}

proptest! {
    /// The client's side of the house reads what its server's side writes.
    #[test]
    fn what_is_streamed_is_read_as_it_was(mut events in prop::collection::vec(any_event(), 0..8), reason in "stop|length|tool_calls") {
        // Calls are numbered, and each has an id of its own.
        let calls = events.iter_mut().flat_map(|event| &mut event.tool_calls);
        for (place, call) in calls.enumerate() {
            call.index = i32::try_from(place).unwrap();
            call.id = format!("{}{place}", call.id);
        }
        events.push(content("."));
        events.push(end(&reason));
        let told = stream(ChatWriter::default(), events.clone());
        let heard = words(Chunks::default(), &[told.as_bytes()]).into_iter().map(Result::unwrap);
        let (told, heard) = (assemble(events).unwrap().choice, assemble(heard).unwrap().choice);
        prop_assert_eq!(heard.message.content, told.message.content);
        prop_assert_eq!(heard.message.reasoning_content, told.message.reasoning_content);
        prop_assert_eq!(heard.message.refusal, told.message.refusal);
        prop_assert_eq!(heard.message.tool_calls, told.message.tool_calls);
        prop_assert_eq!(heard.finish_reason, told.finish_reason);
    }

    #[test]
    fn what_is_written_whole_is_read_as_it_was(text in "[ -~]{1,20}", thought in "[a-z]{0,4}", calls in prop::collection::vec("[a-z]{1,3}", 0..3)) {
        let calls = (0..).zip(calls).map(|(place, name)| call(place, &format!("{name}{place}"), &name, "{\"a\": 1}").tool_calls.remove(0));
        let message = Message {
            role: "assistant".into(),
            content: Content::Text(text),
            reasoning_content: thought,
            tool_calls: calls.collect(),
            ..Message::default()
        };
        let choice = Choice { message, finish_reason: "stop".into(), ..Choice::default() };
        let reply = ChatReply { choice: choice.clone(), usage: Some(usage()), ..ChatReply::default() };
        let body = ChatWriter::default().whole(&stamp(), Output::Chat(Box::new(reply)));
        let read = completion(&body).unwrap();
        prop_assert_eq!(read.usage, Some(usage()));
        let read = Message { reasoning: Vec::new(), ..read.choice.message };
        prop_assert_eq!(read, choice.message);
    }
}
