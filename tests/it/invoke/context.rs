//! Requests that are too long for a model: they go on with one that can hold them.

use rota::{
    api::pb::{ErrorClass, InvokeLlmRequest, Message, Model, PutModelRequest},
    scripted::{Script, Upstream},
};
use serde_json::json;
use tonic::Code;

use crate::support::{
    chain::Chain,
    failure::{classes, error, route, told},
    on_both_states,
    rota::Rota,
    world::{Scene, hi},
};

on_both_states!(
    a_request_that_is_too_long_goes_on_with_the_fallback,
    a_sibling_of_another_model_may_hold_it,
    where_nobody_can_hold_it_the_caller_is_told,
    a_model_that_cannot_hold_it_is_not_asked,
);

/// As OpenAI refuses it.
fn too_long() -> Script {
    Script::fail_with(
        400,
        &json!({"message": "This model's maximum context length is 8192 tokens.", "type": "invalid_request_error",
            "param": "messages", "code": "context_length_exceeded"}),
    )
}

async fn a_request_that_is_too_long_goes_on_with_the_fallback(rota: &Rota) {
    let chain = Chain::set(rota, 3, 2).await;
    chain.link(0, &[1, 2]).await.unwrap();
    chain.script(0, &too_long());
    chain.script(1, &too_long());
    let served = chain.scenes[0].ask().await.unwrap().route.unwrap();
    let too_long = ErrorClass::ContextTooLong;
    assert_eq!(classes(&served.attempts), [too_long, too_long, ErrorClass::Unspecified]);
    assert_eq!((served.model.as_str(), chain.hits()), ("fallback-2", vec![1, 1, 1]));
    for scene in &chain.scenes {
        assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
    }
    let streamed = chain.scenes[0].ask_stream().await.unwrap();
    assert_eq!(streamed[0].route.as_ref().unwrap().model, "fallback-2");
}

async fn a_sibling_of_another_model_may_hold_it(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 4).await;
    scene.change_configs(|configs| configs[3].upstream_model = "larger".to_owned()).await;
    for key in &scene.keys[..3] {
        upstream.script(key, too_long());
    }
    let served = scene.ask().await.unwrap().route.unwrap();
    assert_eq!((served.config_name.as_str(), served.attempts.len()), ("config-3", 2));
    assert_eq!(scene.hits(&upstream), [1, 0, 0, 1]);
}

async fn where_nobody_can_hold_it_the_caller_is_told(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    for key in &scene.keys {
        upstream.script(key, too_long());
    }
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::InvalidArgument, "UPSTREAM_CONTEXT_TOO_LONG"));
    assert_eq!((route(&failed).attempts.len(), upstream.total_hits()), (1, 1));
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
}

async fn a_model_that_cannot_hold_it_is_not_asked(rota: &Rota) {
    let chain = Chain::set(rota, 3, 2).await;
    let window = async |model: usize, fallbacks: &[usize], context_window| {
        let scene = &chain.scenes[model];
        let model = Model {
            key: Some(scene.key.clone()),
            fallbacks: fallbacks.iter().map(|index| chain.scenes[*index].key.clone()).collect(),
            context_window: Some(context_window),
            ..Model::default()
        };
        let put = PutModelRequest { model: Some(model) };
        let stored = scene.clients.config.clone().put_model(put).await.unwrap().into_inner().model.unwrap();
        assert_eq!(stored.context_window, Some(context_window));
    };
    window(0, &[1, 2], 100).await;
    window(1, &[], 200).await;
    window(2, &[], 4000).await;
    let ask = async |words: usize| {
        let message = Message { content: "word ".repeat(words), ..hi() };
        let request = InvokeLlmRequest { messages: vec![message], ..chain.scenes[0].request() };
        chain.scenes[0].send(request).await.unwrap().route.unwrap().model
    };
    assert_eq!(ask(10).await, "chat");
    assert_eq!(ask(140).await, "fallback-1");
    assert_eq!(ask(1000).await, "fallback-2");
    assert_eq!(chain.hits(), [1, 1, 1]);
    // Where none can, the provider has the last word.
    assert_eq!(ask(10_000).await, "chat");
    chain.disable(2).await;
    assert_eq!(ask(1000).await, "chat");
}
