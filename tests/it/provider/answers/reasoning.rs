//! Reasoning goes back to the kind that made it, as it came, and to no other.

use rota::api::pb::{FunctionCall, InvokeLlmRequest, Message, Reasoning, Tool, ToolCall};
use serde_json::{Value, json};

use super::{RPCS, Rig, Rpc};
use crate::support::{
    kinds::{ANTHROPIC, COHERE, GEMINI, Kind, OPENAI_COMPATIBLE},
    world::hi,
};

fn tools() -> Vec<Tool> {
    vec![Tool { name: "f".into(), ..Tool::default() }]
}

/// An assistant's message that calls `f`, thought of in that way.
fn called(reasoning: Vec<Reasoning>) -> Message {
    let function = FunctionCall { name: "f".into(), arguments: "{\"a\":1}".into() };
    let call = ToolCall {
        id: "call_1".into(),
        r#type: "function".into(),
        function: Some(function),
        ..ToolCall::default()
    };
    Message { role: "assistant".into(), tool_calls: vec![call], reasoning, ..Message::default() }
}

fn result() -> Message {
    Message { role: "tool".into(), tool_call_id: "call_1".into(), content: "42".into(), ..Message::default() }
}

/// The body that goes to that kind and model.
async fn sent(kind: &Kind, model: &str, asked: Message) -> Value {
    let mut rig = Rig::start(kind).await;
    rig.upstream_model(model).await;
    let messages = vec![hi(), asked, result()];
    rig.send(Rpc::Whole, InvokeLlmRequest { messages, tools: tools(), ..rig.scene.request() }).await.text();
    rig.sent()
}

fn piece(kind: &str, text: &str, signature: &str, index: i32) -> Reasoning {
    Reasoning {
        kind: kind.into(),
        text: text.into(),
        signature: signature.into(),
        index,
        ..Reasoning::default()
    }
}

// <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>: each block where it stood; redacted ones
// too.
#[tokio::test(flavor = "multi_thread")]
async fn anthropics_blocks_go_back_where_they_stood() {
    let redacted = Reasoning { data: "secret".into(), index: 1, ..piece("anthropic", "", "", 1) };
    let body = sent(&ANTHROPIC, "claude", called(vec![piece("anthropic", "hm", "sig", 0), redacted])).await;
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
    ]);
    assert_eq!(body["messages"][1]["content"], expected);
}

// <https://ai.google.dev/gemini-api/docs/thought-signatures>: at the call that it came with; Google's stand-in goes
// only to models that ask for one, and only where nothing was given.
#[tokio::test(flavor = "multi_thread")]
async fn geminis_signatures_stand_at_their_calls() {
    let own = Reasoning { id: "call_1".into(), ..piece("gemini", "", "c2ln", 0) };
    let signature =
        |body: &Value| body["contents"][1]["parts"][0].get("thoughtSignature").cloned().unwrap_or_default();
    for model in ["gemini-2.5-pro", "gemini-3-pro-preview"] {
        let body = sent(&GEMINI, model, called(vec![own.clone()])).await;
        assert_eq!(signature(&body), "c2ln", "{model}");
        let body = sent(&GEMINI, model, called(vec![piece("anthropic", "hm", "sig", 0)])).await;
        let stand_in = if model.starts_with("gemini-3") {
            "skip_thought_signature_validator".into()
        } else {
            Value::Null
        };
        assert_eq!(signature(&body), stand_in, "{model}");
        assert!(!body.to_string().contains("hm"), "{body}");
    }
}

// <https://api-docs.deepseek.com/guides/thinking_mode#tool-calls>: within a loop of tools, and not behind the next
// question; <https://openrouter.ai/docs/guides/best-practices/reasoning-tokens#preserving-reasoning>.
#[tokio::test(flavor = "multi_thread")]
async fn openais_wire_gets_back_what_its_servers_ask_for() {
    let plain = || piece("openai_compatible", "hm", "", 0);
    let body = sent(&OPENAI_COMPATIBLE, "m", called(vec![plain()])).await;
    assert_eq!(body["messages"][1]["reasoning_content"], "hm");
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    let messages = vec![hi(), called(vec![plain()]), result(), hi()];
    rig.send(Rpc::Whole, InvokeLlmRequest { messages, tools: tools(), ..rig.scene.request() }).await.text();
    assert!(rig.sent()["messages"][1].get("reasoning_content").is_none());
    let extra_json = r#"{"type":"reasoning.text","format":"anthropic-claude-v1"}"#.to_owned();
    let detail = Reasoning { extra_json, ..piece("openai_compatible", "hm", "sig", 0) };
    let body = sent(&OPENAI_COMPATIBLE, "m", called(vec![detail])).await;
    let expected = json!([{"type": "reasoning.text", "format": "anthropic-claude-v1", "text": "hm", "signature": "sig", "index": 0}]);
    assert_eq!(body["messages"][1]["reasoning_details"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kind_gets_the_reasoning_of_another() {
    let kinds = [&ANTHROPIC, &GEMINI, &OPENAI_COMPATIBLE, &COHERE];
    for kind in kinds {
        let others = kinds.iter().filter(|other| other.name != kind.name);
        let reasoning = others.map(|other| piece(other.name, "private", "c2ln", 0)).collect();
        let mut asked = called(reasoning);
        asked.reasoning_content = "private".into();
        let body = sent(kind, "m", asked).await.to_string();
        assert!(!body.contains("private") && !body.contains("c2ln"), "{}: {body}", kind.name);
    }
}

/// A loop of tools over OpenAI's wire, with a server that asks for the reasoning of each round.
#[tokio::test(flavor = "multi_thread")]
async fn loops_over_openais_wire_keep_their_reasoning() {
    let tools: Vec<Tool> =
        ["first", "second", "third"].map(|name| Tool { name: name.into(), ..Tool::default() }).into();
    for asked in [r#"{"thinking":{"type":"enabled"}}"#, r#"{"reasoning":{"effort":"low"}}"#] {
        for rpc in RPCS {
            let rig = Rig::start(&OPENAI_COMPATIBLE).await;
            let mut messages = vec![hi()];
            for tool in &tools {
                let request = InvokeLlmRequest {
                    messages: messages.clone(),
                    tools: tools.clone(),
                    parameters_json: asked.into(),
                    ..rig.scene.request()
                };
                let outcome = rig.send(rpc, request).await;
                assert_eq!(outcome.calls(), [(tool.name.clone(), "{}".into())], "{asked} {rpc:?}");
                let id = outcome.message().tool_calls[0].id.clone();
                messages.extend([outcome.message(), Message { tool_call_id: id, ..result() }]);
            }
            let request = InvokeLlmRequest {
                messages,
                tools: tools.clone(),
                parameters_json: asked.into(),
                ..rig.scene.request()
            };
            assert!(rig.send(rpc, request).await.text().starts_with("served by"), "{asked} {rpc:?}");
        }
    }
}
