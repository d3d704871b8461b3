//! The same config again: where nobody else can serve, and where the policy says so before another model.

use std::time::Duration;

use rota::{
    api::pb::{BalancingPolicy, ErrorClass, ForwardRequest, SetCooldownRequest},
    scripted::{Script, Upstream},
};
use tokio::time::Instant;
use tonic::Code;

use crate::support::{
    chain::Chain,
    failure::{classes, error, route, told},
    on_both_states, read,
    rota::Rota,
    world::Scene,
};

on_both_states!(
    one_config_left_is_tried_again_after_what_passes,
    a_short_wait_that_the_provider_asks_for_is_waited_for,
    a_config_is_tried_again_twice_and_fails_once,
    a_cooling_neighbour_does_not_count,
    another_config_and_another_model_come_first,
    a_patient_policy_stays_with_the_model,
);

const SECOND: Duration = Duration::from_secs(1);

/// A pool of one config.
async fn alone(rota: &Rota) -> (Upstream, Scene) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    scene.change_configs(|configs| configs[1].enabled = Some(false)).await;
    (upstream, scene)
}

/// A model without balancing.
async fn unbalanced(rota: &Rota) -> (Upstream, Scene) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    scene.keys = vec![format!("key-{}", scene.tenant)];
    let key = scene.keys[0].clone();
    scene.add_credential("only", &key).await;
    (upstream, scene)
}

fn patient(wait: Duration) -> BalancingPolicy {
    let wait = prost_types::Duration::try_from(wait).unwrap();
    BalancingPolicy { wait_for_retry_after: Some(wait), ..BalancingPolicy::default() }
}

async fn one_config_left_is_tried_again_after_what_passes(rota: &Rota) {
    let table = [
        (Script::fail(500), ErrorClass::ServerError),
        (Script::fail(502), ErrorClass::ServerError),
        (Script::Close, ErrorClass::Connection),
    ];
    for (script, class) in table {
        for (upstream, scene) in [alone(rota).await, unbalanced(rota).await] {
            upstream.script(&scene.keys[0], Script::sequence([script.clone(), Script::Answer]));
            let served = scene.ask().await.unwrap().route.unwrap();
            assert_eq!(classes(&served.attempts), [class, ErrorClass::Unspecified]);
            assert_eq!(served.attempts[0].config_id, served.attempts[1].config_id);
            assert_eq!((served.attempts[0].cooldown, upstream.total_hits()), (None, 2));
            assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown), "{class:?}");
            assert_eq!(scene.in_flight().await.iter().sum::<i32>(), 0);

            upstream.script(&scene.keys[0], Script::sequence([script.clone(), Script::Answer]));
            let streamed = scene.ask_stream().await.unwrap();
            // A connection that was there before, and breaks: the request goes again over a new one, as the same attempt.
            let attempts = if class == ErrorClass::Connection { 1 } else { 2 };
            assert_eq!(streamed[0].route.as_ref().unwrap().attempts.len(), attempts, "{class:?}");
        }
    }
}

async fn a_short_wait_that_the_provider_asks_for_is_waited_for(rota: &Rota) {
    for status in [429, 503] {
        for (upstream, scene) in [alone(rota).await, unbalanced(rota).await] {
            upstream
                .script(&scene.keys[0], Script::sequence([Script::fail_for(status, "1"), Script::Answer]));
            let began = Instant::now();
            let asking = tokio::spawn({
                let scene = scene.clone();
                async move { scene.ask().await }
            });
            if !scene.configs.is_empty() {
                // Nobody else goes there meanwhile.
                tokio::time::sleep(SECOND / 4).await;
                let other = scene.ask().await.unwrap_err();
                assert_eq!(told(&other).1, "ALL_CONFIGS_COOLING_DOWN");
            }
            let served = asking.await.unwrap().unwrap().route.unwrap();
            assert!(began.elapsed() >= SECOND, "{:?}", began.elapsed());
            assert_eq!((served.attempts.len(), upstream.total_hits()), (2, 2));
        }
        let (upstream, scene) = alone(rota).await;
        upstream.script(&scene.keys[0], Script::fail_for(status, "7"));
        let began = Instant::now();
        assert_eq!(route(&scene.ask().await.unwrap_err()).attempts.len(), 1);
        assert!(began.elapsed() < SECOND * 5, "a long wait is the caller's");
    }
}

async fn a_config_is_tried_again_twice_and_fails_once(rota: &Rota) {
    let (upstream, scene) = alone(rota).await;
    upstream.script(&scene.keys[0], Script::fail(500));
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::Unavailable, "UPSTREAM_SERVER_ERROR"));
    assert_eq!(classes(&route(&failed).attempts), [ErrorClass::ServerError; 3]);
    assert!(!scene.configs_now().await[0].in_cooldown, "three attempts of one call are one failure");

    assert_eq!(route(&scene.send(scene.bounded(2)).await.unwrap_err()).attempts.len(), 2);
    scene.ask().await.unwrap_err();
    assert_eq!(upstream.total_hits(), 8);
    assert!(scene.configs_now().await[0].in_cooldown, "three calls are three failures");

    let (upstream, scene) = alone(rota).await;
    upstream.script(&scene.keys[0], Script::Close);
    let attempts = route(&scene.ask().await.unwrap_err()).attempts;
    assert_eq!(classes(&attempts), [ErrorClass::Connection; 3]);
    assert!(attempts[1].cooldown.is_none() && attempts[2].cooldown.is_some(), "{attempts:?}");
    assert!(scene.configs_now().await[0].in_cooldown);
}

async fn a_cooling_neighbour_does_not_count(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let cool = SetCooldownRequest {
        key: Some(scene.key.clone()),
        config_id: scene.configs[1].id.clone(),
        duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..SetCooldownRequest::default()
    };
    scene.clients.config.clone().set_cooldown(cool).await.unwrap();
    upstream.script(&scene.keys[0], Script::sequence([Script::Close, Script::Answer]));
    let served = scene.ask().await.unwrap().route.unwrap();
    assert_eq!(classes(&served.attempts), [ErrorClass::Connection, ErrorClass::Unspecified]);
    assert_eq!(scene.hits(&upstream), [2, 0]);
    assert!(!scene.configs_now().await[0].in_cooldown);
}

async fn another_config_and_another_model_come_first(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    upstream.script(&scene.keys[0], Script::Close);
    let served = scene.ask().await.unwrap().route.unwrap();
    assert_eq!(classes(&served.attempts), [ErrorClass::Connection, ErrorClass::Unspecified]);
    assert_eq!(scene.hits(&upstream), [1, 1]);
    assert!(scene.configs_now().await[0].in_cooldown, "it is written although the other serves");

    let chain = Chain::set(rota, 2, 2).await;
    chain.link(0, &[1]).await.unwrap();
    chain.script(0, &Script::fail(502));
    let served = chain.scenes[0].ask().await.unwrap().route.unwrap();
    assert_eq!((served.model.as_str(), chain.hits()), ("fallback-1", vec![2, 1]));
    // Where they fail as well, the last one has another try.
    chain.script(1, &Script::sequence([Script::fail(502), Script::Answer]));
    let served = chain.scenes[0].ask().await.unwrap().route.unwrap();
    assert_eq!((served.model.as_str(), chain.hits()), ("fallback-1", vec![4, 4]));
}

async fn a_patient_policy_stays_with_the_model(rota: &Rota) {
    let table = [
        (Script::fail_for(429, "1"), SECOND),
        (Script::fail(500), Duration::ZERO),
        (Script::Close, Duration::ZERO),
    ];
    for (script, wait) in table {
        let chain = Chain::set(rota, 2, 2).await;
        chain.link(0, &[1]).await.unwrap();
        chain.set_policy(0, patient(SECOND * 2)).await;
        chain.script(0, &Script::sequence([script, Script::Answer]));
        let began = Instant::now();
        let served = chain.scenes[0].ask().await.unwrap().route.unwrap();
        assert!(began.elapsed() >= wait);
        assert_eq!((served.model.as_str(), served.attempts.len()), ("chat", 3), "{served:?}");
        assert_eq!(chain.hits(), [3, 0]);
    }
    let chain = Chain::set(rota, 2, 2).await;
    chain.link(0, &[1]).await.unwrap();
    chain.set_policy(0, patient(SECOND)).await;
    chain.script(0, &Script::fail_for(429, "9"));
    let served = chain.scenes[0].ask().await.unwrap().route.unwrap();
    assert_eq!((served.model.as_str(), chain.hits()), ("fallback-1", vec![2, 1]), "it asks for too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_have_been_carried_out_goes_once() {
    let (upstream, scene) = alone(Rota::shared().await).await;
    let forward = |method: &str| ForwardRequest {
        key: Some(scene.key.clone()),
        method: method.to_owned(),
        path: "anything".to_owned(),
        ..ForwardRequest::default()
    };
    let send = async |method| {
        let answer = scene.clients.invoke.clone().forward(forward(method)).await.unwrap().into_inner();
        read(answer).await.0[0].status
    };
    upstream.script(&scene.keys[0], Script::sequence([Script::fail(500), Script::Answer]));
    assert_eq!((send("POST").await, upstream.total_hits()), (500, 1));
    upstream.script(&scene.keys[0], Script::sequence([Script::fail(500), Script::Answer]));
    assert_eq!((send("GET").await, upstream.total_hits()), (200, 3));
    // A 429 has done nothing.
    upstream.script(&scene.keys[0], Script::sequence([Script::fail_for(429, "1"), Script::Answer]));
    assert_eq!((send("POST").await, upstream.total_hits()), (200, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_budget_and_the_deadline_bound_it() {
    let rota = Rota::builder().arg("--retry-share").arg("0").arg("--retry-rate").arg("0").start().await;
    let (upstream, scene) = alone(&rota).await;
    upstream.script(&scene.keys[0], Script::sequence([Script::fail(500), Script::Answer]));
    assert_eq!(route(&scene.ask().await.unwrap_err()).attempts.len(), 1);

    upstream.script(&scene.keys[0], Script::sequence([Script::fail_for(429, "4"), Script::Answer]));
    let mut request = tonic::Request::new(scene.request());
    request.set_timeout(SECOND * 3);
    let began = Instant::now();
    let failed = scene.clients.invoke.clone().invoke_llm(request).await.unwrap_err();
    assert_eq!(told(&failed), error(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"));
    assert!(began.elapsed() < SECOND * 2, "it does not wait for what it cannot reach");
}
