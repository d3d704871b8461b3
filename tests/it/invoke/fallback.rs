//! Fallbacks: other models to go on with, within the same deadline and the same bound on attempts.

use std::time::{Duration, Instant};

use rota::{
    api::pb::{
        BalancingPolicy, CallOptions, DeleteModelRequest, ErrorClass, Model, ModelKey, PutModelRequest,
        WhenExhausted,
    },
    scripted::{Script, Upstream},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{
    chain::Chain,
    failure::{classes, error, retry_after, route, told},
    on_both_states,
    rota::Rota,
    world::{Scene, config},
};

on_both_states!(
    a_model_that_cannot_serve_goes_on_with_its_fallback,
    a_chain_is_walked_in_depth_and_its_bound_counts_over_all,
    a_529_goes_straight_to_the_fallback,
    waiting_is_for_configs_that_can_still_be_tried,
    a_bad_request_goes_nowhere_else,
    when_all_are_cooling_the_soonest_of_all_is_told,
);

async fn a_model_that_cannot_serve_goes_on_with_its_fallback(rota: &Rota) {
    let chain = Chain::set(rota, 2, 2).await;
    let linked = chain.link(0, &[1]).await.unwrap();
    assert_eq!(linked.fallbacks, [chain.scenes[1].key.clone()]);
    chain.script(0, &Script::fail_for(429, "30"));
    let served = chain.scenes[0].ask().await.unwrap().route.unwrap();
    assert_eq!(served.model, "fallback-1");
    let classes = classes(&served.attempts);
    assert_eq!(classes, [ErrorClass::RateLimited, ErrorClass::RateLimited, ErrorClass::Unspecified]);
    // Both are cooling now: no attempt is lost on them.
    assert_eq!(chain.scenes[0].ask().await.unwrap().route.unwrap().attempts.len(), 1);
    let streamed = chain.scenes[0].ask_stream().await.unwrap();
    assert_eq!(streamed[0].route.as_ref().unwrap().model, "fallback-1");
    assert_eq!(chain.hits(), [2, 3]);

    let status = chain.scenes[0]
        .send(chain.request(CallOptions { disable_fallback: true, ..CallOptions::default() }))
        .await
        .unwrap_err();
    assert_eq!(told(&status), error(Code::ResourceExhausted, "ALL_CONFIGS_COOLING_DOWN"));
}

async fn a_chain_is_walked_in_depth_and_its_bound_counts_over_all(rota: &Rota) {
    let chain = Chain::set(rota, 4, 2).await;
    // 0 falls back to 1, then 3; 1 falls back to 2.
    chain.link(1, &[2]).await.unwrap();
    chain.link(0, &[1, 3]).await.unwrap();
    for model in 0..3 {
        chain.script(model, &Script::fail(404));
    }
    let status = chain.scenes[0]
        .send(chain.request(CallOptions { max_attempts: 5, ..CallOptions::default() }))
        .await
        .unwrap_err();
    assert_eq!(told(&status), error(Code::FailedPrecondition, "UPSTREAM_MODEL_UNAVAILABLE"));
    assert_eq!(route(&status).attempts.len(), 5);
    assert_eq!(chain.hits(), [2, 2, 1, 0]);
    // One config of the third is left to fail; then the last one serves.
    assert_eq!(chain.scenes[0].ask().await.unwrap().route.unwrap().model, "fallback-3");
    assert_eq!(chain.hits(), [2, 2, 2, 1]);
}

async fn a_529_goes_straight_to_the_fallback(rota: &Rota) {
    let chain = Chain::set(rota, 2, 3).await;
    chain.script(0, &Script::fail(529));
    let status = chain.scenes[0].ask().await.unwrap_err();
    assert_eq!(route(&status).attempts.len(), 3, "without a fallback it moves on within the pool");
    chain.link(0, &[1]).await.unwrap();
    assert_eq!(chain.scenes[0].ask().await.unwrap().route.unwrap().attempts.len(), 2);
    assert_eq!(chain.hits(), [4, 1]);

    // One that cannot be called is no fallback.
    chain.disable(1).await;
    let status = chain.scenes[0].ask().await.unwrap_err();
    assert!(route(&status).attempts.len() > 1, "{:?}", route(&status));
}

async fn waiting_is_for_configs_that_can_still_be_tried(rota: &Rota) {
    let chain = Chain::set(rota, 2, 2).await;
    chain.link(0, &[1]).await.unwrap();
    chain.disable(1).await;
    let policy = BalancingPolicy { when_exhausted: WhenExhausted::Wait.into(), ..BalancingPolicy::default() };
    chain.set_policy(0, policy).await;
    chain.script(0, &Script::fail_for(429, "20"));
    let began = Instant::now();
    let status = chain.scenes[0].ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"));
    assert!(began.elapsed() < Duration::from_secs(15), "both were tried, and the fallback is disabled");
}

async fn a_bad_request_goes_nowhere_else(rota: &Rota) {
    let chain = Chain::set(rota, 2, 2).await;
    chain.link(0, &[1]).await.unwrap();
    chain.script(0, &Script::fail(400));
    let status = chain.scenes[0].ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"));
    assert_eq!(chain.hits(), [1, 0]);
}

async fn when_all_are_cooling_the_soonest_of_all_is_told(rota: &Rota) {
    let chain = Chain::set(rota, 2, 2).await;
    chain.link(0, &[1]).await.unwrap();
    chain.script(0, &Script::fail_for(429, "300"));
    chain.script(1, &Script::fail_for(429, "40"));
    chain.scenes[0].ask().await.unwrap_err();
    let status = chain.scenes[0].ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::ResourceExhausted, "ALL_CONFIGS_COOLING_DOWN"));
    let left = retry_after(&status);
    assert!(left > Duration::from_secs(38) && left <= Duration::from_secs(40), "{left:?}");
    assert_eq!(chain.hits(), [2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn circles_and_strangers_are_refused_and_a_fallback_stays() {
    let chain = Chain::set(Rota::shared().await, 3, 2).await;
    chain.link(0, &[1]).await.unwrap();
    chain.link(1, &[2]).await.unwrap();
    let field = |status: Status| status.get_details_bad_request().unwrap().field_violations[0].field.clone();
    assert_eq!(field(chain.link(2, &[0]).await.unwrap_err()), "model.fallbacks[0]");
    assert_eq!(field(chain.link(0, &[0]).await.unwrap_err()), "model.fallbacks[0]");
    assert_eq!(field(chain.link(0, &[1, 1]).await.unwrap_err()), "model.fallbacks[1]");

    let scene = &chain.scenes[0];
    let refused = async |key: ModelKey| {
        let model = Model { key: Some(scene.key.clone()), fallbacks: vec![key], ..Model::default() };
        let request = PutModelRequest { model: Some(model) };
        told(&scene.clients.config.clone().put_model(request).await.unwrap_err())
    };
    let stranger = ModelKey { model: "nobody".into(), ..scene.key.clone() };
    assert_eq!(refused(stranger).await, error(Code::NotFound, "MODEL_NOT_FOUND"));
    let foreign = ModelKey { tenant_id: "other".into(), ..scene.key.clone() };
    assert_eq!(refused(foreign).await, error(Code::NotFound, "TENANT_NOT_FOUND"));

    let delete = DeleteModelRequest { key: Some(chain.scenes[1].key.clone()) };
    let status = scene.clients.config.clone().delete_model(delete).await.unwrap_err();
    assert_eq!(told(&status), error(Code::FailedPrecondition, "IN_USE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_budget_bounds_retries_of_server_errors_alone() {
    let rota = Rota::builder().arg("--retry-share").arg("0").arg("--retry-rate").arg("1").start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    for key in &scene.keys {
        // Every other call fails, so that neither trips.
        let turns = (0..200).map(|turn| if turn % 2 == 0 { Script::fail(500) } else { Script::Answer });
        upstream.script(key, Script::sequence(turns));
    }
    let mut failed = 0;
    for _ in 0..18 {
        failed += usize::from(scene.ask().await.is_err());
    }
    let retries = upstream.total_hits() - 18;
    assert!(retries <= 12, "a reserve of 10, and 1 a second: {retries}");
    assert!(failed > 0 || retries <= 10, "{failed} failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_retry_budget_still_goes_on_with_the_fallback() {
    let rota = Rota::builder().arg("--retry-share").arg("0").arg("--retry-rate").arg("0").start().await;
    let chain = Chain::set(&rota, 2, 3).await;
    chain.script(0, &Script::fail(500));
    let status = chain.scenes[0].ask().await.unwrap_err();
    assert_eq!(route(&status).attempts.len(), 1, "no second attempt without a budget");
    chain.link(0, &[1]).await.unwrap();
    let served = chain.scenes[0].ask().await.unwrap().route.unwrap();
    assert_eq!((served.model.as_str(), served.attempts.len()), ("fallback-1", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_nothing_can_follow_takes_nothing_from_the_budget() {
    let rota = Rota::builder().arg("--retry-share").arg("0").arg("--retry-rate").arg("1").start().await;
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(&rota, &upstream, 2).await;
    let both = scene.configs.clone();
    scene.put_configs(both[..1].to_vec()).await;
    // One call in three fails, so that it never trips; and not in a way that the same config is asked again.
    let turns = (0..100).map(|turn| if turn % 3 == 0 { Script::fail(501) } else { Script::Answer });
    upstream.script(&scene.keys[0], Script::sequence(turns));
    for turn in 0..45 {
        assert_eq!(scene.ask().await.is_err(), turn % 3 == 0);
    }
    let second = config("config-1", &scene.keys[1]);
    scene.put_configs(vec![scene.configs[0].clone(), second]).await;
    for _ in 0..4 {
        scene.ask().await.expect("a retry on the other config");
    }
}
