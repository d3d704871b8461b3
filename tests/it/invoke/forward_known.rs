//! Forward to endpoints that are known: it moves on as every other call, and its answers are judged.

use rota::{
    api::pb::{ErrorClass, ForwardRequest, ForwardResponse},
    scripted::{Raw, Script, Upstream},
};
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{
    failure::{classes, error, told},
    kinds::{self, Kind},
    read,
    rota::Rota,
    world::Scene,
};

fn chat(scene: &Scene, kind: &Kind, stream: bool) -> ForwardRequest {
    let path = match kind.name {
        "anthropic" => "messages",
        "gemini" if stream => "models/chat:streamGenerateContent",
        "gemini" => "models/chat:generateContent",
        _ => "chat/completions",
    };
    let body = if kind.name == "gemini" {
        json!({"contents": [{"parts": [{"text": "hi"}]}]})
    } else {
        json!({"model": "chat", "stream": stream, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
    };
    ForwardRequest {
        key: Some(scene.key.clone()),
        method: "POST".to_owned(),
        path: path.to_owned(),
        query: if kind.name == "gemini" && stream { "alt=sse".to_owned() } else { String::new() },
        headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
        body: body.to_string().into_bytes(),
        ..ForwardRequest::default()
    }
}

async fn send(scene: &Scene, request: ForwardRequest) -> (Vec<ForwardResponse>, Result<(), Status>) {
    match scene.clients.invoke.clone().forward(request).await {
        Ok(answer) => read(answer.into_inner()).await,
        Err(status) => (Vec::new(), Err(status)),
    }
}

fn text(messages: &[ForwardResponse]) -> String {
    let body = messages.iter().flat_map(|message| message.body.clone()).collect();
    String::from_utf8(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_under_success_moves_on_and_cools() {
    let rota = Rota::shared().await;
    let upstream = Upstream::start().await.unwrap();
    for kind in [&kinds::OPENAI, &kinds::ANTHROPIC, &kinds::GEMINI] {
        for stream in [false, true] {
            let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
            upstream.script(&scene.keys[0], Script::ErrorAfter(0, (kind.limited)()));
            let (messages, end) = send(&scene, chat(&scene, kind, stream)).await;
            end.unwrap();
            assert!(text(&messages).contains("***"), "served by the key that is blotted out");
            let attempts = &messages[0].route.as_ref().unwrap().attempts;
            let expected = [ErrorClass::RateLimited, ErrorClass::Unspecified];
            assert_eq!(classes(attempts), expected, "{} {stream}", kind.name);
            assert!(scene.configs_now().await[0].in_cooldown, "{} {stream}", kind.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_move_on_and_the_last_answer_is_the_callers() {
    let rota = Rota::shared().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, &kinds::OPENAI, &upstream, 2).await;
    upstream.script(&scene.keys[0], Script::fail(503));
    let (messages, end) = send(&scene, chat(&scene, &kinds::OPENAI, false)).await;
    end.unwrap();
    assert_eq!(messages[0].status, 200);
    assert_eq!(scene.hits(&upstream), [1, 1]);

    let scene = Scene::of_kind(rota, &kinds::OPENAI, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::fail(503));
    }
    let (messages, end) = send(&scene, chat(&scene, &kinds::OPENAI, false)).await;
    end.unwrap();
    assert_eq!(messages[0].status, 503);
    assert_eq!(scene.hits(&upstream), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_handed_on_as_it_came_and_its_break_is_told() {
    let rota = Rota::shared().await;
    let upstream = Upstream::start().await.unwrap();
    let begin = ": hi\r\n\r\ndata:{ \"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    let content = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"n\":12345678901234567890}\n\n";
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let scene = Scene::of_kind(rota, &kinds::OPENAI, &upstream, 2).await;
    let whole = Raw::stream(begin).then(content).then(end);
    for key in &scene.keys {
        upstream.script(key, Script::Raw(whole.clone()));
    }
    let (messages, ended) = send(&scene, chat(&scene, &kinds::OPENAI, true)).await;
    ended.unwrap();
    assert_eq!(text(&messages), [begin, content, end].concat());

    for key in &scene.keys {
        upstream.script(key, Script::Raw(Raw::stream(begin).then(content)));
    }
    let (messages, ended) = send(&scene, chat(&scene, &kinds::OPENAI, true)).await;
    assert_eq!(text(&messages), [begin, content].concat());
    assert_eq!(told(&ended.unwrap_err()), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
}
