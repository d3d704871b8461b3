//! Text to speech: fails over before the first audio, never after; the voices are known without a call.

use rota::{
    api::pb::{ErrorClass, InvokeTtsRequest, InvokeTtsResponse, ListTtsVoicesRequest, ModelType},
    scripted::{Script, Upstream},
};
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{
    failure::{classes, error, route, told},
    on_both_states, read,
    refusal::invalid_fields,
    rota::Rota,
    world::Scene,
};

on_both_states!(speech_moves_on_until_the_first_audio, after_the_first_audio_a_break_ends_the_speech);

async fn scene(rota: &Rota, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.key.model_type = ModelType::Tts.into();
    scene.key.model = "speak".into();
    scene.add_model(&upstream.base_url()).await;
    scene.add_configs(2).await;
    scene.enable().await;
    scene
}

fn request(scene: &Scene) -> InvokeTtsRequest {
    InvokeTtsRequest { key: Some(scene.key.clone()), text: "Hello".into(), ..Default::default() }
}

async fn speak(
    scene: &Scene,
    request: InvokeTtsRequest,
) -> Result<(Vec<InvokeTtsResponse>, Result<(), Status>), Status> {
    let stream = scene.clients.invoke.clone().invoke_tts(request).await?;
    Ok(read(stream.into_inner()).await)
}

fn audio(messages: &[InvokeTtsResponse]) -> Vec<u8> {
    assert!(messages.iter().all(|message| !message.audio.is_empty()));
    messages.iter().flat_map(|message| message.audio.clone()).collect()
}

async fn speech_moves_on_until_the_first_audio(rota: &Rota) {
    for (script, class) in [
        (Script::fail(401), ErrorClass::Authentication),
        (Script::fail_for(429, "60"), ErrorClass::RateLimited),
        (Script::fail(503), ErrorClass::ServerError),
        (
            Script::fail_with(200, &json!({"message": "busy", "code": "rate_limit_exceeded"})),
            ErrorClass::RateLimited,
        ),
        (Script::Close, ErrorClass::Connection),
        (Script::BreakAfter(0), ErrorClass::Connection),
        (Script::EndAfter(0), ErrorClass::Connection),
    ] {
        let upstream = Upstream::start().await.unwrap();
        let scene = scene(rota, &upstream).await;
        let what = format!("{script:?}");
        upstream.script(&scene.keys[0], script);
        let (messages, end) = speak(&scene, request(&scene)).await.unwrap();
        end.unwrap();
        assert_eq!(audio(&messages), format!("ID3served by {}", scene.keys[1]).into_bytes(), "{what}");
        let route = messages[0].route.clone().unwrap();
        assert_eq!(classes(&route.attempts), [class, ErrorClass::Unspecified], "{what}");
        assert!(messages[1..].iter().all(|message| message.route.is_none()));
    }
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let whole = InvokeTtsRequest { voice: "nova".into(), format: "wav".into(), ..request(&scene) };
    speak(&scene, whole).await.unwrap().1.unwrap();
    speak(&scene, request(&scene)).await.unwrap().1.unwrap();
    let sent: Vec<_> = upstream.requests().into_iter().map(|request| (request.path, request.body)).collect();
    let path = || "/v1/audio/speech".to_owned();
    let body = json!({"model": "speak", "input": "Hello", "voice": "nova", "response_format": "wav"});
    assert_eq!(
        sent,
        [(path(), body), (path(), json!({"model": "speak", "input": "Hello", "voice": "alloy"}))]
    );
    assert_eq!(scene.hits(&upstream), [1, 1]);
}

async fn after_the_first_audio_a_break_ends_the_speech(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    upstream.script(&scene.keys[0], Script::BreakAfter(2));
    let (messages, end) = speak(&scene, request(&scene)).await.unwrap();
    assert!(b"ID3served by ".starts_with(&audio(&messages)));
    let status = end.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
    assert_eq!(classes(&route(&status).attempts), [ErrorClass::Connection]);
    assert_eq!(scene.hits(&upstream), [1, 0]);
    assert_eq!(scene.configs_now().await[0].cooldown_reason(), ErrorClass::Connection);
}

/// Dify's case 33: the voices need no turn.
#[tokio::test(flavor = "multi_thread")]
async fn case_33_voices_are_listed_without_a_turn() {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(Rota::shared().await, &upstream).await;
    let list = async |language: &str| {
        let request = ListTtsVoicesRequest { key: Some(scene.key.clone()), language: language.to_owned() };
        let answer = scene.clients.invoke.clone().list_tts_voices(request).await;
        answer.map(|answer| answer.into_inner().voices)
    };
    let voices = list("").await.unwrap();
    assert_eq!((voices[0].id.as_str(), voices[0].name.as_str()), ("alloy", "Alloy"));
    assert_eq!(list("pt-BR").await.unwrap(), voices);
    assert_eq!(invalid_fields(list("e\nn").await), ["language"]);
    assert_eq!(upstream.total_hits(), 0);
    speak(&scene, request(&scene)).await.unwrap().1.unwrap();
    assert_eq!(scene.hits(&upstream), [1, 0], "the first turn was still to come");
    for (field, wrong) in [
        ("text", InvokeTtsRequest { text: String::new(), ..request(&scene) }),
        ("voice", InvokeTtsRequest { voice: "a\nb".into(), ..request(&scene) }),
        ("format", InvokeTtsRequest { format: "x".repeat(257), ..request(&scene) }),
    ] {
        assert_eq!(invalid_fields(speak(&scene, wrong).await.map(drop)), [field]);
    }
}
