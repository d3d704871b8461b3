//! Answers as clients see them.

mod any;

use super::*;
use crate::wire::{
    Annotation, ChatReply, Content, EmbeddingReply, Keys, Media, MediaSource, Part, PartKind, Reasoning,
    Recipient, Switches, TokenUsage, ToolCall, anthropic, assemble,
    fixtures::{items, reported},
    gemini::stream::Chunks,
};
use serde_json::{Value, json};

fn stamp() -> Stamp {
    Stamp { id: "abc".into(), created: 1, model: "m".into() }
}

fn asks(thoughts: bool) -> Vec<u8> {
    json!({
        "contents": [{"parts": [{"text": "hi"}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": thoughts}},
    })
    .to_string()
    .into_bytes()
}

fn writer_for(framing: Framing, thoughts: bool) -> Box<dyn WriteAnswer> {
    read(&asks(thoughts), framing).unwrap().writer
}

fn streamed(writer: &mut dyn WriteAnswer, events: impl IntoIterator<Item = ChatEvent>) -> String {
    let mut out = Vec::new();
    for event in events {
        writer.event(&stamp(), event, &mut out);
    }
    writer.end(&stamp(), &mut out);
    String::from_utf8(out).unwrap()
}

fn whole(reply: ChatReply, thoughts: bool) -> Value {
    let bytes = writer_for(Framing::Events, thoughts).whole(&stamp(), Output::Chat(Box::new(reply)));
    serde_json::from_slice(&bytes).unwrap()
}

fn text(text: &str) -> ChatEvent {
    ChatEvent { content: text.into(), ..ChatEvent::default() }
}

fn calls(index: i32, id: &str, name: &str, arguments: &str) -> ChatEvent {
    let call = ToolCall {
        index,
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
        ..ToolCall::default()
    };
    ChatEvent { tool_calls: vec![call], ..ChatEvent::default() }
}

fn thinks(kind: &str, text: &str, signature: &str) -> ChatEvent {
    let piece = Reasoning {
        text: text.into(),
        signature: signature.into(),
        kind: kind.into(),
        ..Reasoning::default()
    };
    ChatEvent { reasoning_content: text.into(), reasoning: vec![piece], ..ChatEvent::default() }
}

fn ends(reason: &str) -> ChatEvent {
    ChatEvent { finish_reason: reason.into(), ..ChatEvent::default() }
}

/// What Claude says: it thinks, speaks, and calls two functions.
fn claude() -> Vec<ChatEvent> {
    let usage =
        TokenUsage { prompt: 10, completion: 9, total: 19, cached: 4, reasoning: 3, ..TokenUsage::default() };
    vec![
        thinks("anthropic", "hm", ""),
        thinks("anthropic", " so", ""),
        thinks("anthropic", "", "EqMB+/=="),
        text("Grüße "),
        text("\u{2028}🌍\n"),
        calls(0, "t1", "f", ""),
        calls(0, "", "", "{\"city\":"),
        calls(0, "", "", "\"a}\"}"),
        calls(0, "", "", " "),
        calls(1, "t2", "g", ""),
        ChatEvent { usage: Some(usage), ..ends("tool_calls") },
    ]
}

/// Its signature: the thought as a whole.
const SIGNATURE: &str =
    "cm90YToxW3sia2luZCI6ImFudGhyb3BpYyIsInRleHQiOiJobSBzbyIsInNpZ25hdHVyZSI6IkVxTUIrLz09In1d";

fn chunks() -> Vec<String> {
    let one = |parts: Value| {
        json!({
            "candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}],
            "modelVersion": "m", "responseId": "abc",
        })
    };
    let usage = json!({
        "promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 6, "thoughtsTokenCount": 3,
        "totalTokenCount": 19,
    });
    let last = json!({
        "candidates": [{
            "content": {"parts": [{"functionCall": {"id": "t2", "name": "g", "args": {}}}], "role": "model"},
            "finishReason": "STOP", "index": 0,
        }],
        "usageMetadata": usage, "modelVersion": "m", "responseId": "abc",
    });
    let call = json!({"id": "t1", "name": "f", "args": {"city": "a}"}});
    let chunks = [
        one(json!([{"text": "hm", "thought": true}])),
        one(json!([{"text": " so", "thought": true}])),
        one(json!([{"text": "Grüße "}])),
        one(json!([{"text": "\u{2028}🌍\n"}])),
        one(json!([{"functionCall": call, "thoughtSignature": SIGNATURE}])),
        last,
    ];
    chunks.iter().map(Value::to_string).collect()
}

#[test]
fn a_stream_is_events_or_an_array() {
    let events: String = chunks().iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    assert_eq!(streamed(&mut *writer_for(Framing::Events, true), claude()), events);
    let array = format!("[{}\n]", chunks().join("\n,\r\n"));
    assert_eq!(streamed(&mut *writer_for(Framing::Array, true), claude()), array);
    assert_eq!(streamed(&mut *writer_for(Framing::Events, true), []), "");
    assert_eq!(streamed(&mut *writer_for(Framing::Array, true), []), "[]");
}

#[test]
fn thoughts_are_told_to_who_asks() {
    let events = streamed(&mut *writer_for(Framing::Events, false), claude());
    assert!(!events.contains("\"thought\":true") && events.contains(SIGNATURE), "{events}");
    let reply = || assemble(claude()).unwrap();
    let parts = |thoughts| whole(reply(), thoughts)["candidates"][0]["content"]["parts"].clone();
    assert_eq!(parts(true)[0], json!({"text": "hm so", "thought": true}));
    assert_eq!(parts(false)[0], json!({"text": "Grüße \u{2028}🌍\n"}));
    assert_eq!(parts(false)[1]["thoughtSignature"], SIGNATURE);
}

/// What a client hands back, even in the pieces in which it came, is to Claude what Claude said.
#[test]
fn reasoning_of_another_kind_survives_the_round() {
    let mut contents = vec![json!({"role": "user", "parts": [{"text": "hi"}]})];
    for chunk in chunks() {
        let chunk: Value = serde_json::from_str(&chunk).unwrap();
        contents.push(chunk["candidates"][0]["content"].clone());
    }
    let results =
        ["f", "g"].map(|name| json!({"functionResponse": {"name": name, "response": {"output": name}}}));
    contents.push(json!({"role": "user", "parts": results}));
    let body = json!({ "contents": contents }).to_string();
    let Input::Chat(request) = read(body.as_bytes(), Framing::Events).unwrap().input else { panic!() };
    let to = Recipient { kind: "anthropic", model: "claude-sonnet-4-5", switches: Switches::NONE };
    let sent = anthropic::request::chat(to, &request, false).unwrap();
    let said = json!([
        {"type": "thinking", "thinking": "hm so", "signature": "EqMB+/=="},
        {"type": "text", "text": "Grüße \u{2028}🌍\n"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"city": "a}"}},
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
    ]);
    assert_eq!(sent["messages"][1], json!({"role": "assistant", "content": said}));
    assert_eq!(sent["messages"][2]["content"][1]["tool_use_id"], "t2");
}

#[test]
fn reasoning_without_a_call_comes_with_the_last_part() {
    let last = |events: Vec<ChatEvent>| {
        let events = streamed(&mut *writer_for(Framing::Events, false), events);
        let last = events.trim_end().rsplit("data: ").next().unwrap().to_owned();
        serde_json::from_str::<Value>(&last).unwrap()["candidates"][0].clone()
    };
    let signature = |candidate: &Value| candidate["content"]["parts"][0]["thoughtSignature"].clone();
    let thought = || thinks("anthropic", "hm so", "EqMB+/==");
    let candidate = last(vec![thought(), text("a"), ends("stop")]);
    assert_eq!(
        (&candidate["content"]["parts"][0]["text"], signature(&candidate)),
        (&json!(""), json!(SIGNATURE))
    );
    let at_once = ChatEvent { content: "a".into(), ..ends("stop") };
    let candidate = last(vec![thought(), at_once]);
    assert_eq!(
        (&candidate["content"]["parts"][0]["text"], signature(&candidate)),
        (&json!("a"), json!(SIGNATURE))
    );
    // So much of it is nobody's.
    let candidate = last(vec![thinks("anthropic", &"x".repeat(5 << 20), "s"), ends("stop")]);
    assert_eq!(candidate["content"]["parts"], json!([{"text": ""}]));
}

#[test]
fn geminis_own_signatures_stay_as_they_are() {
    let piece = |index, text: &str, signature: &str, id: &str| Reasoning {
        index,
        text: text.into(),
        signature: signature.into(),
        id: id.into(),
        kind: KIND.into(),
        ..Reasoning::default()
    };
    let mut event = ChatEvent {
        content: "a".into(),
        reasoning_content: "hm".into(),
        reasoning: vec![piece(0, "hm", "", ""), piece(1, "", "s1", ""), piece(2, "", "s2", "t")],
        ..ends("tool_calls")
    };
    event.tool_calls = calls(0, "t", "f", "{}").tool_calls;
    let expected = json!([
        {"text": "hm", "thought": true}, {"text": "a", "thoughtSignature": "s1"},
        {"functionCall": {"id": "t", "name": "f", "args": {}}, "thoughtSignature": "s2"},
    ]);
    let reply = assemble([event.clone()]).unwrap();
    assert_eq!(whole(reply, true)["candidates"][0]["content"]["parts"], expected);
    let events = streamed(&mut *writer_for(Framing::Events, true), [event]);
    assert!(events.contains(&expected.to_string()), "{events}");
    let alone = ChatEvent { reasoning: vec![piece(3, "", "s3", "")], ..ends("stop") };
    let events = streamed(&mut *writer_for(Framing::Events, true), [text("a"), alone]);
    assert!(events.contains(r#"[{"text":"","thoughtSignature":"s3"}]"#), "{events}");
}

/// The reader of the other side makes of a stream what it was made of.
#[test]
fn the_reader_of_geminis_streams_reads_it() {
    for framing in [Framing::Events, Framing::Array] {
        let stream = streamed(&mut *writer_for(framing, true), claude());
        let read: Vec<_> =
            items(Chunks::default(), &[stream.as_bytes()]).into_iter().map(Result::unwrap).collect();
        let read = assemble(read).unwrap();
        let said = assemble(claude()).unwrap();
        assert_eq!((read.head.id.as_str(), read.head.model.as_str(), read.usage), ("abc", "m", said.usage));
        assert_eq!(read.choice.message.content, said.choice.message.content);
        assert_eq!(read.choice.message.reasoning_content, "hm so");
        assert_eq!(read.choice.finish_reason, "tool_calls");
        let names: Vec<_> =
            read.choice.message.tool_calls.iter().map(|call| (&*call.id, &*call.arguments)).collect();
        assert_eq!(names, [("t1", "{\"city\":\"a}\"}"), ("t2", "{}")]);
    }
}

#[test]
fn an_error_ends_a_stream_for_every_reader() {
    let report = ErrorReport {
        status: 503,
        reason: "UPSTREAM_UNAVAILABLE".into(),
        message: "gone".into(),
        ..ErrorReport::default()
    };
    let body = String::from_utf8(error::body(&report)).unwrap();
    for (framing, begun, alone) in [
        (Framing::Events, format!("data: {body}\n\n{body}\n"), format!("data: {body}\n\n{body}\n")),
        (Framing::Array, format!("\n,\r\n{body}\n]"), format!("[{body}\n]")),
    ] {
        let mut writer = writer_for(framing, false);
        let mut out = Vec::new();
        writer.error(&stamp(), &report, &mut out);
        assert_eq!(out, alone.as_bytes());
        let mut writer = writer_for(framing, false);
        let mut out = Vec::new();
        writer.event(&stamp(), text("a"), &mut out);
        let before = out.len();
        writer.error(&stamp(), &report, &mut out);
        assert_eq!(out[before..], *begun.as_bytes());
        let error = items(Chunks::default(), &[&out]).pop().unwrap();
        assert_eq!(reported(error), ("503".into(), "gone".into()));
        let length = out.len();
        writer.event(&stamp(), text("b"), &mut out);
        writer.frame("", b"{}", &mut out);
        writer.error(&stamp(), &report, &mut out);
        writer.end(&stamp(), &mut out);
        assert_eq!(out.len(), length, "nothing follows");
    }
}

#[test]
fn frames_are_handed_on_as_they_came() {
    let mut out = Vec::new();
    let mut events = writer(Framing::Events);
    events.frame("", br#"{"a": 1.50, "a":2}"#, &mut out);
    events.frame("", b"{\n}", &mut out);
    out.extend(events.keep_alive());
    events.event(&stamp(), text("b"), &mut out);
    events.end(&stamp(), &mut out);
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.starts_with("data: {\"a\": 1.50, \"a\":2}\n\ndata: {\ndata: }\n\n\n\ndata: {\"candidates\""),
        "{out}"
    );
    let mut out = Vec::new();
    let mut array = writer(Framing::Array);
    out.extend(array.keep_alive());
    array.frame("", b"{\"a\": 1}", &mut out);
    out.extend(array.keep_alive());
    array.heard(&ends("stop"));
    array.frame("", b"{}", &mut out);
    array.end(&stamp(), &mut out);
    assert_eq!(out, b"\n[{\"a\": 1}\n\n,\r\n{}\n]");
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), json!([{"a": 1}, {}]));
}

#[test]
fn what_the_answer_says_of_itself_is_said_in_every_piece() {
    let mut first = text("a");
    first.rare().head = crate::wire::AnswerHead {
        id: "r1".into(),
        model: "gpt-4o-2024".into(),
        ..crate::wire::AnswerHead::default()
    };
    let stream = streamed(&mut *writer_for(Framing::Events, false), [first, text("b"), ends("stop")]);
    assert_eq!(stream.matches(r#""modelVersion":"gpt-4o-2024","responseId":"r1"}"#).count(), 3);
}

#[test]
fn finish_reasons_are_googles() {
    let table = [
        ("stop", "STOP"),
        ("tool_calls", "STOP"),
        ("length", "MAX_TOKENS"),
        ("content_filter", "SAFETY"),
        ("malformed_function_call", "MALFORMED_FUNCTION_CALL"),
        ("language", "LANGUAGE"),
        ("pause_turn", "OTHER"),
    ];
    for (ours, theirs) in table {
        let reply = whole(assemble([text("a"), ends(ours)]).unwrap(), false);
        assert_eq!(reply["candidates"][0]["finishReason"], theirs, "{ours}");
    }
    // Arguments that are no object are told nobody.
    for (arguments, reason, theirs) in [
        ("{\"a\":", "tool_calls", "MALFORMED_FUNCTION_CALL"),
        ("[1]", "stop", "MALFORMED_FUNCTION_CALL"),
        ("{\"a\":", "length", "MAX_TOKENS"),
    ] {
        let events = vec![calls(0, "t", "f", arguments), ends(reason)];
        let stream = streamed(&mut *writer_for(Framing::Events, false), events.clone());
        let written = whole(assemble(events).unwrap(), false);
        assert!(!stream.contains("functionCall") && stream.contains(theirs), "{stream}");
        assert_eq!(written["candidates"][0]["finishReason"], theirs);
    }
    let cut = streamed(&mut *writer_for(Framing::Events, false), [calls(0, "t", "f", "")]);
    assert!(cut.contains("functionCall") && !cut.contains("finishReason"), "{cut}");
}

#[test]
fn several_answers_and_all_that_is_beside_them_are_told() {
    let image = Media {
        source: MediaSource::Data(b"abc".to_vec()),
        mime_type: "image/png".into(),
        ..Media::default()
    };
    let opaque = |kind: &str| {
        let mut part = Part::opaque(json!({"executableCode": {"code": kind}}).as_object().unwrap().clone());
        part.extra.kinds = vec![kind.into()];
        part
    };
    let page = Annotation { url: "https://u".into(), title: "t".into(), ..Annotation::default() };
    let logprobs = json!({"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1}]}]});
    let mut reply = assemble([
        text("a"),
        ends("stop"),
        ChatEvent { index: 1, ..text("b") },
        ChatEvent { index: 1, ..ends("length") },
    ])
    .unwrap();
    let parts = vec![
        PartKind::Text("a".into()).into(),
        PartKind::Image(image).into(),
        opaque("anthropic"),
        opaque(KIND),
    ];
    reply.choice.message.content = Content::Parts(parts);
    reply.choice.message.annotations = vec![page, Annotation::default()];
    reply.choice.logprobs = Some(Box::new(logprobs));
    reply.choice.extra = Keys::from(json!({"avgLogprobs": -0.1, "other": 1}).as_object().unwrap().clone());
    reply.usage = Some(TokenUsage { prompt: 1, total: 1, ..TokenUsage::default() });
    let extra = json!({"usageMetadata": {"promptTokensDetails": [1]}, "promptFeedback": {"safetyRatings": []}, "system": 1});
    reply.extra = Keys::from(extra.as_object().unwrap().clone());
    let expected = json!({
        "candidates": [
            {
                "content": {"parts": [
                    {"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "YWJj"}}, {"executableCode": {"code": "gemini"}},
                ], "role": "model"},
                "finishReason": "STOP", "avgLogprobs": -0.1,
                "logprobsResult": {
                    "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1}]}],
                    "chosenCandidates": [{"token": "a", "logProbability": -0.5}],
                },
                "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://u", "title": "t"}}]},
                "index": 0,
            },
            {"content": {"parts": [{"text": "b"}], "role": "model"}, "finishReason": "MAX_TOKENS", "index": 1},
        ],
        "promptFeedback": {"safetyRatings": []},
        "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1, "promptTokensDetails": [1]},
        "modelVersion": "m", "responseId": "abc",
    });
    assert_eq!(whole(reply, false), expected);
}

#[test]
fn counts_alone_come_with_an_empty_text() {
    let usage = TokenUsage { prompt: 1, total: 1, ..TokenUsage::default() };
    let counted = ChatEvent { usage: Some(usage), ..ChatEvent::default() };
    let stream =
        streamed(&mut *writer_for(Framing::Events, false), [ends("stop"), ChatEvent::default(), counted]);
    let last = stream.trim_end().rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        last["candidates"],
        json!([{"content": {"parts": [{"text": ""}], "role": "model"}, "index": 0}])
    );
    assert_eq!((stream.matches("data: ").count(), &last["usageMetadata"]["totalTokenCount"]), (2, &json!(1)));
}

#[test]
fn counts_and_embeddings_are_asked_for_and_told() {
    for body in [
        json!({"contents": [{"parts": [{"text": "hi"}]}]}),
        json!({"generateContentRequest": {"model": "models/m", "contents": [{"parts": [{"text": "hi"}]}]}}),
    ] {
        let mut asked = read_count(body.to_string().as_bytes()).unwrap();
        assert!(matches!(&asked.input, Input::CountTokens(request) if request.messages.len() == 1));
        assert_eq!(asked.writer.whole(&stamp(), Output::Tokens(7)), b"{\"totalTokens\":7}");
    }
    let wrong = json!({"generate_content_request": {"contents": []}}).to_string();
    let Err(error) = read_count(wrong.as_bytes()) else { panic!() };
    assert_eq!(error.field, "generateContentRequest.contents");
    let both = json!({"generateContentRequest": {"contents": [{"parts": [{"text": "hi"}]}]}, "contents": []});
    assert!(read_count(both.to_string().as_bytes()).is_err());
    let mut asked = read_embed(br#"{"content": {"parts": [{"text": "a"}]}}"#).unwrap();
    let reply = EmbeddingReply { vectors: vec![vec![0.5]], ..EmbeddingReply::default() };
    assert_eq!(
        asked.writer.whole(&stamp(), Output::Embeddings(reply)),
        b"{\"embedding\":{\"values\":[0.5]}}"
    );
    let of_another_sort = asked.writer.whole(&stamp(), Output::Tokens(1));
    assert_eq!(serde_json::from_slice::<Value>(&of_another_sort).unwrap()["error"]["status"], "INTERNAL");
}
