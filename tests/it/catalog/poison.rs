//! A model that cannot be compiled stops neither the other models nor the process.

use rota::{
    api::pb::{Model, PutModelRequest},
    scripted::Upstream,
};
use tonic::Code;

use crate::support::{rota::Rota, world::Scene};

/// Builds with debug assertions panic where they compile a model that its provider knows by this name: see
/// `src/catalog/compiled/compile.rs`.
pub const POISON: &str = "__panic_when_compiled__";

const COUNTED: &str = "rota_task_contained_panics_total{task=\"follower\"} ";

async fn put(scene: &Scene, upstream_model: &str) {
    let model =
        Model { key: Some(scene.key.clone()), upstream_model: upstream_model.to_owned(), ..Model::default() };
    let request = PutModelRequest { model: Some(model) };
    scene.clients.config.clone().put_model(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_a_model_is_compiled_stays_with_that_model() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().start().await;
    let good = Scene::set(&rota, &upstream, 2).await;
    let bad = Scene::set(&rota, &upstream, 2).await;
    put(&bad, POISON).await;
    assert_eq!(bad.ask().await.unwrap_err().code(), Code::Internal);
    good.ask().await.unwrap();
    // The change is compiled when it is made, and again when this replica reads it from the outbox.
    let metrics = rota.metrics().await;
    let counted = metrics.lines().find_map(|line| line.strip_prefix(COUNTED)).unwrap();
    assert!(counted.parse::<u64>().unwrap() >= 1, "{}", rota.logs());
    assert!(rota.logs().contains("a model is unusable"));

    // No crash loop: a start compiles it, too.
    rota.restart().await;
    let (good, bad) = (good.through(&rota).await, bad.through(&rota).await);
    assert_eq!(bad.ask().await.unwrap_err().code(), Code::Internal);
    good.ask().await.unwrap();
    put(&bad, "").await;
    bad.ask().await.unwrap();
}
