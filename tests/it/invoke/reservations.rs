//! What calls reserve of a config's tokens is given back where they were refused, and corrected by what they used.

use std::time::Duration;

use rota::{
    api::pb::{ForwardRequest, InvokeLlmRequest, Limits},
    scripted::{Raw, Script, Upstream},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{
    eventually,
    failure::{error, told},
    on_both_states, read,
    rota::Rota,
    world::{Scene, hi},
};

on_both_states!(
    a_refused_call_gives_its_tokens_back,
    forward_settles_by_the_usage_that_passes,
    a_forward_that_was_refused_gives_its_tokens_back,
);

const LIMIT: u32 = 1000;

/// A pool of one config that takes so many tokens a minute.
async fn limited(rota: &Rota) -> (Upstream, Scene) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    scene
        .change_configs(|configs| {
            configs[0].limits = Some(Limits { tokens_per_minute: LIMIT, ..Limits::default() });
            configs[1].enabled = Some(false);
        })
        .await;
    (upstream, scene)
}

/// A call that may use nearly all of them.
fn large(scene: &Scene) -> InvokeLlmRequest {
    let parameters_json = json!({"max_tokens": 900}).to_string();
    InvokeLlmRequest { messages: vec![hi()], parameters_json, ..scene.request() }
}

/// Asks until the config has room. What was reserved is given back off the callers' path.
async fn served_soon(scene: &Scene) {
    eventually(Duration::from_secs(5), async || {
        scene.send(large(scene)).await.map(drop).map_err(|status| format!("{status:?}"))
    })
    .await;
}

async fn a_refused_call_gives_its_tokens_back(rota: &Rota) {
    for status in [400, 404] {
        let (upstream, scene) = limited(rota).await;
        upstream.script(&scene.keys[0], Script::sequence([Script::fail(status), Script::Answer]));
        scene.send(large(&scene)).await.unwrap_err();
        if status == 404 {
            continue;
        }
        served_soon(&scene).await;
    }
    // What may have been worked on stays counted.
    let (upstream, scene) = limited(rota).await;
    upstream.script(&scene.keys[0], Script::sequence([Script::fail(504), Script::Answer]));
    scene.send(large(&scene)).await.unwrap_err();
    let full = scene.send(large(&scene)).await.unwrap_err();
    assert_eq!(told(&full).1, "ALL_CONFIGS_COOLING_DOWN");
}

fn forward(scene: &Scene) -> ForwardRequest {
    ForwardRequest {
        key: Some(scene.key.clone()),
        method: "POST".to_owned(),
        path: "responses".to_owned(),
        body: vec![b' '; 3700],
        ..ForwardRequest::default()
    }
}

async fn send(scene: &Scene) -> (i32, Vec<u8>) {
    let answer = scene.clients.invoke.clone().forward(forward(scene)).await.unwrap().into_inner();
    let (messages, end) = read(answer).await;
    end.unwrap();
    (messages[0].status, messages.into_iter().flat_map(|message| message.body).collect())
}

async fn forward_settles_by_the_usage_that_passes(rota: &Rota) {
    let answer = |usage: Value| {
        json!({"object": "response", "status": "completed", "usage": usage, "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]})
    };
    let whole = answer(json!({"input_tokens": 40, "output_tokens": 2, "total_tokens": 42}));
    let completed = json!({"type": "response.completed", "response": whole});
    let event = format!("event: response.completed\ndata: {completed}\n\n");
    let table = [
        (Raw::json(&whole), whole.to_string()),
        (Raw::stream(event[..60].to_owned()).then(event[60..].to_owned()), event.clone()),
    ];
    for (raw, body) in table {
        let (upstream, scene) = limited(rota).await;
        upstream.script(&scene.keys[0], Script::sequence([Script::Raw(raw), Script::Answer]));
        assert_eq!(send(&scene).await, (200, body.into_bytes()), "the bytes are handed on as they came");
        served_soon(&scene).await;
    }
    let (upstream, scene) = limited(rota).await;
    let silent = Raw::json(&answer(Value::Null));
    upstream.script(&scene.keys[0], Script::sequence([Script::Raw(silent), Script::Answer]));
    send(&scene).await;
    let full = scene.send(large(&scene)).await.unwrap_err();
    assert_eq!(told(&full), error(Code::ResourceExhausted, "ALL_CONFIGS_COOLING_DOWN"));
}

async fn a_forward_that_was_refused_gives_its_tokens_back(rota: &Rota) {
    let (upstream, scene) = limited(rota).await;
    upstream.script(&scene.keys[0], Script::sequence([Script::fail(422), Script::Answer]));
    assert_eq!(send(&scene).await.0, 422);
    served_soon(&scene).await;
}
