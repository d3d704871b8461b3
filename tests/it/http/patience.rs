//! A first token that is long in coming: after 15 s the status goes out, and what shows that the stream is alive.

use std::time::Duration;

use futures::future::join_all;
use rota::scripted::{Script, Upstream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    http::Http,
    rota::Rota,
    sdk::{Sdk, question, served_by},
    world::Scene,
};

/// How long the door waits.
const PATIENCE: Duration = Duration::from_secs(15);

async fn slow(script: Script) -> (Upstream, Scene) {
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, script.clone().after(PATIENCE + Duration::from_secs(2)));
    }
    (upstream, scene)
}

/// A stream as bytes: when its head came, and all of it.
async fn stream(script: Script, path: &str) -> (Duration, u16, String) {
    let (_upstream, scene) = slow(script).await;
    let body = json!({
        "model": "upstream/chat", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "input": "hi",
        "contents": [{"parts": [{"text": "hi"}]}], "stream": true,
    });
    let body = match path {
        "/v1/responses" => json!({"model": "upstream/chat", "input": "hi", "stream": true}),
        path if path.starts_with("/v1beta") => json!({"contents": body["contents"]}),
        _ => json!({"model": body["model"], "max_tokens": 9, "messages": body["messages"], "stream": true}),
    };
    let http = Http::of(Rota::shared().await).await;
    let began = Instant::now();
    let answer = http.post(&scene.token, path, body.to_string()).await;
    let (took, status) = (began.elapsed(), answer.status().as_u16());
    (took, status, answer.text().await.unwrap())
}

/// A path, what shows that it is alive, and what an error begins with there.
const DOORS: [(&str, &str, &str); 4] = [
    ("/v1/chat/completions", ":", "data: {\"error\":"),
    ("/v1/responses", ":", "event: "),
    ("/v1/messages", "event: ping\n", "event: error\n"),
    ("/v1beta/models/upstream/chat:streamGenerateContent?alt=sse", "\n", "data: {\"error\":"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_first_token_does_not_look_like_a_dead_connection() {
    let good = DOORS.map(|(path, ..)| stream(Script::Answer, path));
    let bad = DOORS.map(|(path, ..)| stream(Script::fail(400), path));
    let sdks = [
        ("sdk_openai.py", "chat"),
        ("sdk_openai.py", "responses"),
        ("sdk_anthropic.py", "chat"),
        ("sdk_gemini.py", "chat"),
    ];
    let sdks = sdks.map(|(program, api)| async move {
        let mut sdk = Sdk::python(program).await;
        let (upstream, scene) = slow(Script::Answer).await;
        let asked = question(Rota::shared().await, &scene, json!({"api": api, "stream": true})).await;
        let answer = sdk.ask(&asked).await;
        (program, served_by(&scene, &answer), answer, upstream.total_hits())
    });
    let (good, bad, sdks) = tokio::join!(join_all(good), join_all(bad), join_all(sdks));
    for ((path, alive, _), (took, status, text)) in DOORS.iter().zip(&good) {
        assert!(
            *took + Duration::from_millis(500) >= PATIENCE && *took < PATIENCE + Duration::from_secs(2),
            "{path}: {took:?}"
        );
        assert_eq!(*status, 200, "{path}");
        assert!(text.starts_with(alive), "{path}: {text}");
        assert!(text.contains("served "), "{path}: {text}");
    }
    for ((path, alive, error), (_, status, text)) in DOORS.iter().zip(&bad) {
        assert_eq!(*status, 200, "{path}");
        assert!(text.starts_with(alive) && text.contains(error), "{path}: {text}");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let read =
            |data: &str| serde_json::from_str::<Value>(data).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert!(
            data.filter(|data| *data != "[DONE]")
                .map(read)
                .any(|event| event.to_string().contains("Invalid request"))
        );
    }
    for (program, served, answer, hits) in sdks {
        assert!(served.is_some() && hits == 1, "{program}, {hits} calls: {answer}");
    }
}
