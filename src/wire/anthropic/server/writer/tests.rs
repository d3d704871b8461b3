use super::*;
use crate::wire::{
    Annotation, ChatReply, Choice, Content, Extra, Keys, Media, Message, Part, PartKind, ReadError, ToolCall,
    anthropic, assemble,
    fixtures::{call, thought, words},
};
use proptest::prelude::*;

fn stamp() -> Stamp {
    Stamp { id: "1".into(), created: 0, model: "m".into() }
}

fn text(text: &str) -> ChatEvent {
    ChatEvent { content: text.into(), ..ChatEvent::default() }
}

fn piece(kind: &str, piece: Reasoning) -> ChatEvent {
    let piece = Reasoning { kind: kind.into(), ..piece };
    ChatEvent { reasoning_content: piece.text.clone(), reasoning: vec![piece], ..ChatEvent::default() }
}

fn end(reason: &str) -> ChatEvent {
    let usage = TokenUsage {
        prompt: 12,
        completion: 5,
        total: 17,
        cached: 2,
        cache_write: 3,
        reasoning: 1,
        ..TokenUsage::default()
    };
    ChatEvent { finish_reason: reason.into(), usage: Some(usage), ..ChatEvent::default() }
}

fn written_by(mut writer: Writer, events: impl IntoIterator<Item = ChatEvent>) -> String {
    let mut out = Vec::new();
    for event in events {
        writer.event(&stamp(), event, &mut out);
    }
    writer.end(&stamp(), &mut out);
    String::from_utf8(out).unwrap()
}

fn written(events: impl IntoIterator<Item = ChatEvent>) -> String {
    written_by(Writer::of(true), events)
}

const START: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"#,
    r#""stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"#,
    r#""cache_read_input_tokens":0,"output_tokens":0}}}"#,
    "\n\n",
);

/// The frames of a stream between its start and its end.
fn frames(data: &[&str]) -> String {
    let frame = |data: &&str| {
        let value: Value = serde_json::from_str(data).unwrap();
        format!("event: {}\ndata: {data}\n\n", value["type"].as_str().unwrap())
    };
    data.iter().map(frame).collect()
}

fn whole_stream(data: &[&str], delta: &str) -> String {
    let usage = r#"{"input_tokens":7,"cache_creation_input_tokens":3,"cache_read_input_tokens":2,"output_tokens":5,"output_tokens_details":{"thinking_tokens":1}}"#;
    let delta = format!(r#"{{"type":"message_delta","delta":{delta},"usage":{usage}}}"#);
    format!("{START}{}{}", frames(data), frames(&[&delta, r#"{"type":"message_stop"}"#]))
}

#[test]
fn a_text_is_one_block() {
    let expected = whole_stream(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grü"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ße\n"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
        ],
        r#"{"stop_reason":"end_turn","stop_sequence":null}"#,
    );
    assert_eq!(
        written([ChatEvent::default(), text("Grü"), ChatEvent::default(), text("ße\n"), end("stop")]),
        expected
    );
}

#[test]
fn thinking_ends_with_its_signature() {
    let signed = |text: &str, signature: &str| Reasoning {
        text: text.into(),
        signature: signature.into(),
        ..Reasoning::default()
    };
    let expected = whole_stream(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"x"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"a"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
        ],
        r#"{"stop_reason":"max_tokens","stop_sequence":null}"#,
    );
    let redacted = Reasoning { data: "x".into(), index: 1, ..Reasoning::default() };
    let events = [
        piece("anthropic", signed("h", "")),
        piece("anthropic", signed("m", "")),
        piece("anthropic", signed("", "c2ln")),
        piece("anthropic", redacted),
        text("a"),
        end("length"),
    ];
    assert_eq!(written(events), expected);
}

/// Gemini signs the part that comes with it: what only Gemini reads does not cut the text in two.
#[test]
fn what_only_others_can_read_waits_for_the_end_of_the_text() {
    let expected = whole_stream(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"rota1.gemini.e30"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"b"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"redacted_thinking","data":"rota1.gemini.eyJzaWduYXR1cmUiOiJzIiwiaW5kZXgiOjF9"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_rota1_ZjowMQ","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"content_block_stop","index":3}"#,
        ],
        r#"{"stop_reason":"tool_use","stop_sequence":null}"#,
    );
    let signature =
        Reasoning { signature: "s".into(), index: 1, kind: "gemini".into(), ..Reasoning::default() };
    let first = ChatEvent { reasoning: vec![signature], ..text("a") };
    let thought = piece("gemini", Reasoning { text: "hm".into(), ..Reasoning::default() });
    assert_eq!(written([thought, first, text("b"), call(0, "f:01", "f", "{}"), end("stop")]), expected);
}

#[test]
fn thinking_that_nobody_asked_for_stands_behind_the_text() {
    let out = written_by(Writer::of(false), [thought("h"), thought("m"), text("a"), end("stop")]);
    let starts: Vec<_> = out.lines().filter(|line| line.contains("\"content_block_start\"")).collect();
    assert!(starts[0].contains(r#""index":0,"content_block":{"type":"text""#), "{out}");
    assert!(starts[1].contains(r#""index":1,"content_block":{"type":"thinking""#), "{out}");
    assert!(out.contains(r#"{"type":"thinking_delta","thinking":"hm"}"#), "{out}");
}

#[test]
fn fragments_of_two_calls_are_not_interleaved() {
    let expected = whole_stream(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"\"}\"}"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"b","name":"g","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"y\":1"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"}"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"so"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
        ],
        r#"{"stop_reason":"tool_use","stop_sequence":null}"#,
    );
    let events = [
        call(0, "a", "f", "{\"x\":"),
        call(1, "b", "g", "{\"y\""),
        call(1, "", "", ":1"),
        call(0, "", "", "\"}\"}"),
        call(1, "", "", "}"),
        call(0, "", "", " "),
        text("so"),
        end("tool_calls"),
    ];
    assert_eq!(written(events), expected);
    // A call that stays open ends with the message, and what waited for it comes behind.
    let cut = written([call(0, "a", "f", "{"), call(1, "b", "g", "{}"), text("x"), end("length")]);
    let starts: Vec<_> = cut.lines().filter(|line| line.contains("\"content_block_start\"")).collect();
    let kinds =
        ["\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\"", "\"id\":\"b\"", "\"text\""];
    assert!(starts.len() == 3 && starts.iter().zip(kinds).all(|(start, kind)| start.contains(kind)), "{cut}");
}

#[test]
fn what_waits_is_bounded() {
    let mut writer = Writer::of(true);
    let mut out = Vec::new();
    writer.event(&stamp(), call(0, "a", "f", "{"), &mut out);
    for _ in 0..9 {
        writer.event(&stamp(), text(&"x".repeat(1 << 20)), &mut out);
    }
    let told = String::from_utf8(out).unwrap();
    assert!(told.len() > 8 << 20 && told.contains("\"index\":1"), "{}", told.len());
}

#[test]
fn a_refusal_is_text_and_the_reason() {
    let expected = whole_stream(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"no"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
        ],
        r#"{"stop_reason":"refusal","stop_sequence":null,"stop_details":{"type":"refusal","category":null,"explanation":"no"}}"#,
    );
    let refusal = ChatEvent { refusal: "no".into(), ..ChatEvent::default() };
    assert_eq!(written([refusal, end("stop")]), expected);
}

#[test]
fn a_stream_that_says_nothing_is_a_message_all_the_same() {
    let usage =
        r#"{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}"#;
    let delta = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{usage}}}"#
    );
    assert_eq!(written([]), format!("{START}{}", frames(&[&delta, r#"{"type":"message_stop"}"#])));
    // Other choices have no place.
    let other = ChatEvent { index: 1, ..text("b") };
    assert_eq!(written([other]), written([]));
}

#[test]
fn why_a_message_ends_has_anthropics_words() {
    let table = [
        ("stop", "", false, "end_turn"),
        ("", "", false, "end_turn"),
        ("length", "", true, "max_tokens"),
        ("tool_calls", "", true, "tool_use"),
        ("stop", "", true, "tool_use"),
        ("tool_calls", "", false, "end_turn"),
        ("content_filter", "", false, "refusal"),
        ("stop", "END", false, "stop_sequence"),
        ("pause_turn", "", false, "pause_turn"),
        ("RECITATION", "", false, "end_turn"),
    ];
    for (reason, sequence, calls, expected) in table {
        let ending = Ending {
            finish_reason: reason.into(),
            stop_sequence: sequence.into(),
            calls,
            ..Ending::default()
        };
        let delta = ending.delta();
        assert_eq!(delta["stop_reason"], expected, "{reason}");
        assert_eq!(delta["stop_sequence"] == sequence, !sequence.is_empty(), "{reason}");
    }
}

fn own(block: &Value) -> Part {
    let extra = Extra { fields: block.as_object().unwrap().clone().into(), kinds: vec!["anthropic".into()] };
    Part { kind: PartKind::Opaque, extra }
}

#[test]
fn a_whole_message_has_its_blocks_in_order() {
    let reasoning = vec![
        Reasoning { text: "hm".into(), kind: "gemini".into(), ..Reasoning::default() },
        Reasoning {
            signature: "s".into(),
            id: "c1".into(),
            index: 1,
            kind: "gemini".into(),
            ..Reasoning::default()
        },
    ];
    let cited = json!({"type": "char_location", "cited_text": "c", "document_index": 0});
    let annotations = vec![
        Annotation { kind: "char_location".into(), json: cited.clone(), ..Annotation::default() },
        Annotation { kind: "url_citation".into(), url: "https://h".into(), ..Annotation::default() },
    ];
    let foreign = Part::opaque(json!({"type": "x"}).as_object().unwrap().clone());
    let used = json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}});
    let image = PartKind::Image(Media::default()).into();
    let tool = |id: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: arguments.into(),
        ..ToolCall::default()
    };
    let message = Message {
        content: Content::Parts(vec![own(&used), foreign, image, PartKind::Text("a".into()).into()]),
        tool_calls: vec![tool("c1", "{\"z\":1.50,\"a\":2}"), tool("c2", ""), tool("c3", "{\"cut")],
        reasoning,
        annotations,
        ..Message::default()
    };
    let head = AnswerHead {
        id: "chatcmpl-1".into(),
        model: "gpt".into(),
        service_tier: "flex".into(),
        ..AnswerHead::default()
    };
    let choice = Choice { message, finish_reason: "tool_calls".into(), ..Choice::default() };
    let usage = end("").usage;
    let reply = ChatReply { head, choice, usage, ..ChatReply::default() };
    let body = Writer::of(true).whole(&stamp(), Output::Chat(Box::new(reply)));
    let expected = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "gpt",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "rota1.gemini.e30"},
            used,
            {"type": "text", "text": "a", "citations": [cited]},
            {"type": "redacted_thinking", "data": "rota1.gemini.eyJzaWduYXR1cmUiOiJzIiwiaWQiOiJjMSIsImluZGV4IjoxfQ"},
            {"type": "tool_use", "id": "c1", "name": "f", "input": {"z": 1, "a": 2}},
            {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
            {"type": "tool_use", "id": "c3", "name": "f", "input": {"arguments": "{\"cut"}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 7, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 1}},
    });
    let expected = expected.to_string().replace("\"z\":1,", "\"z\":1.50,");
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    assert_eq!(Writer::default().whole(&stamp(), Output::Tokens(7)), b"{\"input_tokens\":7}");
}

#[test]
fn thinking_of_anthropics_stands_where_it_stood() {
    let body = json!({
        "id": "msg_7", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [
            {"type": "thinking", "thinking": "a", "signature": "s"},
            {"type": "text", "text": "b"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "c"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"n": 1}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 1, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 4,
            "service_tier": "standard"},
    });
    let mut reply = anthropic::answer::message(body.to_string().as_bytes()).unwrap();
    for piece in &mut reply.choice.message.reasoning {
        piece.kind = "anthropic".into();
    }
    let written = Writer::of(true).whole(&stamp(), Output::Chat(Box::new(reply)));
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), body);
}

#[test]
fn an_error_in_the_stream_has_its_type() {
    let mut out = Vec::new();
    let mut writer = Writer::default();
    let report = ErrorReport {
        status: 503,
        reason: "OVERLOADED".into(),
        message: "m".into(),
        ..ErrorReport::default()
    };
    writer.error(&stamp(), &report, &mut out);
    let expected = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut behind = Vec::new();
    writer.end(&stamp(), &mut behind);
    assert_eq!(behind, b"");
    assert!(writer.keep_alive().ends_with(b"\n\n"));
}

fn passed(frames: &[(&str, &str)], more: &[ChatEvent]) -> String {
    let (mut writer, mut out) = (Writer::default(), Vec::new());
    for (name, data) in frames {
        writer.frame(name, data.as_bytes(), &mut out);
    }
    for event in more {
        writer.event(&stamp(), event.clone(), &mut out);
    }
    writer.end(&stamp(), &mut out);
    String::from_utf8(out).unwrap()
}

const PASSED: [(&str, &str); 6] = [
    ("message_start", r#"{"type": "message_start", "message": {"id": "msg_9", "later": 1.50}}"#),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
    (
        "message_delta",
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#,
    ),
    ("message_stop", r#"{"type":"message_stop"}"#),
];

#[test]
fn frames_are_handed_on_as_they_came() {
    let expected: String =
        PASSED.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect();
    assert_eq!(passed(&PASSED, &[]), expected);
    let unnamed: Vec<_> = PASSED.iter().map(|(_, data)| ("", *data)).collect();
    assert_eq!(passed(&unnamed, &[]), expected, "the SDKs read an event by its name");
    // Frames that end with the reason lack only the end.
    assert_eq!(passed(&PASSED[..5], &[]), expected);
    let mut out = Vec::new();
    Writer::default().frame("ping", b"{\n}", &mut out);
    assert_eq!(out, b"event: ping\ndata: {\ndata: }\n\n");
}

#[test]
fn events_behind_frames_go_on_with_the_message() {
    let goes_on = passed(&PASSED[..3], &[text("b"), call(0, "c", "f", "{}"), end("tool_calls")]);
    let behind = goes_on.split_once("\"text\":\"a\"}}\n\n").unwrap().1;
    let expected = whole_stream(
        &[
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"c","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
        ],
        r#"{"stop_reason":"tool_use","stop_sequence":null}"#,
    );
    assert_eq!(behind, expected.strip_prefix(START).unwrap());
    // A block of another sort ends first.
    let thinking =
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"thinking","thinking":""}}"#;
    let goes_on = passed(&[PASSED[0], ("content_block_start", thinking)], &[text("b")]);
    let expected = frames(&[
        r#"{"type":"content_block_stop","index":4}"#,
        r#"{"type":"content_block_start","index":5,"content_block":{"type":"text","text":""}}"#,
    ]);
    assert!(goes_on.contains(&expected), "{goes_on}");
}

fn event_strategy() -> impl Strategy<Value = ChatEvent> {
    let kind = prop_oneof![Just("anthropic"), Just("gemini"), Just("openai_compatible")];
    prop_oneof![
        "[a-z\n\"]{1,6}".prop_map(|said| text(&said)),
        (kind, "[a-z]{0,3}", "[a-z]{0,3}", "[a-z]{0,3}", 0..3_i32).prop_map(
            |(kind, text, signature, data, index)| {
                piece(
                    kind,
                    Reasoning {
                        text,
                        signature,
                        data,
                        index,
                        extra: Keys::default(),
                        ..Reasoning::default()
                    },
                )
            }
        ),
        (0..3_i32, "[{}\":x]{0,4}").prop_map(|(index, arguments)| call(
            index,
            &format!("c{index}"),
            "f",
            &arguments
        )),
        Just(ChatEvent::default()),
    ]
}

/// What Anthropic's SDKs hold a stream to: places that count up, one open block at a time, and one start and end.
fn check(stream: &str) {
    let events = stream.split("\n\n").filter(|frame| !frame.is_empty()).map(|frame| {
        let (name, data) = frame.split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    });
    let (mut next, mut open, mut kinds) = (0, None, Vec::new());
    for event in events {
        let kind = event["type"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "content_block_start" => {
                assert_eq!((event["index"].as_u64(), open), (Some(next), None));
                (open, next) = (Some(next), next + 1);
            }
            "content_block_delta" => assert_eq!(event["index"].as_u64(), open),
            "content_block_stop" => {
                assert_eq!(event["index"].as_u64(), open);
                open = None;
            }
            _ => kinds.push(kind),
        }
    }
    assert_eq!(
        (open, kinds),
        (None, ["message_start", "message_delta", "message_stop"].map(String::from).to_vec())
    );
}

proptest! {
    #[test]
    fn no_events_break_a_stream(events in prop::collection::vec(event_strategy(), 0..12), shows in any::<bool>()) {
        check(&written_by(Writer::of(shows), events.into_iter().chain([end("stop")])));
    }

    #[test]
    fn no_frame_breaks_it(name in ".{0,12}", data: Vec<u8>) {
        let mut out = Vec::new();
        Writer::default().frame(&name, &data, &mut out);
        prop_assert!(out.ends_with(b"\n\n"));
    }

    /// The house's own reader of Anthropic's streams hears what was written.
    #[test]
    fn what_is_written_is_heard(texts in prop::collection::vec("[a-z]{1,6}", 1..4), count in 0..3_i32) {
        let calls = (0..count).map(|index| call(index, &format!("c{index}"), "f", "{\"a\":1}"));
        let events: Vec<_> =
            texts.iter().map(|said| text(said)).chain(calls).chain([end("stop")]).collect();
        let stream = written(events.clone());
        let heard: Result<Vec<_>, ReadError> =
            words(anthropic::stream::Events::default(), &[stream.as_bytes()]).into_iter().collect();
        let (heard, said) = (assemble(heard.unwrap()).unwrap(), assemble(events).unwrap());
        prop_assert_eq!(heard.choice.message.content, said.choice.message.content);
        prop_assert_eq!(heard.choice.message.tool_calls, said.choice.message.tool_calls);
        prop_assert_eq!(heard.choice.finish_reason == "tool_calls", count > 0);
        prop_assert_eq!(heard.usage.unwrap().prompt, 12);
    }
}
