//! What is read of a request.

use super::*;
use crate::wire::{Content, Media, MediaSource, Message, Part, PartKind, Reasoning, Tool, ToolCall};
use serde_json::json;

fn says(role: &str, text: &str) -> Message {
    Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
}

fn conversation(input: Value) -> Result<Vec<Message>, FieldError> {
    read_chat(&json!({"model": "m", "input": input})).map(|chat| chat.messages)
}

#[test]
fn parameters_get_the_names_of_chat_completions() {
    let body = json!({
        "model": "m", "input": "hi", "instructions": "brief", "stream": true, "stream_options": {"include_obfuscation": false},
        "store": true, "metadata": {"a": "b"}, "truncation": "auto", "max_tool_calls": 3, "background": false,
        "previous_response_id": null, "temperature": 0.50, "top_p": 0.9, "max_output_tokens": 100, "top_logprobs": 2,
        "reasoning": {"effort": "low", "summary": "auto"}, "service_tier": "flex", "user": "u", "prompt_cache_key": "k",
        "safety_identifier": "s", "parallel_tool_calls": false, "tool_choice": "required",
        "include": ["reasoning.encrypted_content"], "top_k": 5,
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "strict": true, "schema": {"type": "object"}}},
        "tools": [{"type": "function", "name": "f", "description": "d", "strict": true, "parameters": {"type": "object", "z": 1}}],
    });
    let chat = read_chat(&body).unwrap();
    assert_eq!(chat.messages, [says("system", "brief"), says("user", "hi")]);
    let schema = json!({"name": "n", "strict": true, "schema": {"type": "object"}});
    let mut expected = json!({
        "tool_choice": "required", "parallel_tool_calls": false, "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": schema}, "reasoning_effort": "low",
        "max_completion_tokens": 100, "logprobs": true, "top_logprobs": 2, "top_p": 0.9, "service_tier": "flex",
        "top_k": 5,
    });
    expected["temperature"] = body["temperature"].clone();
    assert_eq!(Value::from(chat.parameters), expected);
    let parameters = json!({"type": "object", "z": 1}).as_object().cloned();
    let tool = Tool { name: "f".into(), description: "d".into(), parameters, ..Tool::default() };
    assert_eq!((chat.tools, chat.user.as_str()), (vec![tool], "u"));
    let for_openai = json!({"prompt_cache_key": "k", "safety_identifier": "s"});
    assert_eq!(Value::from(chat.extra.fields.clone()), for_openai);
    assert!(chat.extra.is_for("openai") && chat.extra.is_for("azure_openai") && !chat.extra.is_for("gemini"));
}

#[test]
fn what_says_nothing_is_no_parameter() {
    let body = json!({
        "model": "m", "input": "hi", "tools": [], "tool_choice": "auto", "parallel_tool_calls": true, "temperature": null,
        "text": {"format": {"type": "text"}}, "reasoning": {"effort": null}, "top_logprobs": 0, "include": [],
    });
    let chat = read_chat(&body).unwrap();
    assert!(chat.parameters.is_empty() && chat.extra.fields.is_empty() && chat.tools.is_empty(), "{chat:?}");
    let format = json!({"model": "m", "input": "hi", "text": {"format": {"type": "json_object"}}});
    assert_eq!(read_chat(&format).unwrap().parameters["response_format"], json!({"type": "json_object"}));
    let asked = json!({"input": "hi", "include": ["message.output_text.logprobs"]});
    assert_eq!(
        Value::from(read_chat(&asked).unwrap().parameters),
        json!({"logprobs": true, "top_logprobs": 0})
    );
}

#[test]
fn a_choice_of_tools_has_the_words_of_chat_completions() {
    let function = |name: &str| json!({"type": "function", "name": name});
    let chosen = |choice: Value| {
        let body = json!({"input": "hi", "tools": [function("f"), function("g")], "tool_choice": choice});
        let chat = read_chat(&body).unwrap();
        let names: Vec<_> = chat.tools.iter().map(|tool| tool.name.clone()).collect();
        (chat.parameters["tool_choice"].clone(), names.concat())
    };
    assert_eq!(chosen(json!("none")), (json!("none"), "fg".into()));
    let named = json!({"type": "function", "function": {"name": "g"}});
    assert_eq!(chosen(function("g")), (named, "fg".into()));
    let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [function("g")]});
    assert_eq!(chosen(allowed), (json!("required"), "g".into()));
}

#[test]
fn every_item_is_read() {
    let signed = Reasoning {
        text: "hm".into(),
        signature: "s".into(),
        kind: "anthropic".into(),
        ..Reasoning::default()
    };
    let input = json!([
        {"role": "user", "content": "a"},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": sealed::seal(std::slice::from_ref(&signed)).unwrap()},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "c", "annotations": []}, {"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c2", "name": "g", "input": "x"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [
            {"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "https://h/i.png", "detail": "low"}]},
        {"role": "assistant", "content": "d"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "e"}]},
    ]);
    let call = |index, id: &str, kind: &str, name: &str, arguments: &str| ToolCall {
        index,
        id: id.into(),
        kind: kind.into(),
        name: name.into(),
        arguments: arguments.into(),
        ..ToolCall::default()
    };
    let image = Media {
        source: MediaSource::Url("https://h/i.png".into()),
        detail: "low".into(),
        ..Media::default()
    };
    let seen = Content::Parts(vec![PartKind::Text("see".into()).into(), PartKind::Image(image).into()]);
    let expected = [
        says("user", "a"),
        says("developer", "b"),
        Message {
            reasoning_content: "hm".into(),
            reasoning: vec![signed],
            refusal: "no".into(),
            tool_calls: vec![call(0, "c1", "function", "f", "{}"), call(1, "c2", "custom", "g", "x")],
            ..says("assistant", "c")
        },
        Message { tool_call_id: "c1".into(), ..says("tool", "42") },
        Message { tool_call_id: "c2".into(), content: seen, ..says("tool", "") },
        says("assistant", "d"),
        says("assistant", "e"),
    ];
    assert_eq!(conversation(input).unwrap(), expected);
}

#[test]
fn text_behind_a_call_belongs_to_its_message() {
    let input = json!([
        {"role": "user", "content": "a"},
        {"type": "message", "role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""},
        {"type": "message", "role": "assistant", "content": "c"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
    ]);
    let messages = conversation(input).unwrap();
    assert_eq!(messages.len(), 3);
    let parts: Vec<Part> = ["b", "c"].map(|text| PartKind::Text(text.into()).into()).to_vec();
    assert_eq!((&messages[1].content, messages[1].tool_calls.len()), (&Content::Parts(parts), 1));
}

#[test]
fn every_part_is_read() {
    let data = |mime_type: &str, bytes: &[u8]| Media {
        source: MediaSource::Data(bytes.to_vec()),
        mime_type: mime_type.into(),
        ..Media::default()
    };
    let url = |url: &str| Media { source: MediaSource::Url(url.into()), ..Media::default() };
    let table = [
        (
            json!({"type": "input_image", "image_url": "data:image/png;base64,YWJj", "detail": "auto"}),
            PartKind::Image(url("data:image/png;base64,YWJj")),
        ),
        (
            json!({"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,YWJj"}),
            PartKind::Document(Media { filename: "a.pdf".into(), ..data("application/pdf", b"abc") }),
        ),
        (
            json!({"type": "input_file", "file_data": "JVBERi0="}),
            PartKind::Document(data("application/pdf", b"%PDF-")),
        ),
        (json!({"type": "input_file", "file_data": "YWJj"}), PartKind::Document(data("text/plain", b"abc"))),
        (
            json!({"type": "input_file", "file_url": "https://h/a.pdf"}),
            PartKind::Document(url("https://h/a.pdf")),
        ),
        (
            json!({"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}}),
            PartKind::Audio(data("audio/mpeg", b"abc")),
        ),
    ];
    for (part, kind) in table {
        let message = conversation(json!([{"role": "user", "content": [part]}])).unwrap().remove(0);
        assert_eq!(message.content, Content::Parts(vec![kind.into()]), "{part}");
    }
}

#[test]
fn what_cannot_be_said_is_named() {
    let with = |more: Value| {
        let mut body = json!({"model": "m", "input": "hi"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let item = |item: Value| with(json!({"input": [{"role": "user", "content": "a"}, item]}));
    let part = |part: Value| item(json!({"role": "user", "content": [part]}));
    let tool = |tool: Value| with(json!({"tools": [{"type": "function", "name": "f"}, tool]}));
    let mut table = vec![
        (with(json!({"previous_response_id": "resp_1"})), "previous_response_id"),
        (with(json!({"conversation": {"id": "c"}})), "conversation"),
        (with(json!({"prompt": {"id": "p"}})), "prompt"),
        (with(json!({"background": true})), "background"),
        (with(json!({"moderation": {"model": "m"}})), "moderation"),
        (with(json!({"background": "x"})), "background"),
        (with(json!({"instructions": ["x"]})), "instructions"),
        (json!({"model": "m"}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 1}), "input"),
        (with(json!({"tools": 1})), "tools"),
        (tool(json!({"type": "function"})), "tools[1].name"),
        (tool(json!({"type": "function", "name": "g", "parameters": []})), "tools[1].parameters"),
        (with(json!({"tool_choice": {"type": "web_search"}})), "tool_choice.type"),
        (with(json!({"tool_choice": {"type": "function"}})), "tool_choice.name"),
        (
            with(json!({"tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}})),
            "tool_choice.tools[0].type",
        ),
        (with(json!({"text": {"format": {"type": "x"}}})), "text.format.type"),
        (with(json!({"text": {"format": {"type": "json_schema"}}})), "text.format.schema"),
        (with(json!({"max_output_tokens": "x"})), "max_output_tokens"),
        (with(json!({"include": [1]})), "include[0]"),
        (with(json!({"reasoning": "high"})), "reasoning"),
        (item(json!({"type": "item_reference", "id": "x"})), "input[1].type"),
        (item(json!({"role": "critic", "content": "x"})), "input[1].role"),
        (item(json!({"role": "user"})), "input[1].content"),
        (item(json!({})), "input[1].type"),
        (item(json!({"type": "function_call", "name": "f", "arguments": ""})), "input[1].call_id"),
        (item(json!({"type": "function_call_output", "call_id": "c"})), "input[1].output"),
        (part(json!({"type": "input_image", "file_id": "f"})), "input[1].content[0].file_id"),
        (part(json!({"type": "input_file", "file_id": "f"})), "input[1].content[0].file_id"),
        (part(json!({"type": "input_file", "file_data": "!"})), "input[1].content[0].file_data"),
        (part(json!({"type": "video"})), "input[1].content[0].type"),
    ];
    for hosted in [
        "web_search",
        "file_search",
        "computer",
        "code_interpreter",
        "mcp",
        "image_generation",
        "local_shell",
        "custom",
    ] {
        table.push((tool(json!({"type": hosted, "name": "x"})), "tools[1].type"));
    }
    for hosted in ["web_search_call", "computer_call_output", "mcp_call", "compaction", "local_shell_call"] {
        table.push((item(json!({"type": hosted, "id": "x"})), "input[1].type"));
    }
    for (body, field) in table {
        assert_eq!(
            read(body.to_string().as_bytes()).err().map(|error| error.field).as_deref(),
            Some(field),
            "{body}"
        );
    }
    for body in ["", "[]", "{", "{\"input\":\"a\"} x"] {
        assert_eq!(read(body.as_bytes()).err().unwrap().field, "", "{body}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_breaks_it(bytes: Vec<u8>, text: String) {
        assert!(read(&bytes).is_err());
        for kind in ["message", "reasoning", "function_call", "function_call_output", "x"] {
            let item = json!({"type": kind, "role": "user", "content": [{"type": "input_file", "file_data": text}],
                "summary": [text], "encrypted_content": text, "call_id": text, "output": text, "name": text});
            let _ = read(json!({"input": [item], "tools": [text]}).to_string().as_bytes());
        }
    }
}
