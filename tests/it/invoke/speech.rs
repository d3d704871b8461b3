//! Speech to text: every attempt sends the same recording.

use rota::{
    api::pb::{ErrorClass, InvokeSpeechToTextRequest, InvokeSpeechToTextResponse, ModelType},
    scripted::{Script, Upstream},
};
use tonic::Status;

use crate::support::{failure::classes, on_both_states, refusal::invalid_fields, rota::Rota, world::Scene};

on_both_states!(a_recording_is_sent_again_as_it_was);

async fn scene(rota: &Rota, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.key.model_type = ModelType::SpeechToText.into();
    scene.key.model = "hear".into();
    scene.add_model(&upstream.base_url()).await;
    scene.add_configs(2).await;
    scene.enable().await;
    scene
}

fn request(scene: &Scene) -> InvokeSpeechToTextRequest {
    InvokeSpeechToTextRequest {
        key: Some(scene.key.clone()),
        audio: b"RIFF and so on".to_vec(),
        filename: "hello \"world\".wav".into(),
        mime_type: "audio/wav".into(),
        language: "en".into(),
        ..Default::default()
    }
}

async fn hear(
    scene: &Scene,
    request: InvokeSpeechToTextRequest,
) -> Result<InvokeSpeechToTextResponse, Status> {
    scene.clients.invoke.clone().invoke_speech_to_text(request).await.map(tonic::Response::into_inner)
}

async fn a_recording_is_sent_again_as_it_was(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    upstream.script(&scene.keys[0], Script::fail(503));
    let reply = hear(&scene, request(&scene)).await.unwrap();
    assert!(reply.text.starts_with("hello"), "{}", reply.text);
    let attempts = reply.route.unwrap().attempts;
    assert_eq!(classes(&attempts), [ErrorClass::ServerError, ErrorClass::Unspecified]);
    let sent = upstream.requests();
    assert_eq!(sent.len(), 2);
    for sent in &sent {
        assert_eq!(sent.path, "/v1/audio/transcriptions");
        assert!(sent.headers["content-type"].to_str().unwrap().starts_with("multipart/form-data"));
        let form = sent.body.as_str().unwrap();
        for part in [
            "name=\"model\"\r\n\r\nhear\r\n",
            "name=\"language\"\r\n\r\nen\r\n",
            "RIFF and so on\r\n",
            "audio/wav",
        ] {
            assert!(form.contains(part), "{part} in {form}");
        }
    }
    let bare = InvokeSpeechToTextRequest {
        key: Some(scene.key.clone()),
        audio: b"x".to_vec(),
        ..Default::default()
    };
    assert_eq!(hear(&scene, bare).await.unwrap().text, "audio");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_recording_is_refused() {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(Rota::shared().await, &upstream).await;
    for (field, request) in [
        ("audio", InvokeSpeechToTextRequest { audio: Vec::new(), ..request(&scene) }),
        ("filename", InvokeSpeechToTextRequest { filename: "../x".into(), ..request(&scene) }),
        ("filename", InvokeSpeechToTextRequest { filename: "a\r\nb".into(), ..request(&scene) }),
        ("filename", InvokeSpeechToTextRequest { filename: "a".repeat(257), ..request(&scene) }),
        ("mime_type", InvokeSpeechToTextRequest { mime_type: "audio\n".into(), ..request(&scene) }),
        ("language", InvokeSpeechToTextRequest { language: "e n".into(), ..request(&scene) }),
    ] {
        assert_eq!(invalid_fields(hear(&scene, request).await), [field]);
    }
    assert_eq!(upstream.total_hits(), 0);
    let odd = InvokeSpeechToTextRequest { mime_type: "nothing".into(), ..request(&scene) };
    let status = hear(&scene, odd).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(upstream.total_hits(), 0);
}
