//! Addresses that cannot be reached, or hang: whom a call tries after one failed, and what is told of the others.

use std::{ops::Range, time::Duration};

use rota::{
    api::pb::{
        BalancingPolicy, ClearCooldownRequest, Cooldowns, ErrorClass, ExplainRequest, GetCooldownRequest,
        Model, PutModelRequest,
    },
    scripted::{Script, Upstream},
};
use tonic::Code;

use crate::{
    balance::policy::set_policy,
    support::{
        failure::{classes, error, retry_after, route, span, told},
        on_both_states,
        process::free_port,
        rota::Rota,
        world::{Scene, config},
    },
};

on_both_states!(
    a_dead_host_is_tried_once_whatever_keys_there_are,
    all_its_configs_rest_until_it_answers,
    siblings_of_one_that_hangs_come_last,
);

/// A scene whose first `dead` configs are where nobody listens.
async fn with_dead(rota: &Rota, upstream: &Upstream, members: usize, dead: usize) -> Scene {
    let mut scene = Scene::set(rota, upstream, members).await;
    let base_url = format!("http://127.0.0.1:{}/v1", free_port());
    lead(&mut scene, 0..dead, &base_url).await;
    scene
}

/// Replaces the configs by such as lead there where they are of those places.
async fn lead(scene: &mut Scene, places: Range<usize>, base_url: &str) {
    let mut configs: Vec<_> = scene.keys.iter().map(|key| config(key, key)).collect();
    for config in &mut configs[places] {
        base_url.clone_into(&mut config.base_url);
    }
    scene.put_configs(configs).await;
}

async fn a_dead_host_is_tried_once_whatever_keys_there_are(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = with_dead(rota, &upstream, 5, 4).await;
    let failed =
        |attempts: &[_]| classes(attempts).iter().filter(|class| **class != ErrorClass::Unspecified).count();
    let mut tried = 0;
    for _ in 0..8 {
        let route = scene.ask().await.unwrap().route.unwrap();
        tried += failed(&route.attempts);
        assert!(route.attempts.len() <= 2, "{route:?}");
    }
    // The calls in which its trial was due may try it again.
    assert!((1..=2).contains(&tried), "tried {tried} times");

    let scene = with_dead(rota, &upstream, 3, 3).await;
    let status = scene.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
    assert_eq!(classes(&route(&status).attempts), [ErrorClass::Connection]);
    assert!(retry_after(&status) <= Duration::from_secs(1), "{status:?}");
    // Nor where the tenant wants nobody to rest for it.
    let none = prost_types::Duration::default();
    let cooldowns = Cooldowns { connection: Some(none), ..Cooldowns::default() };
    let scene = with_dead(rota, &upstream, 3, 3).await;
    let policy = BalancingPolicy { cooldowns: Some(cooldowns), ..BalancingPolicy::default() };
    set_policy(&scene, policy, &["cooldowns"]).await.unwrap();
    for _ in 0..3 {
        let status = scene.ask().await.unwrap_err();
        assert_eq!(classes(&route(&status).attempts), [ErrorClass::Connection]);
    }
}

async fn all_its_configs_rest_until_it_answers(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = with_dead(rota, &upstream, 3, 2).await;
    let mut config = scene.clients.config.clone();
    while scene.ask().await.unwrap().route.unwrap().attempts.len() < 2 {}
    for index in 0..3 {
        let request =
            GetCooldownRequest { key: Some(scene.key.clone()), config_id: scene.configs[index].id.clone() };
        let seen = config.get_cooldown(request).await.unwrap().into_inner();
        assert_eq!(seen.in_cooldown, index < 2, "{index}: {seen:?}");
        if index < 2 {
            assert_eq!(seen.reason(), ErrorClass::Connection);
            assert!(span(seen.ttl) <= Duration::from_secs(11), "{seen:?}");
        }
    }
    let listed: Vec<_> = scene.configs_now().await.iter().map(|config| config.in_cooldown).collect();
    assert_eq!(listed, [true, true, false]);
    let request = ExplainRequest { key: Some(scene.key.clone()), ..ExplainRequest::default() };
    let explained = scene.clients.invoke.clone().explain(request).await.unwrap().into_inner();
    let eligible: Vec<_> = explained.candidates.iter().map(|candidate| candidate.eligible).collect();
    assert_eq!(eligible, [false, false, true], "{explained:?}");
    assert!(explained.candidates[1].reason.contains("CONNECTION"), "{explained:?}");

    // To clear one clears what they share.
    let request =
        ClearCooldownRequest { key: Some(scene.key.clone()), config_id: scene.configs[1].id.clone() };
    assert!(!config.clear_cooldown(request).await.unwrap().into_inner().in_cooldown);
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
}

async fn siblings_of_one_that_hangs_come_last(rota: &Rota) {
    let (hung, well) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let mut scene = Scene::set(rota, &hung, 4).await;
    lead(&mut scene, 3..4, &well.base_url()).await;
    let limit = Some(Duration::from_millis(300).try_into().unwrap());
    // Nobody rests, so that whom a call tries is up to the call.
    let none = Some(prost_types::Duration::default());
    let policy = BalancingPolicy {
        first_token_timeout: limit,
        attempt_timeout: limit,
        cooldowns: Some(Cooldowns { timeout: none, server_error: none, ..Cooldowns::default() }),
        ..BalancingPolicy::default()
    };
    set_policy(&scene, policy, &["first_token_timeout", "attempt_timeout", "cooldowns"]).await.unwrap();
    for key in &scene.keys[..3] {
        hung.script(key, Script::Hang);
    }
    // Whichever hangs first, the next one is elsewhere.
    let streamed = scene.ask_stream().await.unwrap();
    let first = streamed[0].route.clone().unwrap();
    assert_eq!(classes(&first.attempts), [ErrorClass::Timeout, ErrorClass::Unspecified], "{first:?}");

    // A fallback comes before them, and they before the end.
    let mut fallback = scene.clone();
    fallback.key.model = "fallback".to_owned();
    let model = Model { key: Some(fallback.key.clone()), ..Model::default() };
    fallback.clients.config.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    fallback.keys.clear();
    fallback.add_configs(2).await;
    fallback.enable().await;
    let mut scene = Scene { keys: Vec::new(), ..scene };
    scene.add_configs(2).await;
    let model =
        Model { key: Some(scene.key.clone()), fallbacks: vec![fallback.key.clone()], ..Model::default() };
    scene.clients.config.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    for key in &scene.keys {
        hung.script(key, Script::sequence([Script::Hang, Script::Answer]));
    }
    let served = scene.ask().await.unwrap().route.unwrap();
    assert_eq!(classes(&served.attempts), [ErrorClass::Timeout, ErrorClass::Unspecified]);
    assert_eq!(served.model, "fallback");
    for key in &fallback.keys {
        hung.script(key, Script::fail(500));
    }
    let served = scene.ask().await.unwrap().route.unwrap();
    let (timeout, failed) = (ErrorClass::Timeout, ErrorClass::ServerError);
    assert_eq!(classes(&served.attempts), [timeout, failed, failed, ErrorClass::Unspecified]);
    assert_eq!(served.model, scene.key.model);
}
