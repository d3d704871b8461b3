//! A caller need not know whom a call goes to: OpenAI's names, roles and media are put in each vendor's words, and a
//! kind that cannot take something is passed over.

use rota::api::pb::{
    FunctionCall, InvokeLlmRequest, Media, Message, Part, ProviderSwitches, Tool, ToolCall, media::Source,
    part::Kind as PartKind,
};
use serde_json::{Value, json};

use super::{RPCS, Rig, Rpc};
use crate::support::{
    kinds::{ANTHROPIC, COHERE, GEMINI, Kind, OPENAI, OPENAI_COMPATIBLE},
    world::hi,
};

fn with(request: InvokeLlmRequest, parameters: &Value) -> InvokeLlmRequest {
    let tools = vec![Tool { name: "f".into(), ..Tool::default() }];
    InvokeLlmRequest { tools, parameters_json: parameters.to_string(), ..request }
}

/// OpenAI's parameters, where they stand in the vendor's body, and what stands there; `null` for nothing.
type Row = (&'static Kind, Value, &'static str, Value);

// <https://docs.claude.com/en/api/messages>, <https://docs.claude.com/en/api/openai-sdk>,
// <https://docs.cohere.com/docs/compatibility-api>, <https://ai.google.dev/gemini-api/docs/openai>; reports:
// <https://github.com/mozilla-ai/any-llm/issues/1292>, <https://github.com/QuantumNous/new-api/issues/2763>,
// <https://github.com/agentgateway/agentgateway/issues/2856>.
fn rows() -> Vec<Row> {
    let function = || json!({"type": "function", "function": {"name": "f"}});
    let thinking = |budget: u32| json!({"type": "enabled", "budget_tokens": budget});
    let schema = json!({"type": "object"});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    vec![
        (&ANTHROPIC, json!({"tool_choice": "auto"}), "/tool_choice", json!({"type": "auto"})),
        (&ANTHROPIC, json!({"tool_choice": "required"}), "/tool_choice", json!({"type": "any"})),
        (&ANTHROPIC, json!({"tool_choice": "none"}), "/tool_choice", json!({"type": "none"})),
        (
            &ANTHROPIC,
            json!({"tool_choice": function()}),
            "/tool_choice",
            json!({"type": "tool", "name": "f"}),
        ),
        (
            &ANTHROPIC,
            json!({"parallel_tool_calls": false}),
            "/tool_choice",
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
        (&ANTHROPIC, json!({"stop": "END"}), "/stop_sequences", json!(["END"])),
        (&ANTHROPIC, json!({"user": "u"}), "/metadata", json!({"user_id": "u"})),
        (&ANTHROPIC, json!({"n": 1, "seed": 7}), "/seed", Value::Null),
        (&ANTHROPIC, json!({"max_completion_tokens": 9}), "/max_tokens", json!(9)),
        (&ANTHROPIC, json!({"thinking": thinking(8000)}), "/max_tokens", json!(12096)),
        (&ANTHROPIC, json!({"reasoning_effort": "low", "max_tokens": 3000}), "/thinking", thinking(1024)),
        (&ANTHROPIC, json!({"response_format": format}), "/output_config/format/schema", schema.clone()),
        (&COHERE, json!({"tool_choice": "required"}), "/tool_choice", json!("REQUIRED")),
        (&COHERE, json!({"tool_choice": "none"}), "/tool_choice", json!("NONE")),
        (&COHERE, json!({"tool_choice": "auto"}), "/tool_choice", Value::Null),
        (&COHERE, json!({"tool_choice": function()}), "/tool_choice", json!("REQUIRED")),
        (&COHERE, json!({"stop": "END"}), "/stop_sequences", json!(["END"])),
        (&COHERE, json!({"top_p": 0.5}), "/p", json!(0.5)),
        (&COHERE, json!({"user": "u", "seed": 7}), "/seed", json!(7)),
        (&COHERE, json!({"max_completion_tokens": 9}), "/max_tokens", json!(9)),
        (&COHERE, json!({"reasoning_effort": "none"}), "/thinking", json!({"type": "disabled"})),
        (&COHERE, json!({"response_format": format}), "/response_format/json_schema", schema.clone()),
        (&GEMINI, json!({"tool_choice": "required"}), "/toolConfig/functionCallingConfig/mode", json!("ANY")),
        (&GEMINI, json!({"stop": "END"}), "/generationConfig/stopSequences", json!(["END"])),
        (&GEMINI, json!({"n": 2}), "/generationConfig/candidateCount", json!(2)),
        (&GEMINI, json!({"seed": 7}), "/generationConfig/seed", json!(7)),
        (&GEMINI, json!({"max_completion_tokens": 9}), "/generationConfig/maxOutputTokens", json!(9)),
        (&GEMINI, json!({"response_format": format}), "/generationConfig/responseJsonSchema", schema),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_parameters_have_each_vendors_words() {
    for kind in [&ANTHROPIC, &COHERE, &GEMINI] {
        let rig = Rig::start(kind).await;
        for (_, parameters, place, expected) in rows().into_iter().filter(|row| row.0.name == kind.name) {
            for rpc in RPCS {
                rig.send(rpc, with(rig.scene.request(), &parameters)).await.text();
                let sent = rig.sent();
                let found = sent.pointer(place).cloned().unwrap_or_default();
                assert_eq!(found, expected, "{} {parameters}: {sent}", kind.name);
                for name in
                    ["stop", "parallel_tool_calls", "reasoning_effort", "max_completion_tokens", "n", "user"]
                {
                    assert!(sent.get(name).is_none(), "{} {name}: {sent}", kind.name);
                }
            }
        }
    }
}

// What would change the answer is no reason to fail while somebody else can take it.
#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_cannot_take_a_parameter_is_passed_over() {
    for (kind, parameters, field) in [
        (&ANTHROPIC, json!({"n": 2}), "parameters.n"),
        (&ANTHROPIC, json!({"logit_bias": {"1": 2}}), "parameters.logit_bias"),
        (&COHERE, json!({"n": 2}), "parameters.n"),
        (&COHERE, json!({"parallel_tool_calls": false}), "parameters.parallel_tool_calls"),
        (&GEMINI, json!({"parallel_tool_calls": false}), "parameters.parallel_tool_calls"),
    ] {
        for rpc in RPCS {
            let rig = Rig::start(kind).await;
            let request = with(rig.scene.request(), &parameters);
            let outcome = rig.send(rpc, request.clone()).await;
            assert_eq!(
                (outcome.reason.as_str(), outcome.fields),
                ("INVALID_FIELD", vec![field.to_owned()]),
                "{}",
                kind.name
            );
            assert_eq!(rig.upstream.total_hits(), 0, "{} {parameters}", kind.name);
            let other = rig.fallback(&OPENAI_COMPATIBLE).await;
            let outcome = rig.send(rpc, request).await;
            outcome.text();
            assert_eq!(outcome.reply.route.unwrap().provider, other.provider, "{} {parameters}", kind.name);
            assert_eq!((other.hits(&rig.upstream).iter().sum::<u64>(), rig.upstream.total_hits()), (1, 1));
            assert_eq!(rig.cooling().await, Vec::<String>::new());
        }
    }
}

// <https://github.com/8monkey-ai/hebo-gateway/issues/251>, <https://github.com/maximhq/bifrost/issues/2528>.
#[tokio::test(flavor = "multi_thread")]
async fn instructions_are_taken_in_every_role_and_place() {
    let says =
        |role: &str, text: &str| Message { role: role.into(), content: text.into(), ..Message::default() };
    let messages = vec![says("developer", "a"), hi(), says("assistant", "ok"), says("system", "b"), hi()];
    for (kind, place, expected) in [
        (&OPENAI, "/messages/0/role", json!("developer")),
        (&OPENAI_COMPATIBLE, "/messages/0/role", json!("system")),
        (&COHERE, "/messages/0/role", json!("system")),
        (&ANTHROPIC, "/system", json!("a\n\nb")),
        (&GEMINI, "/systemInstruction/parts", json!([{"text": "a"}, {"text": "b"}])),
    ] {
        let rig = Rig::start(kind).await;
        rig.send(Rpc::Whole, InvokeLlmRequest { messages: messages.clone(), ..rig.scene.request() })
            .await
            .text();
        let sent = rig.sent();
        assert_eq!(sent.pointer(place), Some(&expected), "{} {sent}", kind.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_switches_leave_out_what_its_server_refuses() {
    let rig = Rig::start(&OPENAI).await;
    let developer = Message { role: "developer".into(), content: "a".into(), ..Message::default() };
    let parameters = json!({"max_completion_tokens": 9, "parallel_tool_calls": true});
    let request = || InvokeLlmRequest {
        messages: vec![developer.clone(), hi()],
        ..with(rig.scene.request(), &parameters)
    };
    rig.send(Rpc::Stream, request()).await.text();
    let sent = rig.sent();
    assert_eq!(
        (&sent["messages"][0]["role"], &sent["max_completion_tokens"]),
        (&json!("developer"), &json!(9))
    );
    assert_eq!(
        (&sent["parallel_tool_calls"], &sent["stream_options"]),
        (&json!(true), &json!({"include_usage": true}))
    );
    let switches = ProviderSwitches {
        no_stream_options: true,
        no_developer_role: true,
        no_max_completion_tokens: true,
        no_parallel_tool_calls: true,
        ..ProviderSwitches::default()
    };
    rig.switch(switches).await;
    rig.send(Rpc::Stream, request()).await.text();
    let sent = rig.sent();
    assert_eq!((&sent["messages"][0]["role"], &sent["max_tokens"]), (&json!("system"), &json!(9)));
    for name in ["max_completion_tokens", "parallel_tool_calls", "stream_options"] {
        assert!(sent.get(name).is_none(), "{name}: {sent}");
    }
}

fn media(source: Source, mime_type: &str) -> Media {
    Media { source: Some(source), mime_type: mime_type.into(), ..Media::default() }
}

fn user(kind: PartKind) -> Message {
    let part = Part { kind: Some(kind), ..Part::default() };
    Message { role: "user".into(), parts: vec![part], ..Message::default() }
}

// <https://platform.openai.com/docs/guides/images-vision>, <https://platform.openai.com/docs/guides/pdf-files>,
// <https://docs.claude.com/en/docs/build-with-claude/files>,
// <https://docs.claude.com/en/docs/build-with-claude/pdf-support>,
// <https://ai.google.dev/gemini-api/docs/files>, <https://docs.cohere.com/docs/image-inputs>.
#[tokio::test(flavor = "multi_thread")]
async fn media_have_each_vendors_form() {
    let url = |text: &str| Source::Url(text.into());
    let bytes = || Source::Data(b"bytes".to_vec());
    let detailed = Media { detail: "low".into(), ..media(url("https://h/i.png"), "") };
    let named = Media { filename: "a.pdf".into(), ..media(bytes(), "application/pdf") };
    let data = "Ynl0ZXM=";
    let table: Vec<(&Kind, PartKind, &str, Value)> = vec![
        (
            &OPENAI,
            PartKind::Image(detailed.clone()),
            "/messages/0/content/0/image_url",
            json!({"url": "https://h/i.png", "detail": "low"}),
        ),
        (
            &OPENAI,
            PartKind::Document(named.clone()),
            "/messages/0/content/0/file",
            json!({"filename": "a.pdf", "file_data": format!("data:application/pdf;base64,{data}")}),
        ),
        (
            &OPENAI,
            PartKind::Document(media(Source::FileId("file-1".into()), "")),
            "/messages/0/content/0/file",
            json!({"file_id": "file-1"}),
        ),
        (
            &OPENAI,
            PartKind::Audio(media(bytes(), "audio/wav")),
            "/messages/0/content/0/input_audio",
            json!({"data": data, "format": "wav"}),
        ),
        (
            &ANTHROPIC,
            PartKind::Document(named.clone()),
            "/messages/0/content/0",
            json!({"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}),
        ),
        (
            &ANTHROPIC,
            PartKind::Document(media(url("https://h/a.pdf"), "")),
            "/messages/0/content/0/source",
            json!({"type": "url", "url": "https://h/a.pdf"}),
        ),
        (
            &ANTHROPIC,
            PartKind::Image(media(Source::FileId("file_1".into()), "")),
            "/messages/0/content/0/source",
            json!({"type": "file", "file_id": "file_1"}),
        ),
        (
            &GEMINI,
            PartKind::Video(media(url("https://youtu.be/x"), "video/mp4")),
            "/contents/0/parts/0/fileData",
            json!({"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}),
        ),
        (
            &GEMINI,
            PartKind::Audio(media(bytes(), "audio/wav")),
            "/contents/0/parts/0/inlineData",
            json!({"mimeType": "audio/wav", "data": data}),
        ),
        (
            &COHERE,
            PartKind::Image(detailed),
            "/messages/0/content/0/image_url",
            json!({"url": "https://h/i.png", "detail": "low"}),
        ),
    ];
    for (kind, part, place, expected) in table {
        let rig = Rig::start(kind).await;
        rig.send(Rpc::Whole, InvokeLlmRequest { messages: vec![user(part)], ..rig.scene.request() })
            .await
            .text();
        let sent = rig.sent();
        assert_eq!(sent.pointer(place), Some(&expected), "{} {sent}", kind.name);
    }
}

// A kind that does not take a medium is passed over too.
#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_takes_no_such_medium_is_passed_over() {
    let video = || user(PartKind::Video(media(Source::Url("https://h/v.mp4".into()), "video/mp4")));
    for kind in [&OPENAI, &ANTHROPIC, &COHERE] {
        let rig = Rig::start(kind).await;
        let request = InvokeLlmRequest { messages: vec![video()], ..rig.scene.request() };
        let outcome = rig.send(Rpc::Whole, request.clone()).await;
        assert_eq!(
            (outcome.reason.as_str(), outcome.fields),
            ("INVALID_FIELD", vec!["messages[0].parts[0]".to_owned()])
        );
        let other = rig.fallback(&GEMINI).await;
        let outcome = rig.send(Rpc::Whole, request).await;
        outcome.text();
        assert_eq!(outcome.reply.route.unwrap().provider, other.provider, "{}", kind.name);
    }
}

// Images in results of tools (<https://docs.claude.com/en/docs/agents-and-tools/tool-use/implement-tool-use>,
// <https://ai.google.dev/gemini-api/docs/function-calling>, multimodal function responses).
#[tokio::test(flavor = "multi_thread")]
async fn results_of_tools_have_images_where_they_are_taken() {
    let image = || PartKind::Image(media(Source::Data(b"bytes".to_vec()), "image/png"));
    let function = FunctionCall { name: "f".into(), arguments: "{}".into() };
    let call = ToolCall {
        id: "c".into(),
        r#type: "function".into(),
        function: Some(function),
        ..ToolCall::default()
    };
    let asked = Message { role: "assistant".into(), tool_calls: vec![call], ..Message::default() };
    let result = Message { role: "tool".into(), tool_call_id: "c".into(), ..user(image()) };
    let data = "Ynl0ZXM=";
    for (kind, place, expected) in [
        (
            &ANTHROPIC,
            "/messages/2/content/0/content/0",
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}),
        ),
        (
            &GEMINI,
            "/contents/2/parts/0/functionResponse/parts/0/inlineData",
            json!({"mimeType": "image/png", "data": data}),
        ),
    ] {
        let rig = Rig::start(kind).await;
        let messages = vec![hi(), asked.clone(), result.clone()];
        rig.send(Rpc::Whole, InvokeLlmRequest { messages, ..rig.scene.request() }).await.text();
        let sent = rig.sent();
        assert_eq!(sent.pointer(place), Some(&expected), "{} {sent}", kind.name);
    }
}
