//! Failover from a provider of one protocol to one of another, through the SDKs of both.

use rota::{
    api::pb::{CreateProviderRequest, Model, Provider, PutModelRequest},
    scripted::{Script, Upstream},
};
use serde_json::json;

use crate::support::{
    kinds::{self, Kind},
    rota::Rota,
    sdk::{Sdk, calls, question, served_by},
    world::Scene,
};

/// A model whose fallback is at a provider of another kind: a scene of each.
async fn pair(upstream: &Upstream, first: &Kind, second: &Kind) -> (Scene, Scene) {
    let rota = Rota::shared().await;
    let scene = Scene::of_kind(rota, first, upstream, 2).await;
    let mut spare = scene.clone();
    spare.provider = "spare".to_owned();
    spare.key.provider = "spare".to_owned();
    let provider = Provider {
        tenant_id: scene.tenant.clone(),
        name: "spare".to_owned(),
        kind: second.name.to_owned(),
        base_url: second.base_url(upstream),
        ..Provider::default()
    };
    let create = CreateProviderRequest { provider: Some(provider) };
    spare.clients.config.create_provider(create).await.unwrap();
    let put = |model: Model| PutModelRequest { model: Some(model) };
    let model = Model { key: Some(spare.key.clone()), ..Model::default() };
    spare.clients.config.put_model(put(model)).await.unwrap();
    spare.add_configs(2).await;
    spare.enable().await;
    let fallbacks = vec![spare.key.clone()];
    let model = Model { key: Some(scene.key.clone()), fallbacks, ..Model::default() };
    spare.clients.config.put_model(put(model)).await.unwrap();
    (scene, spare)
}

/// Whether a call of that SDK comes through, where the first model fails in each of these ways.
async fn comes_through(program: &str, api: &str, first: &Kind, second: &Kind) {
    let rota = Rota::shared().await;
    let mut sdk = Sdk::python(program).await;
    for (script, streams) in [
        (Script::fail(503), &[false, true][..]),
        (Script::fail_for(429, "60"), &[false, true]),
        (Script::BreakAfter(0), &[true]),
        (Script::ErrorAfter(0, (first.limited)()), &[false, true]),
    ] {
        for stream in streams {
            let upstream = Upstream::discreet().await.unwrap();
            let (scene, spare) = pair(&upstream, first, second).await;
            for key in &scene.keys {
                upstream.script(key, script.clone());
            }
            for ask in ["text", "tools"] {
                let asked = question(rota, &scene, json!({"api": api, "ask": ask, "stream": stream})).await;
                let answer = sdk.ask(&asked).await;
                let shown = format!(
                    "{program} {api}, {} to {}, {script:?}, {ask}: {answer}",
                    first.name, second.name
                );
                if ask == "text" {
                    assert!(served_by(&spare, &answer).is_some(), "{shown}");
                } else {
                    assert_eq!(answer["calls"].as_array().map(Vec::len), Some(2), "{shown}");
                }
                if !stream {
                    assert_eq!(answer["headers"]["x-rota-provider"], "spare", "{shown}");
                }
            }
            assert!(calls(&scene, &upstream) > 0 && calls(&spare, &upstream) == 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_calls_from_anthropic_to_openai() {
    comes_through("sdk_openai.py", "chat", &kinds::ANTHROPIC, &kinds::OPENAI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_calls_from_openai_to_anthropic() {
    comes_through("sdk_openai.py", "chat", &kinds::OPENAI, &kinds::ANTHROPIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_from_gemini_to_openai() {
    comes_through("sdk_openai.py", "responses", &kinds::GEMINI, &kinds::OPENAI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropics_calls_from_openai_to_anthropic() {
    comes_through("sdk_anthropic.py", "chat", &kinds::OPENAI_COMPATIBLE, &kinds::ANTHROPIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropics_calls_from_anthropic_to_openai() {
    comes_through("sdk_anthropic.py", "chat", &kinds::ANTHROPIC, &kinds::OPENAI).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn geminis_calls_from_gemini_to_cohere() {
    comes_through("sdk_gemini.py", "chat", &kinds::GEMINI, &kinds::COHERE).await;
}
