use super::*;
use crate::wire::{
    Content, Media, MediaSource, Message, Part, PartKind, Reasoning, Recipient, Switches, ToolCall, anthropic,
};
use proptest::prelude::*;

fn asked(body: &Value) -> Result<ChatRequest, FieldError> {
    read(body.to_string().as_bytes()).map(|asked| match asked.input {
        Input::Chat(request) => *request,
        other => panic!("{other:?}"),
    })
}

fn hello(more: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn conversation_of(messages: Value) -> Vec<Message> {
    asked(&hello(json!({ "messages": messages }))).unwrap().messages
}

fn says(role: &str, text: &str) -> Message {
    Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
}

fn for_anthropic(fields: &Value) -> Extra {
    extra(fields.as_object().unwrap().clone())
}

#[test]
fn parameters_have_the_names_that_all_kinds_know() {
    let tool = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let strict = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
        "additionalProperties": false});
    let loose =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    let format = |schema: &Value| json!({"type": "json_schema", "schema": schema});
    let table = [
        (json!({}), json!({})),
        (json!({"temperature": 0.5, "top_p": null}), json!({"temperature": 0.5})),
        (json!({"tools": tool, "tool_choice": {"type": "auto"}}), json!({"tool_choice": "auto"})),
        (
            json!({"tools": tool, "tool_choice": {"type": "any", "disable_parallel_tool_use": true}}),
            json!({"tool_choice": "required", "parallel_tool_calls": false}),
        ),
        (json!({"tools": tool, "tool_choice": {"type": "none"}}), json!({"tool_choice": "none"})),
        (
            json!({"tools": tool, "tool_choice": {"type": "tool", "name": "f"}}),
            json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ),
        (json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}), json!({})),
        (json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}), json!({})),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), json!({"reasoning_effort": "low"})),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 8192}}),
            json!({"reasoning_effort": "medium"}),
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 31999}}),
            json!({"reasoning_effort": "high"}),
        ),
        (json!({"thinking": {"type": "adaptive"}}), json!({})),
        (
            json!({"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "max"}}),
            json!({"reasoning_effort": "high"}),
        ),
        (
            json!({"output_config": {"format": format(&strict)}}),
            json!({"response_format": {"type": "json_schema",
                "json_schema": {"name": "answer", "strict": true, "schema": strict}}}),
        ),
        (
            json!({"output_format": format(&loose)}),
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": loose}}}),
        ),
        (
            json!({"stream": true, "service_tier": "auto", "context_management": {"edits": []}, "container": null,
                "mcp_servers": [], "inference_geo": "global", "cache_control": {"type": "ephemeral"}}),
            json!({}),
        ),
        (json!({"seed": 7}), json!({"seed": 7})),
    ];
    for (given, mut expected) in table {
        expected["max_completion_tokens"] = 9.into();
        let parameters = asked(&hello(given.clone())).unwrap().parameters;
        assert_eq!(Value::from(parameters), expected, "{given}");
    }
    let request = asked(&hello(json!({
        "stop_sequences": ["END"], "metadata": {"user_id": "u-1"}, "top_k": 5,
    })))
    .unwrap();
    assert_eq!((request.stop, request.user.as_str()), (vec!["END".to_owned()], "u-1"));
    assert!(request.extra.is_for("gemini") && !request.extra.is_for("openai"));
    assert_eq!(request.extra.fields["top_k"], 5);
    let agent = format!("user_{}_account__session_{}", "a".repeat(64), "b".repeat(36));
    for id in [agent.as_str(), "a@b.c", "{\"device_id\":\"x\"}"] {
        assert_eq!(asked(&hello(json!({"metadata": {"user_id": id}}))).unwrap().user, "", "{id}");
    }
}

#[test]
fn tools_keep_their_schema_and_what_only_anthropic_reads() {
    let body = hello(json!({"tools": [
        {"type": "custom", "name": "f", "description": "d", "strict": true, "cache_control": {"type": "ephemeral"},
            "input_schema": {"type": "object", "required": ["z", "a"]}},
        {"name": "g", "input_schema": {}},
    ]}));
    let tools = asked(&body).unwrap().tools;
    let schema = json!({"type": "object", "required": ["z", "a"]}).as_object().unwrap().clone();
    let f = Tool {
        name: "f".into(),
        description: "d".into(),
        parameters: Some(schema),
        extra: for_anthropic(&json!({"strict": true, "cache_control": {"type": "ephemeral"}})),
    };
    let g = Tool { name: "g".into(), parameters: Some(Map::new()), ..Tool::default() };
    assert_eq!(tools, [f, g]);
}

#[test]
fn a_tool_loop_becomes_messages_in_its_order() {
    let call = |index, id: &str, arguments: &str| ToolCall {
        index,
        id: id.into(),
        kind: "function".into(),
        name: "f".into(),
        arguments: arguments.into(),
        ..ToolCall::default()
    };
    let messages = conversation_of(json!([
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "so"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"z": 1.5, "a": 2}},
            {"type": "tool_use", "id": "toolu_rota1_ZnVuY3Rpb25zLmY6MA", "name": "f", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "text", "text": "and?"},
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42"}], "is_error": true,
                "cache_control": {"type": "ephemeral"}},
            {"type": "tool_result", "tool_use_id": "toolu_rota1_ZnVuY3Rpb25zLmY6MA"},
        ]},
        {"role": "system", "content": "brief"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t9", "content": "x"}]},
    ]));
    let thought = |piece: Reasoning| Reasoning { kind: "anthropic".into(), ..piece };
    let expected = [
        says("user", "a\n\nb"),
        Message {
            tool_calls: vec![call(0, "t1", r#"{"z":1.5,"a":2}"#), call(1, "functions.f:0", "{}")],
            reasoning_content: "hm".into(),
            reasoning: vec![
                thought(Reasoning { text: "hm".into(), signature: "s".into(), ..Reasoning::default() }),
                thought(Reasoning { data: "x".into(), index: 1, ..Reasoning::default() }),
            ],
            ..says("assistant", "so")
        },
        Message {
            tool_call_id: "t1".into(),
            extra: for_anthropic(&json!({"is_error": true, "cache_control": {"type": "ephemeral"}})),
            ..says("tool", "42")
        },
        Message { tool_call_id: "functions.f:0".into(), ..says("tool", "") },
        says("user", "and?"),
        says("system", "brief"),
        Message { tool_call_id: "t9".into(), ..says("tool", "x") },
    ];
    assert_eq!(messages, expected);
}

#[test]
fn what_others_made_goes_back_to_them() {
    let messages = conversation_of(json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "rota1.openai_compatible.e30"},
            {"type": "redacted_thinking", "data": "rota1.gemini.eyJzaWduYXR1cmUiOiJzIiwiaWQiOiJjMSIsImluZGV4IjozfQ"},
            {"type": "redacted_thinking", "data": "rota2.gemini.e30"},
            {"type": "thinking", "thinking": "lost", "signature": "rota1.gemini.?"},
        ]},
    ]));
    let kind = |kind: &str| Reasoning { kind: kind.into(), ..Reasoning::default() };
    let expected = [
        Reasoning { text: "hm".into(), ..kind("openai_compatible") },
        Reasoning { signature: "s".into(), id: "c1".into(), index: 3, ..kind("gemini") },
        // One that a later release has made is not known to be foreign.
        Reasoning { data: "rota2.gemini.e30".into(), index: 2, ..kind("anthropic") },
    ];
    assert_eq!(messages[1].reasoning, expected);
}

#[test]
fn media_and_documents_are_read() {
    let messages = conversation_of(json!([{"role": "user", "content": [
        {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "YWJj"}},
        {"type": "image", "source": {"type": "url", "url": "https://h/i.png"}, "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "file", "file_id": "f1"}},
        {"type": "document", "title": "a.pdf", "context": "old", "citations": {"enabled": false},
            "source": {"type": "base64", "media_type": "application/pdf", "data": "YWJj"}},
        {"type": "document", "source": {"type": "url", "url": "https://h/a.pdf"}},
        {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "e"}]}},
        {"type": "search_result", "title": "T", "source": "https://s", "content": [{"type": "text", "text": "r"}]},
    ]}]));
    let cached = || for_anthropic(&json!({"cache_control": {"type": "ephemeral"}}));
    let data = |mime_type: &str| Media {
        source: MediaSource::Data(b"abc".to_vec()),
        mime_type: mime_type.into(),
        ..Media::default()
    };
    let at = |source: MediaSource| Media { source, ..Media::default() };
    let text = |text: &str| Part::from(PartKind::Text(text.into()));
    let expected = vec![
        Part { extra: cached(), ..text("see") },
        PartKind::Image(data("image/png")).into(),
        Part { extra: cached(), ..PartKind::Image(at(MediaSource::Url("https://h/i.png".into()))).into() },
        PartKind::Image(at(MediaSource::File("f1".into()))).into(),
        text("old"),
        PartKind::Document(Media { filename: "a.pdf".into(), ..data("application/pdf") }).into(),
        PartKind::Document(at(MediaSource::Url("https://h/a.pdf".into()))).into(),
        text("C\nT\nd"),
        text("e"),
        text("T\nhttps://s\nr"),
    ];
    assert_eq!(messages, [Message { content: Content::Parts(expected), ..says("user", "") }]);
}

#[test]
fn marks_of_what_to_cache_stay_with_anthropic() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let request = asked(&hello(json!({
        "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": mark}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": mark}]}],
    })))
    .unwrap();
    let marked =
        |role, text| Message { extra: for_anthropic(&json!({ "cache_control": mark })), ..says(role, text) };
    assert_eq!(request.messages, [marked("system", "a\n\nb"), marked("user", "hi")]);
}

#[test]
fn what_anthropics_tools_left_is_for_anthropic() {
    let used = json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}});
    let cited = json!([{"type": "char_location", "cited_text": "c"}]);
    let messages = conversation_of(json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": [used, {"type": "text", "text": "a", "citations": cited},
            {"type": "text", "text": "b", "citations": []}]},
    ]));
    let text = |text: &str| Part::from(PartKind::Text(text.into()));
    let parts = vec![
        Part { kind: PartKind::Opaque, extra: for_anthropic(&used) },
        Part { extra: for_anthropic(&json!({ "citations": cited })), ..text("a") },
        text("b"),
    ];
    assert_eq!(messages[1].content, Content::Parts(parts));
}

#[test]
fn errors_name_the_field() {
    let says = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let answers = |block: Value| json!({"messages": [{"role": "assistant", "content": [block]}]});
    let tool = |tool: Value| json!({ "tools": [tool] });
    let image =
        |source: Value| says(json!([{"type": "text", "text": "a"}, {"type": "image", "source": source}]));
    let table = [
        (json!({"messages": []}), "messages"),
        (json!({"messages": {}}), "messages"),
        (json!({"messages": [1]}), "messages[0]"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role"),
        (says(json!(1)), "messages[0].content"),
        (says(json!([1])), "messages[0].content[0]"),
        (says(json!([{"text": "a"}])), "messages[0].content[0].type"),
        (says(json!([{"type": "text"}])), "messages[0].content[0].text"),
        (says(json!([{"type": "tomorrow"}])), "messages[0].content[0].type"),
        (says(json!([{"type": "tool_use", "id": "a"}])), "messages[0].content[0].type"),
        (says(json!([{"type": "container_upload", "file_id": "f"}])), "messages[0].content[0].type"),
        (
            says(
                json!([{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "tool_reference"}]}]),
            ),
            "messages[0].content[0].content[0].type",
        ),
        (says(json!([{"type": "tool_result", "content": "x"}])), "messages[0].content[0].tool_use_id"),
        (image(json!(null)), "messages[0].content[1].source"),
        (
            image(json!({"type": "base64", "media_type": "image/png", "data": "?"})),
            "messages[0].content[1].source.data",
        ),
        (image(json!({"type": "base64", "data": "YWJj"})), "messages[0].content[1].source.media_type"),
        (image(json!({"type": "disk"})), "messages[0].content[1].source.type"),
        (
            says(
                json!([{"type": "document", "citations": {"enabled": true}, "source": {"type": "text", "data": "x"}}]),
            ),
            "messages[0].content[0].citations",
        ),
        (
            answers(json!({"type": "tool_use", "id": "a", "name": "f", "input": []})),
            "messages[0].content[0].input",
        ),
        (answers(json!({"type": "tool_use", "name": "f", "input": {}})), "messages[0].content[0].id"),
        (answers(json!({"type": "redacted_thinking"})), "messages[0].content[0].data"),
        (json!({"system": [{"type": "image"}]}), "system[0].type"),
        (tool(json!({"type": "web_search_20250305", "name": "web_search"})), "tools[0].type"),
        (tool(json!({"type": "bash_20250124", "name": "bash"})), "tools[0].type"),
        (tool(json!({"input_schema": {}})), "tools[0].name"),
        (tool(json!({"name": "f"})), "tools[0].input_schema"),
        (json!({"tool_choice": {"type": "some"}}), "tool_choice.type"),
        (json!({"tool_choice": "auto"}), "tool_choice"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": "9"}), "max_tokens"),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "much"}}), "thinking.type"),
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "some"}}),
            "output_config.effort",
        ),
        (json!({"output_config": {"format": {"type": "grammar"}}}), "output_config.format.type"),
        (json!({"output_format": {"type": "json_schema"}}), "output_format.schema"),
        (json!({"stop_sequences": [1]}), "stop_sequences"),
        (json!({"metadata": {"user_id": 1}}), "metadata.user_id"),
        (json!({"container": "c1"}), "container"),
        (json!({"mcp_servers": [{"type": "url"}]}), "mcp_servers"),
        (json!({"inference_geo": "us"}), "inference_geo"),
    ];
    for (given, field) in table {
        let error = asked(&hello(given.clone())).unwrap_err();
        assert_eq!(error.field, field, "{given}: {error}");
    }
    for body in ["", "{", "[]", "1", "{\"model\":1,\"model\":2,\"messages\":[]}"] {
        assert_eq!(read(body.as_bytes()).err().unwrap().field, "", "{body}");
    }
}

#[test]
fn counting_takes_no_bound() {
    let body = json!({"model": "m", "system": "s", "messages": [{"role": "user", "content": "hi"}],
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "tools": [{"name": "f", "input_schema": {}}]});
    let asked = super::super::read_count(body.to_string().as_bytes()).unwrap();
    let Input::CountTokens(request) = asked.input else { panic!() };
    assert_eq!(request.messages, [says("system", "s"), says("user", "hi")]);
    assert_eq!((request.tools.len(), request.parameters.is_empty()), (1, true));
}

fn block_of_user() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-z]{1,8}"
            .prop_map(|text| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})),
        Just(
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "YWJj"}})
        ),
        "[a-z]{1,8}".prop_map(|name| json!({"type": "document", "title": name,
            "source": {"type": "base64", "media_type": "application/pdf", "data": "YWJj"}})),
    ]
}

fn block_of_assistant() -> impl Strategy<Value = Value> {
    prop_oneof![
        ("[a-z]{0,8}", "[a-z]{1,8}").prop_map(
            |(text, signature)| json!({"type": "thinking", "thinking": text, "signature": signature})
        ),
        "[a-z]{1,8}".prop_map(|data| json!({"type": "redacted_thinking", "data": data})),
        "[a-z]{1,8}"
            .prop_map(|id| json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {}})),
    ]
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes: Vec<u8>) {
        prop_assert!(read(&bytes).is_err());
        prop_assert!(super::super::read_count(&bytes).is_err());
        prop_assert!(super::super::without_foreign(&bytes).is_none());
    }

    /// What was said to Anthropic's own door is said to Anthropic, in the same blocks.
    #[test]
    fn what_is_said_is_kept(
        system in "[a-z]{1,8}",
        image in Just(json!({"type": "image", "source": {"type": "url", "url": "https://h/i.png"}})),
        asks in prop::collection::vec(block_of_user(), 1..4),
        thoughts in prop::collection::vec(block_of_assistant(), 0..3),
        text in "[a-z]{1,8}",
        calls in prop::collection::vec(("[a-z0-9_]{1,8}", any::<i64>()), 1..3),
    ) {
        let mut asks = asks;
        asks.push(image);
        let mut answer = thoughts;
        answer.push(json!({"type": "text", "text": text}));
        answer.extend(calls.iter().map(|(id, n)| json!({"type": "tool_use", "id": id, "name": "f", "input": {"n": n}})));
        let results: Vec<_> =
            calls.iter().map(|(id, n)| json!({"type": "tool_result", "tool_use_id": id, "content": n.to_string(), "is_error": true})).collect();
        let body = json!({
            "model": "m", "max_tokens": 9, "system": system, "stop_sequences": ["x"], "temperature": 0.5, "top_k": 3,
            "metadata": {"user_id": "u"},
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
            "messages": [
                {"role": "user", "content": asks}, {"role": "assistant", "content": answer}, {"role": "user", "content": results},
            ],
            "stream": false,
        });
        let to = Recipient { kind: "anthropic", model: "m", switches: Switches::NONE };
        let written = anthropic::request::chat(to, &asked(&body).unwrap(), false).unwrap();
        prop_assert_eq!(written, body);
    }
}
