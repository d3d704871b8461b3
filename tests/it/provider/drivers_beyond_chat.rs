//! What every kind of provider has in common in what it offers beside chat: an answer, and what each status does. A kind's
//! model types are those that it lists itself.

use rota::{
    api::pb::{
        ErrorClass, InvokeModerationRequest, InvokeRerankRequest, InvokeSpeechToTextRequest,
        InvokeTextEmbeddingRequest, InvokeTtsRequest, ListProviderKindsRequest, ModelType, Route,
    },
    scripted::{Script, Upstream},
};
use tonic::{Code, Status};

use crate::support::{
    failure::{classes, error, told},
    kinds::{Kind, on_every_kind},
    read,
    rota::Rota,
    world::Scene,
};

on_every_kind!(every_type_answers, every_type_moves_on_by_the_status, every_type_ends_at_a_bad_request);

/// The model types that the kind lists, chat aside.
async fn types(rota: &Rota, kind: &Kind) -> Vec<ModelType> {
    let mut client = rota.operator().await.config;
    let kinds = client.list_provider_kinds(ListProviderKindsRequest {}).await.unwrap().into_inner().kinds;
    let listed = kinds.into_iter().find(|listed| listed.kind == kind.name).unwrap();
    listed.model_types().filter(|model_type| *model_type != ModelType::Llm).collect()
}

/// Two configs of a model of that kind and type.
async fn scene(rota: &Rota, kind: &Kind, model_type: ModelType, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.key.model_type = model_type.into();
    scene.add_model_of(kind, &kind.base_url(upstream)).await;
    scene.add_configs(2).await;
    scene.enable().await;
    scene
}

/// One call of that type, held to what it must answer.
async fn call(scene: &Scene) -> Result<Route, Status> {
    let key = || Some(scene.key.clone());
    let mut client = scene.clients.invoke.clone();
    let route = match scene.key.model_type() {
        ModelType::TextEmbedding => {
            let texts = vec!["one".into(), "three".into()];
            let request = InvokeTextEmbeddingRequest { key: key(), texts, ..Default::default() };
            let reply = client.invoke_text_embedding(request).await?.into_inner();
            assert_eq!(reply.embeddings.len(), 2);
            // The scripted upstream's vectors begin with the text's length.
            assert_eq!(reply.embeddings.iter().map(|one| one.values[0] as usize).collect::<Vec<_>>(), [3, 5]);
            reply.route
        }
        ModelType::Rerank => {
            let documents = vec!["a".into(), "longer".into()];
            let request =
                InvokeRerankRequest { key: key(), query: "q".into(), documents, ..Default::default() };
            let reply = client.invoke_rerank(request).await?.into_inner();
            assert_eq!(reply.results.iter().map(|result| result.index).collect::<Vec<_>>(), [1, 0]);
            assert_eq!(reply.results[0].text, "longer");
            reply.route
        }
        ModelType::Moderation => {
            let request =
                InvokeModerationRequest { key: key(), text: "violence".into(), ..Default::default() };
            let reply = client.invoke_moderation(request).await?.into_inner();
            assert!(reply.flagged);
            reply.route
        }
        ModelType::SpeechToText => {
            let request = InvokeSpeechToTextRequest {
                key: key(),
                audio: b"RIFF".to_vec(),
                filename: "said.wav".into(),
                ..Default::default()
            };
            let reply = client.invoke_speech_to_text(request).await?.into_inner();
            assert_eq!(reply.text, "said.wav");
            reply.route
        }
        ModelType::Tts => {
            let request = InvokeTtsRequest { key: key(), text: "Hi".into(), ..Default::default() };
            let (messages, end) = read(client.invoke_tts(request).await?.into_inner()).await;
            end?;
            let audio: Vec<u8> = messages.iter().flat_map(|message| message.audio.clone()).collect();
            assert!(audio.starts_with(b"ID3served by "));
            messages.into_iter().next().and_then(|first| first.route)
        }
        ModelType::Llm | ModelType::Unspecified => unreachable!("is in `drivers`"),
    };
    Ok(route.unwrap())
}

async fn every_type_answers(rota: &Rota, kind: &Kind) {
    for model_type in types(rota, kind).await {
        let upstream = Upstream::start().await.unwrap();
        let scene = scene(rota, kind, model_type, &upstream).await;
        for _ in 0..4 {
            let route = call(&scene).await.unwrap();
            assert_eq!(route.attempts.len(), 1, "{model_type:?}");
        }
        assert_eq!(scene.hits(&upstream), [2, 2], "{model_type:?}");
    }
}

async fn every_type_moves_on_by_the_status(rota: &Rota, kind: &Kind) {
    use ErrorClass::*;
    for model_type in types(rota, kind).await {
        for (status, class, cools) in [
            (401, Authentication, true),
            (402, QuotaExhausted, true),
            (404, ModelUnavailable, true),
            (429, RateLimited, true),
            (504, Timeout, true),
            (503, ServerError, true),
            (500, ServerError, false),
        ] {
            let upstream = Upstream::start().await.unwrap();
            let scene = scene(rota, kind, model_type, &upstream).await;
            upstream.script(&scene.keys[0], Script::fail(status));
            let route = call(&scene).await.unwrap();
            assert_eq!(classes(&route.attempts), [class, Unspecified], "{model_type:?} {status}");
            let reason = if cools { class } else { Unspecified };
            assert_eq!(scene.configs_now().await[0].cooldown_reason(), reason, "{model_type:?} {status}");
        }
    }
}

async fn every_type_ends_at_a_bad_request(rota: &Rota, kind: &Kind) {
    for model_type in types(rota, kind).await {
        let upstream = Upstream::start().await.unwrap();
        let scene = scene(rota, kind, model_type, &upstream).await;
        upstream.script(&scene.keys[0], Script::fail(400));
        let status = call(&scene).await.unwrap_err();
        assert_eq!(told(&status), error(Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"), "{model_type:?}");
        assert!(!format!("{status:?}").contains(scene.keys[0].as_str()), "{model_type:?}");
        assert_eq!(scene.hits(&upstream), [1, 0], "{model_type:?}");
    }
}
