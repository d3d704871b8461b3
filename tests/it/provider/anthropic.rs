//! What is Anthropic's own in a request. The rest is in `drivers`.

use rota::{
    api::pb::{InvokeLlmRequest, Message},
    scripted::Upstream,
};
use serde_json::json;

use crate::support::{
    kinds::ANTHROPIC,
    rota::Rota,
    world::{Scene, hi},
};

#[tokio::test(flavor = "multi_thread")]
async fn system_messages_stand_apart_and_the_version_goes_along() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(Rota::shared().await, &ANTHROPIC, &upstream, 2).await;
    let system = Message { role: "system".into(), content: "be brief".into(), ..Message::default() };
    let request = InvokeLlmRequest { messages: vec![system, hi()], ..scene.request() };
    scene.send(request).await.unwrap();
    let sent = upstream.requests().remove(0);
    assert_eq!(sent.path, "/v1/messages");
    assert_eq!(sent.headers["anthropic-version"], "2023-06-01");
    assert_eq!(
        (&sent.body["model"], &sent.body["system"], &sent.body["max_tokens"]),
        (&json!("chat"), &json!("be brief"), &json!(4096))
    );
    assert_eq!(sent.body["messages"].as_array().unwrap().len(), 1);
}
