//! The faults of failoverbench over the HTTP door: see `tests/it/invoke/sixteen_faults.rs`.

use rota::scripted::{Script, Upstream};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

use crate::{
    invoke::sixteen_faults::{
        Door, Refused, Setting, Told,
        Verdict::{Fail, Pass, Safe},
        verdicts,
    },
    support::{
        http::{Http, model},
        rota::Rota,
        world::Scene,
    },
};

/// A streamed chat, as failoverbench reads one (`failoverbench/adapters/http_common.py`).
pub async fn ask(http: &Http, scene: &Scene) -> Told {
    let body = json!({
        "model": model(scene),
        "messages": [{"role": "user", "content": "hi"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let unclear = Refused { clear: false, invalid: false };
    let mut told = Told { end: Err(unclear), usage: false, model: String::new() };
    let mut answer = http.post(&scene.token, "/v1/chat/completions", body.to_string()).await;
    if let Some(own) = answer.headers().get("x-rota-model") {
        own.to_str().unwrap().clone_into(&mut told.model);
    }
    let status = answer.status().as_u16();
    if status != 200 {
        let error: Value = answer.json().await.unwrap_or_default();
        let clear = status != 500 && error["error"]["message"].is_string();
        told.end = Err(Refused { clear, invalid: status == 400 });
        return told;
    }
    let mut bytes = Vec::new();
    while let Ok(Some(more)) = answer.chunk().await {
        bytes.extend(more);
    }
    let (mut said, mut finished) = (String::new(), false);
    let text = String::from_utf8(bytes).unwrap();
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let event: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("{text}"));
        if let Some(error) = event.get("error") {
            told.end = Err(Refused { clear: error["message"].is_string(), invalid: false });
            return told;
        }
        said += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        finished |= event["choices"][0]["finish_reason"].is_string();
        told.usage |= event["usage"].is_object();
    }
    if finished {
        told.end = Ok(said);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_recommended_settings_none_fails_and_fourteen_pass() {
    for two_keys in [false, true] {
        let told = verdicts(Setting { two_keys, recommended: true, door: Door::Http }).await;
        assert!(!told.contains(&Fail), "{told:?}");
        let passed = told.iter().filter(|verdict| **verdict == Pass).count();
        assert!(passed >= 14, "{told:?}");
        // The one whose fallback cannot go on.
        assert_eq!(told[13], Safe, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_defaults_none_fails() {
    for two_keys in [false, true] {
        let told = verdicts(Setting { two_keys, recommended: false, door: Door::Http }).await;
        assert!(!told.contains(&Fail), "{told:?}");
    }
}

/// Nothing is held back to hide a cut.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_recommended_settings_each_token_arrives_when_it_is_said() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let policy = rota::api::pb::BalancingPolicy {
        on_break: rota::api::pb::OnBreak::Continue.into(),
        ..Default::default()
    };
    scene.set_policy(policy).await;
    let pause = Duration::from_millis(400);
    for key in &scene.keys {
        upstream.script(key, Script::Slow(pause));
    }
    let http = Http::of(rota).await;
    let body =
        json!({"model": model(&scene), "messages": [{"role": "user", "content": "hi"}], "stream": true});
    let mut answer = http.post(&scene.token, "/v1/chat/completions", body.to_string()).await;
    let (mut text, mut times) = (String::new(), Vec::new());
    while let Some(more) = answer.chunk().await.unwrap() {
        let more = String::from_utf8_lossy(&more).into_owned();
        let words = more.matches("\"content\":\"").count() - more.matches("\"content\":\"\"").count();
        times.extend(vec![Instant::now(); words]);
        text += &more;
    }
    assert_eq!(times.len(), 3, "{text}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] > pause / 2), "{times:?}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}
