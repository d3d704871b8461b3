//! Embeddings beyond what a provider takes at once: batches, each balanced by itself, joined in order.

use std::time::Duration;

use rota::{
    api::pb::{ErrorClass, InvokeTextEmbeddingRequest, InvokeTextEmbeddingResponse, ModelType},
    scripted::{Script, Upstream},
};
use tonic::{Code, Status};

use crate::support::{
    failure::{classes, error, told},
    on_both_states,
    rota::Rota,
    world::Scene,
};

on_both_states!(batches_are_spread_and_joined_in_order, a_batch_that_fails_moves_on_alone);

async fn scene(rota: &Rota, upstream: &Upstream, members: usize, batch: &str) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.key.model_type = ModelType::TextEmbedding.into();
    scene.add_model(&upstream.base_url()).await;
    scene.add_configs(members).await;
    scene
        .change_configs(|configs| {
            for config in configs {
                config.credentials.insert("embedding_batch".into(), batch.into());
            }
        })
        .await;
    scene.enable().await;
    scene
}

async fn embed(scene: &Scene, count: usize) -> Result<InvokeTextEmbeddingResponse, Status> {
    let request = InvokeTextEmbeddingRequest {
        key: Some(scene.key.clone()),
        // Each of its own length, which is the first number of its vector.
        texts: (1..=count).map(|length| "x".repeat(length)).collect(),
        ..Default::default()
    };
    scene.clients.invoke.clone().invoke_text_embedding(request).await.map(tonic::Response::into_inner)
}

fn lengths(reply: &InvokeTextEmbeddingResponse) -> Vec<usize> {
    reply.embeddings.iter().map(|embedding| embedding.values[0] as usize).collect()
}

async fn batches_are_spread_and_joined_in_order(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream, 4, "16").await;
    // The later ones come back first.
    upstream.script(&scene.keys[0], Script::Answer.after(Duration::from_millis(200)));
    let reply = embed(&scene, 100).await.unwrap();
    assert_eq!(lengths(&reply), (1..=100).collect::<Vec<_>>());
    assert_eq!(reply.usage.unwrap().total_tokens, 100);
    let sizes =
        upstream.requests().into_iter().map(|request| request.body["input"].as_array().unwrap().len());
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [4, 16, 16, 16, 16, 16, 16]);
    assert_eq!(scene.hits(&upstream).iter().max(), Some(&2), "{:?}", scene.hits(&upstream));
    assert_eq!(reply.route.unwrap().attempts.len(), 7);
    assert_eq!(lengths(&embed(&scene, 16).await.unwrap()).len(), 16);
    assert_eq!(upstream.total_hits(), 8);
}

async fn a_batch_that_fails_moves_on_alone(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream, 3, "10").await;
    upstream.script(&scene.keys[1], Script::fail_for(429, "60"));
    let reply = embed(&scene, 60).await.unwrap();
    assert_eq!(lengths(&reply), (1..=60).collect::<Vec<_>>());
    let attempts = reply.route.unwrap().attempts;
    let failed: Vec<_> =
        classes(&attempts).into_iter().filter(|class| *class != ErrorClass::Unspecified).collect();
    // One batch met it, or a second that was on its way at the same time.
    assert!(!failed.is_empty() && failed.iter().all(|class| *class == ErrorClass::RateLimited), "{failed:?}");
    assert_eq!(upstream.hits(&scene.keys[1]), failed.len() as u64);
    assert_eq!(upstream.total_hits(), 6 + failed.len() as u64, "nothing was sent twice");
    // What no config takes fails the call.
    for key in &scene.keys {
        upstream.script(key, Script::fail(400));
    }
    let status = embed(&scene, 60).await.unwrap_err();
    assert_eq!(told(&status), error(Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"));
}
