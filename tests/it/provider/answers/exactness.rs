//! What a caller writes goes upstream as it is written, and what no field names is merged without replacing anything.

use rota::api::pb::{InvokeLlmRequest, Message, Part, Tool, part::Kind as PartKind};
use serde_json::{Value, json};

use super::{RPCS, Rig, Rpc};
use crate::support::{
    kinds::{ANTHROPIC, COHERE, GEMINI, OPENAI, OPENAI_COMPATIBLE},
    world::hi,
};

const SCHEMA: &str = r#"{"type":"object","properties":{"reasoning":{"type":"string"},"answer":{"type":"integer","maximum":12345678901234567890,"multipleOf":1.50}},"required":["reasoning","answer"]}"#;

fn tool() -> Tool {
    Tool { name: "f".into(), parameters_json: SCHEMA.into(), ..Tool::default() }
}

// <https://github.com/maximhq/bifrost/issues/5148>, <https://github.com/guidance-ai/llguidance/issues/162>: models
// write the fields of a structured answer in the order of the schema.
#[tokio::test(flavor = "multi_thread")]
async fn schemas_keep_their_order_and_their_digits() {
    let format = format!(r#"{{"type":"json_schema","json_schema":{{"name":"a","schema":{SCHEMA}}}}}"#);
    for (kind, tool_at, schema_at) in [
        (&OPENAI, "/tools/0/function/parameters", "/response_format/json_schema/schema"),
        (&OPENAI_COMPATIBLE, "/tools/0/function/parameters", "/response_format/json_schema/schema"),
        (&ANTHROPIC, "/tools/0/input_schema", "/output_config/format/schema"),
        (
            &GEMINI,
            "/tools/0/functionDeclarations/0/parametersJsonSchema",
            "/generationConfig/responseJsonSchema",
        ),
        (&COHERE, "/tools/0/function/parameters", "/response_format/json_schema"),
    ] {
        for rpc in RPCS {
            let rig = Rig::start(kind).await;
            rig.send(rpc, InvokeLlmRequest { tools: vec![tool()], ..rig.scene.request() }).await.text();
            let sent = rig.sent();
            assert_eq!(
                sent.pointer(tool_at).map(ToString::to_string).as_deref(),
                Some(SCHEMA),
                "{} {sent}",
                kind.name
            );
            for request in [
                InvokeLlmRequest { response_format_json: format.clone(), ..rig.scene.request() },
                InvokeLlmRequest {
                    parameters_json: format!(r#"{{"response_format":{format}}}"#),
                    ..rig.scene.request()
                },
            ] {
                rig.send(rpc, request).await.text();
                let sent = rig.sent();
                let schema = sent.pointer(schema_at).map(ToString::to_string);
                assert_eq!(schema.as_deref(), Some(SCHEMA), "{} {sent}", kind.name);
            }
        }
    }
}

/// The fields that a call is refused for, without a request upstream.
async fn refused(rig: &Rig, change: impl FnOnce(&mut InvokeLlmRequest)) -> Vec<String> {
    let mut request = rig.scene.request();
    change(&mut request);
    let outcome = rig.send(Rpc::Whole, request).await;
    assert_eq!(
        (outcome.reason.as_str(), rig.upstream.total_hits()),
        ("INVALID_FIELD", 0),
        "{}",
        outcome.words
    );
    outcome.fields
}

fn parameters(name: &str, value: f64) -> prost_types::Struct {
    let value = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(value)) };
    prost_types::Struct { fields: [(name.to_owned(), value)].into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_twice_or_reserved_is_refused() {
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    for text in [
        r#"{"model":"other"}"#,
        r#"{"messages":[]}"#,
        r#"{"stream":true}"#,
        r#"{"top_p":1,"top_p":0}"#,
        r#"{"x":{"a":1,"a":2}}"#,
        "[]",
        "{",
    ] {
        assert_eq!(
            refused(&rig, |request| request.parameters_json = text.into()).await,
            ["parameters_json"],
            "{text}"
        );
        assert_eq!(refused(&rig, |request| request.extra_json = text.into()).await, ["extra_json"], "{text}");
    }
    let both = refused(&rig, |request| {
        request.parameters = Some(parameters("top_p", 1.0));
        request.parameters_json = r#"{"top_p":0}"#.into();
    });
    assert_eq!(both.await, ["parameters_json"]);
    let both = refused(&rig, |request| {
        request.parameters_json = r#"{"response_format":{"type":"text"}}"#.into();
        request.response_format_json = r#"{"type":"text"}"#.into();
    });
    assert_eq!(both.await, ["response_format_json"]);
    let both = refused(&rig, |request| {
        request.tools = vec![Tool { parameters: Some(parameters("x", 1.0)), ..tool() }];
    });
    assert_eq!(both.await, ["tools[0].parameters_json"]);
    let role = refused(&rig, |request| request.messages[0].extra_json = r#"{"role":"system"}"#.into());
    assert_eq!(role.await, ["messages[0].extra_json"]);
    let name = refused(&rig, |request| {
        request.tools = vec![Tool { extra_json: r#"{"name":"g"}"#.into(), ..tool() }];
    });
    assert_eq!(name.await, ["tools[0].extra_json"]);
}

fn text_part(text: &str, extra_json: &str) -> Part {
    Part { kind: Some(PartKind::Text(text.into())), extra_json: extra_json.into(), ..Part::default() }
}

/// A request with `cache_control` and more wherever it may stand.
fn marked(request: InvokeLlmRequest) -> InvokeLlmRequest {
    let cache = r#"{"cache_control":{"type":"ephemeral"}}"#;
    let parts = vec![text_part("long", cache), text_part("short", "")];
    InvokeLlmRequest {
        messages: vec![Message { role: "user".into(), parts, ..Message::default() }],
        tools: vec![Tool { extra_json: cache.into(), ..tool() }],
        extra_json: r#"{"inference_geo":"eu"}"#.into(),
        ..request
    }
}

// <https://docs.claude.com/en/docs/build-with-claude/prompt-caching>.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_contract_does_not_name_goes_along() {
    let rig = Rig::start(&ANTHROPIC).await;
    rig.send(Rpc::Whole, marked(rig.scene.request())).await.text();
    let (sent, cache) = (rig.sent(), json!({"type": "ephemeral"}));
    assert_eq!(
        sent["messages"][0]["content"][0],
        json!({"type": "text", "text": "long", "cache_control": cache})
    );
    assert_eq!(sent["messages"][0]["content"][1], json!({"type": "text", "text": "short"}));
    assert_eq!((&sent["tools"][0]["cache_control"], &sent["inference_geo"]), (&cache, &json!("eu")));

    // OpenAI's `strict` stands within the function (<https://platform.openai.com/docs/guides/function-calling>),
    // Gemini's `videoMetadata` beside the medium (<https://ai.google.dev/gemini-api/docs/video-understanding>).
    let rig = Rig::start(&OPENAI).await;
    let strict = Tool { extra_json: r#"{"strict":true}"#.into(), ..tool() };
    rig.send(Rpc::Whole, InvokeLlmRequest { tools: vec![strict], ..rig.scene.request() }).await.text();
    assert_eq!(rig.sent()["tools"][0]["function"]["strict"], true);
    let rig = Rig::start(&GEMINI).await;
    let parts = vec![text_part("see", r#"{"videoMetadata":{"fps":5}}"#)];
    let message = Message { role: "user".into(), parts, ..Message::default() };
    rig.send(Rpc::Whole, InvokeLlmRequest { messages: vec![message], ..rig.scene.request() }).await.text();
    assert_eq!(rig.sent()["contents"][0]["parts"][0]["videoMetadata"], json!({"fps": 5}));
}

// It adds keys and replaces none, and it is left out for kinds that it does not name.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_along_replaces_nothing_and_stays_with_its_kinds() {
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    let request = InvokeLlmRequest {
        stop: vec!["END".into()],
        extra_json: r#"{"stop":["other"],"top_k":5}"#.into(),
        ..rig.scene.request()
    };
    rig.send(Rpc::Whole, request).await.text();
    assert_eq!((&rig.sent()["stop"], &rig.sent()["top_k"]), (&json!(["END"]), &json!(5)));

    let mut request = marked(rig.scene.request());
    request.extra_json_kinds = vec!["anthropic".into()];
    rig.send(Rpc::Whole, request).await.text();
    let sent = rig.sent().to_string();
    assert!(!sent.contains("cache_control") && !sent.contains("inference_geo"), "{sent}");
    let mut message = hi();
    message.extra_json = r#"{"prefix":true}"#.into();
    message.extra_json_kinds = vec!["openai_compatible".into()];
    let request = InvokeLlmRequest {
        messages: vec![message],
        extra_json_kinds: vec!["anthropic".into()],
        ..rig.scene.request()
    };
    rig.send(Rpc::Whole, request).await.text();
    assert_eq!(rig.sent()["messages"][0], json!({"role": "user", "content": "hi", "prefix": true}));
}

// A whole number stays one, and so do numbers that a float cannot hold.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_keep_their_digits() {
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    let written = r#"{"seed":12345678901234567890,"temperature":0.10,"metadata":{"b":1,"a":2}}"#;
    rig.send(Rpc::Whole, InvokeLlmRequest { parameters_json: written.into(), ..rig.scene.request() })
        .await
        .text();
    let sent: Value = rig.sent();
    assert_eq!(sent["seed"].to_string(), "12345678901234567890");
    assert_eq!(
        (sent["temperature"].to_string(), sent["metadata"].to_string()),
        ("0.10".into(), r#"{"b":1,"a":2}"#.into())
    );
}
