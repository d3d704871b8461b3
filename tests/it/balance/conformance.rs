//! Dify's cases of who is a member, by number: switches, missing and broken entries, keys that are used twice. The
//! cases of rotation and of failing calls have files of their own.

use rota::{
    api::pb::{
        ClearCooldownRequest, DisableModelLoadBalancingRequest, DisableModelRequest, ErrorClass, Model,
        ModelKey, PutModelRequest,
    },
    scripted::{Script, Upstream},
};
use tonic::Code;

use crate::support::{
    failure::{classes, error, route, told},
    on_both_states,
    redis::Redis,
    rota::Rota,
    sql::Sql,
    world::{Scene, config},
};

on_both_states!(
    case_37_the_one_usable_entry_serves,
    case_38_with_all_entries_disabled_the_active_credential_serves,
    case_39_without_balancing_the_active_credential_gets_one_attempt,
    case_47_without_an_active_credential_the_pool_serves,
    case_48_a_disabled_model_is_not_called,
    case_65_a_key_given_twice_has_two_shares_and_one_cooldown,
    case_83_a_key_refused_in_one_model_is_not_tried_in_another,
    case_84_a_rate_limit_in_one_model_leaves_another_alone,
);

/// The same configs, keys included, under another model of the provider.
pub async fn other_model(scene: &mut Scene, name: &str) -> Scene {
    let mut other = scene.clone();
    other.key = ModelKey { model: name.to_owned(), ..scene.key.clone() };
    let model = Model { key: Some(other.key.clone()), ..Model::default() };
    other.clients.config.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    let names: Vec<_> = (0..scene.keys.len()).map(|index| format!("config-{index}")).collect();
    other.put_configs(names.iter().zip(&scene.keys).map(|(name, key)| config(name, key)).collect()).await;
    other.enable().await;
    other
}

/// A balanced model with `members` configs, and the key of the provider's active credential, which is none of them.
async fn beside_an_active_one(rota: &Rota, upstream: &Upstream, members: usize) -> (Scene, String) {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    let active = format!("active-{}", scene.tenant);
    scene.add_credential("active", &active).await;
    scene.add_configs(members).await;
    scene.enable().await;
    (scene, active)
}

async fn ask_times(scene: &Scene, calls: usize) {
    for _ in 0..calls {
        scene.ask().await.unwrap();
    }
}

async fn case_37_the_one_usable_entry_serves(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let (mut scene, active) = beside_an_active_one(rota, &upstream, 2).await;
    scene.change_configs(|configs| configs[0].enabled = Some(false)).await;
    ask_times(&scene, 3).await;
    assert_eq!((scene.hits(&upstream), upstream.hits(&active)), (vec![0, 3], 0));
    let warned: Vec<_> = scene.configs_now().await.iter().map(|config| !config.warning.is_empty()).collect();
    assert_eq!(warned, [false, true], "the listing says that it is alone");
}

async fn case_38_with_all_entries_disabled_the_active_credential_serves(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let (mut scene, active) = beside_an_active_one(rota, &upstream, 2).await;
    scene.change_configs(|configs| configs.iter_mut().for_each(|config| config.enabled = Some(false))).await;
    ask_times(&scene, 3).await;
    assert_eq!((scene.hits(&upstream), upstream.hits(&active)), (vec![0, 0], 3));
}

async fn case_39_without_balancing_the_active_credential_gets_one_attempt(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let (mut scene, active) = beside_an_active_one(rota, &upstream, 3).await;
    let request = DisableModelLoadBalancingRequest { key: Some(scene.key.clone()) };
    scene.clients.config.disable_model_load_balancing(request).await.unwrap();
    ask_times(&scene, 2).await;
    upstream.script(&active, Script::fail(503));
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::Unavailable, "UPSTREAM_SERVER_ERROR"));
    assert_eq!(classes(&route(&failed).attempts), [ErrorClass::ServerError]);
    assert_eq!((scene.hits(&upstream), upstream.hits(&active)), (vec![0, 0, 0], 3));
}

async fn case_47_without_an_active_credential_the_pool_serves(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    // The provider has no credential at all.
    let scene = Scene::set(rota, &upstream, 2).await;
    ask_times(&scene, 4).await;
    assert_eq!(scene.hits(&upstream), [2, 2]);
}

async fn case_48_a_disabled_model_is_not_called(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    let request = DisableModelRequest { key: Some(scene.key.clone()) };
    scene.clients.config.disable_model(request).await.unwrap();
    let refused = scene.ask().await.unwrap_err();
    assert_eq!(told(&refused), error(Code::FailedPrecondition, "MODEL_DISABLED"));
    assert_eq!(upstream.total_hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_49_a_broken_entry_is_left_out_and_reported() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().start().await;
    let scene = Scene::set(&rota, &upstream, 4).await;
    rota.kill9();
    let database = Sql::of_sqlite(&rota).await;
    for (index, fields) in [(0, "{\"api_key\":"), (1, "")] {
        let name = &scene.configs[index].name;
        let update = format!("UPDATE lb_configs SET fields = '{fields}' WHERE name = '{name}'");
        assert_eq!(database.run(&update).await, 1);
    }
    database.close().await;
    rota.restart().await;

    let scene = scene.through(&rota).await;
    ask_times(&scene, 4).await;
    assert_eq!(scene.hits(&upstream), [0, 0, 2, 2]);
    let warned: Vec<_> = scene.configs_now().await.iter().map(|config| !config.warning.is_empty()).collect();
    assert_eq!(warned, [true, true, false, false]);
    for config in &scene.configs[..2] {
        assert!(rota.logs().contains(&config.id), "the log names {}", config.name);
    }
}

async fn case_65_a_key_given_twice_has_two_shares_and_one_cooldown(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    let [twice, once] = [scene.keys[0].clone(), scene.keys[1].clone()];
    scene.put_configs(vec![config("one", &twice), config("two", &twice), config("three", &once)]).await;
    ask_times(&scene, 6).await;
    assert_eq!((upstream.hits(&twice), upstream.hits(&once)), (4, 2));
    for status in [429, 401] {
        let before = (upstream.hits(&twice), upstream.hits(&once));
        upstream.script(&twice, Script::fail(status));
        ask_times(&scene, 3).await;
        let after = (upstream.hits(&twice), upstream.hits(&once));
        assert_eq!((after.0 - before.0, after.1 - before.1), (1, 3), "{status}");
        let cooling: Vec<_> = scene.configs_now().await.iter().map(|config| config.in_cooldown).collect();
        assert_eq!(cooling, [true, true, false]);
        // A word on one of them is a word on the key.
        let clear =
            ClearCooldownRequest { key: Some(scene.key.clone()), config_id: scene.configs[0].id.clone() };
        scene.clients.config.clear_cooldown(clear).await.unwrap();
        assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_77_without_redis_calls_go_on() {
    let upstream = Upstream::start().await.unwrap();
    let mut redis = Redis::start().await;
    let rota = Rota::builder().redis(redis.url()).start().await;
    let scene = Scene::set(&rota, &upstream, 3).await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    ask_times(&scene, 3).await;
    redis.kill9();
    for _ in 0..6 {
        assert!(scene.ask().await.unwrap().route.unwrap().degraded);
    }
    // What was known to cool still does.
    assert_eq!(scene.hits(&upstream)[0], 1);
    let hits = scene.hits(&upstream);
    assert!(hits[1].abs_diff(hits[2]) <= 2, "{hits:?}");
}

async fn case_83_a_key_refused_in_one_model_is_not_tried_in_another(rota: &Rota) {
    for (status, class) in [(401, ErrorClass::Authentication), (402, ErrorClass::QuotaExhausted)] {
        let upstream = Upstream::start().await.unwrap();
        let mut scene = Scene::set(rota, &upstream, 2).await;
        let other = other_model(&mut scene, "other").await;
        upstream.script(&scene.keys[0], Script::fail(status));
        ask_times(&scene, 1).await;
        ask_times(&other, 4).await;
        assert_eq!(scene.hits(&upstream), [1, 5]);
        let first = other.configs_now().await.remove(0);
        assert_eq!((first.in_cooldown, first.cooldown_reason()), (true, class));
    }
}

async fn case_84_a_rate_limit_in_one_model_leaves_another_alone(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    let other = other_model(&mut scene, "other").await;
    upstream.script(&scene.keys[0], Script::sequence([Script::fail_for(429, "60"), Script::Answer]));
    ask_times(&scene, 1).await;
    ask_times(&other, 4).await;
    assert_eq!(scene.hits(&upstream), [1 + 2, 1 + 2]);
    assert!(scene.configs_now().await[0].in_cooldown);
    assert!(other.configs_now().await.iter().all(|config| !config.in_cooldown));
}
