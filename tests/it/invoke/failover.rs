//! What failures do: which move on, which end the call, whom they cool and for how long.

use std::time::Duration;

use rota::{
    api::pb::{
        CallOptions, EnableModelLoadBalancingRequest, ErrorClass, GetCooldownRequest, GetCooldownResponse,
        InvokeLlmRequest, LoadBalancingConfig, Model, PutModelRequest, UpdateLoadBalancingConfigsRequest,
    },
    scripted::{Script, Upstream},
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Request};

use crate::support::{
    eventually,
    failure::{classes, error, retry_after, route, span, told},
    on_both_states,
    rota::Rota,
    world::{Scene, config},
};

on_both_states!(
    a_rate_limited_key_rests_until_its_time_is_over,
    all_rate_limited_says_so_at_once_and_when_to_come_back,
    a_refused_key_rests_in_every_model_that_links_its_credential,
    a_bad_request_ends_the_call_and_cools_nobody,
    a_lone_500_does_not_cool_and_three_in_a_row_do,
    max_attempts_is_kept,
);

const UNAVAILABLE_FOR: Duration = Duration::from_secs(2);

async fn cooldown(scene: &Scene, index: usize) -> GetCooldownResponse {
    let request =
        GetCooldownRequest { key: Some(scene.key.clone()), config_id: scene.configs[index].id.clone() };
    scene.clients.config.clone().get_cooldown(request).await.unwrap().into_inner()
}

async fn config_now(scene: &Scene, index: usize) -> LoadBalancingConfig {
    let configs = scene.configs_now().await;
    configs.into_iter().find(|config| config.id == scene.configs[index].id).unwrap()
}

/// Calls until the key at `index` was asked `hits` times; every call must be served.
async fn ask_until(scene: &Scene, upstream: &Upstream, index: usize, hits: u64) {
    for _ in 0..20 * hits {
        if upstream.hits(&scene.keys[index]) >= hits {
            return;
        }
        scene.ask().await.unwrap();
    }
    panic!("{:?} instead of {hits} at {index}", scene.hits(upstream));
}

async fn a_rate_limited_key_rests_until_its_time_is_over(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    upstream.script(&scene.keys[0], Script::sequence([Script::fail_for(429, "2"), Script::Answer]));

    let mut before;
    loop {
        before = Instant::now();
        scene.ask().await.unwrap();
        if upstream.hits(&scene.keys[0]) == 1 {
            break;
        }
    }
    let after = Instant::now();

    // Many at once: none of them is given the key, none of them fails.
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (scene, key) = (scene.through(rota).await, scene.keys[0].clone());
        let end = after + UNAVAILABLE_FOR * 2;
        callers.spawn(async move {
            let mut served_by_it = None;
            while served_by_it.is_none() && Instant::now() < end {
                let reply = scene.ask().await.unwrap();
                if reply.message.unwrap().content.ends_with(&key) {
                    served_by_it = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            served_by_it
        });
    }

    let first = cooldown(&scene, 0).await;
    assert!(first.in_cooldown && first.reason() == ErrorClass::RateLimited, "{first:?}");
    assert!(span(first.ttl) <= UNAVAILABLE_FOR, "{first:?}");
    let listed = config_now(&scene, 0).await;
    assert!(listed.in_cooldown && listed.cooldown_reason() == ErrorClass::RateLimited, "{listed:?}");
    assert!(span(listed.ttl) <= span(first.ttl), "{listed:?} after {first:?}");
    eventually(UNAVAILABLE_FOR, async || {
        let left = span(config_now(&scene, 0).await.ttl);
        if left + Duration::from_millis(500) < span(first.ttl) {
            Ok(())
        } else {
            Err(format!("{left:?} left"))
        }
    })
    .await;
    assert_eq!(upstream.hits(&scene.keys[0]), 1);

    let back = callers.join_all().await.into_iter().flatten().min().expect("it never came back");
    assert!(back >= before + UNAVAILABLE_FOR, "too early by {:?}", before + UNAVAILABLE_FOR - back);
    assert!(back <= after + UNAVAILABLE_FOR + Duration::from_secs(1), "late: {:?}", back - after);
    let over = cooldown(&scene, 0).await;
    assert!(!over.in_cooldown && over.reason() == ErrorClass::Unspecified, "{over:?}");
    assert!(!config_now(&scene, 0).await.in_cooldown);
}

async fn all_rate_limited_says_so_at_once_and_when_to_come_back(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    for (key, seconds) in scene.keys.iter().zip(["40", "30", "50"]) {
        upstream.script(key, Script::fail_for(429, seconds));
    }
    let began = Instant::now();
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"));
    let attempts = route(&failed).attempts;
    assert_eq!(classes(&attempts), [ErrorClass::RateLimited; 3]);
    let mut tried: Vec<_> = attempts.iter().map(|attempt| attempt.config_name.as_str()).collect();
    tried.sort_unstable();
    assert_eq!(tried, ["config-0", "config-1", "config-2"]);
    assert!(attempts.iter().all(|attempt| attempt.http_status == 429 && attempt.cooldown.is_some()));
    for key in &scene.keys {
        assert!(!format!("{failed:?}").contains(key), "a key stands in the error");
    }
    let hint = retry_after(&failed);
    assert!(hint <= Duration::from_secs(30) && hint >= Duration::from_secs(29), "{hint:?}");

    for _ in 0..3 {
        let refused = scene.ask().await.unwrap_err();
        assert_eq!(told(&refused), error(Code::ResourceExhausted, "ALL_CONFIGS_COOLING_DOWN"));
        // The first back waits for 30 s from a moment after `began`.
        let hint = retry_after(&refused);
        let truth = Duration::from_secs(30).saturating_sub(began.elapsed());
        assert!(hint.abs_diff(truth) < Duration::from_secs(1), "{hint:?} instead of {truth:?}");
    }
    let refused = scene.ask_stream().await.unwrap_err();
    assert_eq!(told(&refused), error(Code::ResourceExhausted, "ALL_CONFIGS_COOLING_DOWN"));
    assert_eq!(scene.hits(&upstream), [1, 1, 1]);
}

async fn a_refused_key_rests_in_every_model_that_links_its_credential(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    let shared = format!("shared-{}", scene.tenant);
    let credential_id = scene.add_credential("shared", &shared).await;
    let mut models = Vec::new();
    for name in ["first", "second"] {
        let mut model = scene.clone();
        name.clone_into(&mut model.key.model);
        let put = Model { key: Some(model.key.clone()), ..Model::default() };
        model.clients.config.put_model(PutModelRequest { model: Some(put) }).await.unwrap();
        let linked = LoadBalancingConfig {
            credential_id: credential_id.clone(),
            enabled: Some(true),
            ..LoadBalancingConfig::default()
        };
        model.keys = vec![shared.clone(), format!("{name}-{}", scene.tenant)];
        model.put_configs(vec![linked, config("own", &model.keys[1])]).await;
        model.enable().await;
        models.push(model);
    }
    upstream.script(&shared, Script::fail(401));
    ask_until(&models[0], &upstream, 0, 1).await;
    for _ in 0..4 {
        let route = models[1].ask().await.unwrap().route.unwrap();
        assert_eq!((route.attempts.len(), route.config_name.as_str()), (1, "own"));
    }
    assert_eq!(upstream.hits(&shared), 1);
    for model in &models {
        let cooling = cooldown(model, 0).await;
        assert!(cooling.in_cooldown && cooling.reason() == ErrorClass::Authentication, "{cooling:?}");
        assert!(!cooldown(model, 1).await.in_cooldown);
    }
}

async fn a_bad_request_ends_the_call_and_cools_nobody(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    for key in &scene.keys {
        upstream.script(key, Script::fail(400));
    }
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"));
    assert!(failed.message().contains("Invalid request"), "{failed:?}");
    assert_eq!(classes(&route(&failed).attempts), [ErrorClass::BadRequest]);
    assert_eq!(upstream.total_hits(), 1);
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
    // A row of them cools nobody either.
    for _ in 0..9 {
        scene.ask().await.unwrap_err();
    }
    assert_eq!(upstream.total_hits(), 10);
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
}

async fn a_lone_500_does_not_cool_and_three_in_a_row_do(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let lone = [Script::fail(500), Script::fail(500), Script::Answer, Script::fail(500)];
    upstream.script(&scene.keys[0], Script::sequence(lone));
    for hits in 1..=5 {
        ask_until(&scene, &upstream, 0, hits).await;
        // The success in third place begins the count anew.
        assert!(!cooldown(&scene, 0).await.in_cooldown, "cooling after {hits}");
    }
    ask_until(&scene, &upstream, 0, 6).await;
    let cooling = cooldown(&scene, 0).await;
    assert!(cooling.in_cooldown && cooling.reason() == ErrorClass::ServerError, "{cooling:?}");
    for _ in 0..4 {
        scene.ask().await.unwrap();
    }
    assert_eq!(upstream.hits(&scene.keys[0]), 6);
}

async fn max_attempts_is_kept(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    for key in &scene.keys {
        upstream.script(key, Script::fail_for(429, "60"));
    }
    let limited = |max_attempts| InvokeLlmRequest {
        options: Some(CallOptions { max_attempts, ..CallOptions::default() }),
        ..scene.request()
    };
    for hits in 1..=2 {
        let failed = scene.send(limited(1)).await.unwrap_err();
        assert_eq!(told(&failed), error(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"));
        assert_eq!(route(&failed).attempts.len(), 1);
        // Each was cooled, so the second call was given another.
        assert_eq!((upstream.total_hits(), scene.hits(&upstream).iter().max()), (hits, Some(&1)));
    }
    let refused = scene.send(limited(-1)).await.unwrap_err();
    assert_eq!(told(&refused), error(Code::InvalidArgument, "INVALID_FIELD"));
    assert_eq!(upstream.total_hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_carries_the_route_and_cools_nobody() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::Hang);
    }
    // We have 2 % of it to answer before the client gives up by itself.
    let deadline = Duration::from_secs(3);
    let began = Instant::now();
    let mut request = Request::new(scene.request());
    request.set_timeout(deadline);
    let failed = scene.clients.invoke.clone().invoke_llm(request).await.unwrap_err();
    assert!(began.elapsed() < deadline, "{:?}", began.elapsed());
    assert_eq!(told(&failed), error(Code::DeadlineExceeded, "UPSTREAM_TIMEOUT"));
    assert_eq!(classes(&route(&failed).attempts), [ErrorClass::Timeout]);
    // The caller's impatience is not the key's fault.
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
    eventually(Duration::from_secs(2), async || match upstream.in_flight() {
        0 => Ok(()),
        left => Err(format!("{left} requests still upstream")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooldown_outlives_an_unrelated_change_of_the_set() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(Rota::shared().await, &upstream, 3).await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    ask_until(&scene, &upstream, 0, 1).await;
    scene.change_configs(|configs| configs[2].enabled = Some(false)).await;
    scene
        .clients
        .config
        .enable_model_load_balancing(EnableModelLoadBalancingRequest { key: Some(scene.key.clone()) })
        .await
        .unwrap();
    for _ in 0..3 {
        scene.ask().await.unwrap();
    }
    assert_eq!(upstream.hits(&scene.keys[0]), 1);
    // Another key in the same row is another member: it starts afresh.
    let fresh = format!("fresh-{}", scene.tenant);
    let mut configs = scene.configs.clone();
    configs[0].credentials = [("api_key".to_owned(), fresh.clone())].into();
    let request =
        UpdateLoadBalancingConfigsRequest { key: Some(scene.key.clone()), configs, ..Default::default() };
    scene.clients.config.update_load_balancing_configs(request).await.unwrap();
    for _ in 0..2 {
        scene.ask().await.unwrap();
    }
    assert_eq!(upstream.hits(&fresh), 1);
}
