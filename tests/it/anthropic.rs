//! What is Anthropic's own, over real HTTP: what goes out, a refusal of its kind, and a credential that is tried.

use rota::{
    api::pb::{ErrorClass, InvokeLlmRequest, Message, Tool, ValidateCredentialRequest},
    scripted::{Script, Upstream},
};
use serde_json::json;
use tonic::Code;

use crate::support::{
    failure::{classes, error, told},
    kinds::ANTHROPIC,
    listing::api_key_field,
    rota::Rota,
    world::{Scene, hi},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_a_tool_and_a_stream_come_back_in_the_contracts_words() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(Rota::shared().await, &ANTHROPIC, &upstream, 2).await;
    let (refused, served) = (&scene.keys[0], format!("served by {}", scene.keys[1]));
    upstream.script(refused, Script::fail_for(401, "60"));
    let system = Message { role: "system".into(), content: "be brief".into(), ..Message::default() };
    let request = InvokeLlmRequest { messages: vec![system, hi()], ..scene.request() };
    let reply = scene.send(request).await.unwrap();
    assert_eq!(reply.message.unwrap().content, served);
    assert_eq!((reply.finish_reason.as_str(), reply.usage.unwrap().total_tokens), ("stop", 13));
    let attempts = reply.route.unwrap().attempts;
    assert_eq!(classes(&attempts), [ErrorClass::Authentication, ErrorClass::Unspecified]);
    assert!(!attempts[0].message.contains(refused), "{}", attempts[0].message);
    let sent = upstream.requests().remove(1);
    assert_eq!(sent.path, "/v1/messages");
    assert_eq!(sent.headers["anthropic-version"], "2023-06-01");
    assert_eq!(
        (&sent.body["model"], &sent.body["system"], &sent.body["max_tokens"]),
        (&json!("chat"), &json!("be brief"), &json!(4096))
    );
    assert_eq!(sent.body["messages"].as_array().unwrap().len(), 1);

    let tool = Tool { name: "weather".into(), ..Tool::default() };
    let reply = scene.send(InvokeLlmRequest { tools: vec![tool], ..scene.request() }).await.unwrap();
    assert_eq!(reply.finish_reason, "tool_calls");
    let function = reply.message.unwrap().tool_calls.remove(0).function.unwrap();
    assert_eq!((function.name.as_str(), function.arguments.as_str()), ("weather", "{}"));

    let (mut text, mut finish, mut tokens) = (String::new(), String::new(), 0);
    for part in scene.ask_stream().await.unwrap() {
        text += &part.delta.map(|delta| delta.content).unwrap_or_default();
        finish += &part.finish_reason;
        tokens = part.usage.map_or(tokens, |usage| usage.total_tokens);
    }
    assert_eq!((text, finish.as_str(), tokens), (served, "stop", 13));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_class_and_a_credential_can_be_tried() {
    let upstream = Upstream::start().await.unwrap();
    for (status, code, reason) in [
        (401, Code::FailedPrecondition, "UPSTREAM_AUTHENTICATION"),
        (400, Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"),
        (529, Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
    ] {
        let scene = Scene::of_kind(Rota::shared().await, &ANTHROPIC, &upstream, 2).await;
        for key in &scene.keys {
            upstream.script(key, Script::fail(status));
        }
        assert_eq!(told(&scene.ask().await.unwrap_err()), error(code, reason));
    }
    let scene = Scene::of_kind(Rota::shared().await, &ANTHROPIC, &upstream, 2).await;
    upstream.script("key-401", Script::fail(401));
    for (key, class) in [("key-good", ErrorClass::Unspecified), ("key-401", ErrorClass::Authentication)] {
        let provider = scene.provider.clone();
        let request =
            ValidateCredentialRequest { provider, fields: api_key_field(key), ..Default::default() };
        let tried = scene.clients.config.clone().validate_credential(request).await.unwrap().into_inner();
        assert_eq!((tried.valid, tried.error_class()), (class == ErrorClass::Unspecified, class));
    }
}
