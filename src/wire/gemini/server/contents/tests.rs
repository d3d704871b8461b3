//! Conversations, part by part.

use super::{super::signature::pack, *};
use crate::wire::ToolCall;
use serde_json::json;

fn read(contents: Value) -> Result<Vec<Message>, FieldError> {
    let mut body = Fields::of(json!({ "contents": contents }), String::new())?;
    messages(body.objects("contents")?)
}

fn says(role: &str, text: &str) -> Message {
    Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
}

fn call(index: i32, id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        index,
        id: id.into(),
        kind: "function".into(),
        name: name.into(),
        arguments: arguments.into(),
        ..ToolCall::default()
    }
}

fn result(id: &str, text: &str) -> Message {
    Message { tool_call_id: id.into(), ..says("tool", text) }
}

#[test]
fn roles_and_texts_are_read() {
    let contents = json!([
        {"parts": [{"text": "a"}]},
        {"role": "model", "parts": {"text": "b"}},
        {"role": "model", "parts": [{"text": ""}, {"text": "c"}]},
        {"role": "user", "parts": [{"text": "d"}, {"text": ""}, {"text": "e", "part_metadata": {"x": 1}}]},
    ]);
    let parts = ["d", "e"].map(|text| PartKind::Text(text.into()).into()).to_vec();
    let last = Message { content: Content::Parts(parts), ..says("user", "") };
    assert_eq!(read(contents).unwrap(), [says("user", "a"), says("assistant", "bc"), last]);
}

#[test]
fn media_are_read() {
    let file = |uri: &str| json!({"fileData": {"fileUri": uri}});
    let typed = |uri: &str, mime_type: &str| json!({"file_data": {"file_uri": uri, "mime_type": mime_type}});
    let of = |source: MediaSource, mime_type: &str| Media {
        source,
        mime_type: mime_type.into(),
        ..Media::default()
    };
    let url = |url: &str| MediaSource::Url(url.into());
    let uploaded = "https://generativelanguage.googleapis.com/v1beta/files/x";
    let data = || MediaSource::Data(vec![0xff, 0xfe, 0xfb]);
    let table = [
        (
            json!({"inlineData": {"mimeType": "image/png", "data": "//77"}}),
            PartKind::Image(of(data(), "image/png")),
        ),
        (
            json!({"inline_data": {"mime_type": "audio/wav", "data": "__77"}}),
            PartKind::Audio(of(data(), "audio/wav")),
        ),
        (
            typed("https://h/a", "application/pdf"),
            PartKind::Document(of(url("https://h/a"), "application/pdf")),
        ),
        (file("https://h/a.PNG?b"), PartKind::Image(of(url("https://h/a.PNG?b"), "image/png"))),
        (file("https://youtu.be/x"), PartKind::Video(of(url("https://youtu.be/x"), "video/mp4"))),
        (typed(uploaded, "video/mp4"), PartKind::Video(of(MediaSource::File(uploaded.into()), "video/mp4"))),
        (
            file("gs://b/a.pdf"),
            PartKind::Document(of(MediaSource::File("gs://b/a.pdf".into()), "application/pdf")),
        ),
    ];
    for (part, expected) in table {
        let messages = read(json!([{ "parts": [part] }])).unwrap();
        assert_eq!(messages[0].content, Content::Parts(vec![expected.into()]), "{part}");
    }
    let cut =
        json!({"fileData": {"fileUri": "https://h/v.mp4", "displayName": "v"}, "videoMetadata": {"fps": 1}});
    let Content::Parts(parts) = &read(json!([{ "parts": [cut] }])).unwrap()[0].content else { panic!() };
    assert!(parts[0].extra.is_for("gemini") && !parts[0].extra.is_for("openai"));
}

#[test]
fn results_find_their_calls() {
    let calls = json!([
        {"functionCall": {"name": "f", "args": {"z": 1, "a": 2}}},
        {"functionCall": {"name": "f"}},
        {"functionCall": {"id": "own", "name": "g", "args": null}},
    ]);
    let of = |name: &str, id: &str, response: Value| json!({"functionResponse": {"id": id, "name": name, "response": response}});
    let contents = json!([
        {"parts": [{"text": "q"}]},
        {"role": "model", "parts": calls},
        {"role": "function", "parts": [of("g", "own", json!({"output": "x"}))]},
        {"role": "user", "parts": [
            {"text": "and now"}, of("f", "", json!({"output": 1})), of("f", "not ours", json!({"output": "a", "b": 1})),
        ]},
        {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
        {"parts": [{"function_response": {"name": "f", "parts": [{"inlineData": {"mimeType": "image/png", "data": "YWJj"}}]}}]},
    ]);
    let first = Message {
        tool_calls: vec![
            call(0, "call_0_0", "f", "{\"z\":1,\"a\":2}"),
            call(1, "call_0_1", "f", "{}"),
            call(2, "own", "g", "{}"),
        ],
        ..says("assistant", "")
    };
    let media = Media {
        source: MediaSource::Data(b"abc".to_vec()),
        mime_type: "image/png".into(),
        ..Media::default()
    };
    let pictured =
        Message { content: Content::Parts(vec![PartKind::Image(media).into()]), ..result("call_1_0", "") };
    let expected = [
        says("user", "q"),
        first,
        result("own", "x"),
        result("call_0_0", "{\"output\":1}"),
        result("call_0_1", "{\"output\":\"a\",\"b\":1}"),
        says("user", "and now"),
        Message { tool_calls: vec![call(0, "call_1_0", "f", "{}")], ..says("assistant", "") },
        pictured,
    ];
    assert_eq!(read(contents).unwrap(), expected);
}

#[test]
fn signatures_keep_their_maker() {
    let piece = |kind: &str, text: &str, signature: &str, index| Reasoning {
        kind: kind.into(),
        text: text.into(),
        signature: signature.into(),
        index,
        ..Reasoning::default()
    };
    let own = json!([{"role": "model", "parts": [
        {"text": "hm", "thought": true}, {"text": "a", "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "f"}, "thought_signature": "c2ln2"},
    ]}]);
    let message = &read(own).unwrap()[0];
    let of_call = Reasoning { id: "call_0_0".into(), ..piece("gemini", "", "c2ln2", 2) };
    assert_eq!(message.reasoning, [piece("gemini", "hm", "", 0), piece("gemini", "", "c2ln", 1), of_call]);
    // Thoughts of another kind are told in its signature, whatever became of the text.
    let pieces = vec![piece("anthropic", "the whole thought", "EqM", 0), piece("anthropic", "", "", 1)];
    let other = json!([
        {"role": "model", "parts": [{"text": "the whole", "thought": true}]},
        {"role": "model", "parts": [{"functionCall": {"id": "t", "name": "f"}, "thoughtSignature": pack(&pieces)}]},
    ]);
    let message = &read(other).unwrap()[0];
    assert_eq!((&message.reasoning, message.reasoning_content.as_str()), (&pieces, "the whole thought"));
    assert_eq!(message.tool_calls[0].id, "t");
}

#[test]
fn what_cannot_be_said_is_named() {
    let model = |part: Value| json!([{"role": "model", "parts": [part]}]);
    let user = |part: Value| json!([{"role": "user", "parts": [part]}]);
    let broken = pack(&[]).replace("W10=", "W10");
    let table = [
        (json!([{"role": "user"}]), "contents[0].parts"),
        (json!([{"role": "user", "parts": []}]), "contents[0].parts"),
        (json!([{"role": "system", "parts": [{"text": "a"}]}]), "contents[0].role"),
        (json!([{"parts": [{"text": "a"}], "tomorrow": 1}]), "contents[0].tomorrow"),
        (json!([{"parts": ["a"]}]), "contents[0].parts[0]"),
        (user(json!({"text": 1})), "contents[0].parts[0].text"),
        (user(json!({"executableCode": {"code": "1"}})), "contents[0].parts[0].executableCode"),
        (
            user(json!({"inlineData": {"mimeType": "image/png", "data": "!"}})),
            "contents[0].parts[0].inlineData.data",
        ),
        (user(json!({"inlineData": {"data": "YWJj"}})), "contents[0].parts[0].inlineData.mimeType"),
        (user(json!({"fileData": {"mimeType": "image/png"}})), "contents[0].parts[0].fileData.fileUri"),
        (user(json!({"functionResponse": {"name": "f"}})), "contents[0].parts[0].functionResponse"),
        (model(json!({"codeExecutionResult": {"output": "1"}})), "contents[0].parts[0].codeExecutionResult"),
        (model(json!({"fileData": {"fileUri": "x"}})), "contents[0].parts[0].fileData"),
        (model(json!({"functionCall": {"args": {}}})), "contents[0].parts[0].functionCall.name"),
        (model(json!({"functionCall": {"name": "f", "args": []}})), "contents[0].parts[0].functionCall.args"),
        (
            model(json!({"inlineData": {"mimeType": "image/png", "data": "!"}})),
            "contents[0].parts[0].inlineData.data",
        ),
        (
            model(json!({"text": "a", "thoughtSignature": format!("{broken}!")})),
            "contents[0].parts[0].thoughtSignature",
        ),
    ];
    for (contents, field) in table {
        assert_eq!(read(contents.clone()).unwrap_err().field, field, "{contents}");
    }
}
