//! Moderation and reranking: balanced and failed over like every other call.

use rota::{
    api::pb::{
        CreateProviderRequest, ErrorClass, InvokeModerationRequest, InvokeRerankRequest, Model, ModelKey,
        ModelType, Provider, PutModelRequest,
    },
    scripted::{Script, Upstream},
};
use serde_json::json;
use tonic::Code;

use crate::support::{
    failure::{classes, error, route, told},
    on_both_states,
    refusal::invalid_fields,
    rota::Rota,
    world::Scene,
};

on_both_states!(a_judgement_is_balanced_and_fails_over, an_order_is_balanced_and_fails_over);

/// A balanced model of that type with two configs.
async fn scene_of(rota: &Rota, upstream: &Upstream, model_type: ModelType) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.key = ModelKey { model_type: model_type.into(), model: "judge".into(), ..scene.key.clone() };
    scene.add_model(&upstream.base_url()).await;
    scene.add_configs(2).await;
    scene.enable().await;
    scene
}

async fn a_judgement_is_balanced_and_fails_over(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene_of(rota, &upstream, ModelType::Moderation).await;
    let judge = async |text: &str| {
        let (key, text) = (Some(scene.key.clone()), text.to_owned());
        let request = InvokeModerationRequest { key, text, ..Default::default() };
        scene.clients.invoke.clone().invoke_moderation(request).await.map(tonic::Response::into_inner)
    };
    let bad = judge("violence").await.unwrap();
    let seen: Vec<_> = bad.categories.iter().map(|c| (c.name.as_str(), c.flagged, c.score)).collect();
    assert!(bad.flagged);
    assert_eq!(seen, [("hate", false, 0.01), ("violence", true, 0.9)]);
    assert!(!judge("peace").await.unwrap().flagged);
    assert_eq!(scene.hits(&upstream), [1, 1]);
    let sent = upstream.requests().remove(0);
    assert_eq!(sent.path, "/v1/moderations");
    assert_eq!(sent.body, json!({"model": "judge", "input": "violence"}));

    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    let moved = judge("peace").await.unwrap().route.unwrap();
    assert_eq!(classes(&moved.attempts), [ErrorClass::RateLimited, ErrorClass::Unspecified]);
    upstream.script(&scene.keys[1], Script::NotTheProtocol);
    let status = judge("peace").await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_SERVER_ERROR"));
    assert_eq!(route(&status).attempts.len(), 1);
}

async fn an_order_is_balanced_and_fails_over(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene_of(rota, &upstream, ModelType::Rerank).await;
    let documents: Vec<_> = ["aa", "aaaaaa", "a", "aaaa"].map(ToOwned::to_owned).into();
    let request = InvokeRerankRequest {
        key: Some(scene.key.clone()),
        query: "a".into(),
        documents: documents.clone(),
        ..Default::default()
    };
    let order = async |request: InvokeRerankRequest| {
        let reply =
            scene.clients.invoke.clone().invoke_rerank(request).await.map(tonic::Response::into_inner);
        reply.map(|reply| (reply.results.iter().map(|result| result.index).collect::<Vec<_>>(), reply))
    };
    let (indices, reply) = order(request.clone()).await.unwrap();
    assert_eq!(indices, [1, 3, 0, 2]);
    assert_eq!((reply.results[0].text.as_str(), reply.results[0].score), ("aaaaaa", 0.06));
    assert_eq!(reply.usage.unwrap().total_tokens, 4);
    let best = InvokeRerankRequest { top_n: 1, ..request.clone() };
    assert_eq!(order(best).await.unwrap().0, [1]);
    let good = InvokeRerankRequest { score_threshold: Some(0.02), ..request.clone() };
    assert_eq!(order(good).await.unwrap().0, [1, 3, 0]);
    assert_eq!(scene.hits(&upstream), [2, 1]);
    let sent = upstream.requests().remove(1);
    assert_eq!(sent.path, "/v1/rerank");
    assert_eq!(sent.body, json!({"model": "judge", "query": "a", "documents": documents, "top_n": 1}));

    upstream.script(&scene.keys[1], Script::fail(401));
    let (_, moved) = order(request).await.unwrap();
    let moved = moved.route.unwrap();
    assert_eq!(classes(&moved.attempts), [ErrorClass::Authentication, ErrorClass::Unspecified]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_refused() {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene_of(Rota::shared().await, &upstream, ModelType::Rerank).await;
    let mut invoke = scene.clients.invoke.clone();
    let key = || Some(scene.key.clone());
    let right = InvokeRerankRequest {
        key: key(),
        query: "q".into(),
        documents: vec!["d".into()],
        ..Default::default()
    };
    for (field, request) in [
        ("query", InvokeRerankRequest { query: String::new(), ..right.clone() }),
        ("documents", InvokeRerankRequest { documents: Vec::new(), ..right.clone() }),
        ("documents", InvokeRerankRequest { documents: vec!["d".into(); 10_001], ..right.clone() }),
        ("documents[1]", InvokeRerankRequest { documents: vec!["d".into(), String::new()], ..right.clone() }),
        ("top_n", InvokeRerankRequest { top_n: -1, ..right.clone() }),
        ("score_threshold", InvokeRerankRequest { score_threshold: Some(f64::NAN), ..right.clone() }),
    ] {
        assert_eq!(invalid_fields(invoke.invoke_rerank(request).await), [field]);
    }
    let empty = InvokeModerationRequest { key: key(), ..Default::default() };
    assert_eq!(invalid_fields(invoke.invoke_moderation(empty).await), ["text"]);
    let other = InvokeModerationRequest { key: key(), text: "t".into(), ..Default::default() };
    assert_eq!(invalid_fields(invoke.invoke_moderation(other).await), ["key.model_type"]);
    assert_eq!(upstream.total_hits(), 0);

    // OpenAI itself has no such models.
    let mut scene = scene;
    let openai = Provider { name: "openai".into(), kind: "openai".into(), ..Default::default() };
    let request = CreateProviderRequest { provider: Some(openai) };
    scene.clients.config.create_provider(request).await.unwrap();
    let key = ModelKey { provider: "openai".into(), ..scene.key.clone() };
    let model = Model { key: Some(key), ..Model::default() };
    let put = scene.clients.config.put_model(PutModelRequest { model: Some(model) }).await;
    assert_eq!(invalid_fields(put), ["model.key.model_type"]);
}
