//! Dify's cases of `__inherit__`, by number, and of an entry whose secret cannot be decrypted.

use rota::{
    api::pb::Provider,
    scripted::{Script, Upstream},
};
use tonic::Code;

use crate::{
    catalog::config::{create, openai},
    support::{
        listing::{inherit, names},
        on_both_states,
        refusal::{invalid_fields, refused},
        rota::Rota,
        sql::Sql,
        world::{Scene, config},
    },
};

on_both_states!(
    case_42_the_providers_credential_and_an_entry_alternate,
    case_43_the_models_credential_is_inherited_before_the_providers,
    case_44_without_anything_to_inherit_the_other_entry_is_balanced_alone,
    case_45_a_disabled_inherit_is_passed_over,
    case_46_inheriting_nothing_twice_is_a_typed_error,
);

/// A model whose configs are none yet, at `upstream`.
async fn unbalanced(rota: &Rota, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    scene
}

/// The keys that the upstream was asked with, in order.
async fn asked_with(scene: &Scene, upstream: &Upstream, calls: usize) -> Vec<String> {
    let before = upstream.requests().len();
    for _ in 0..calls {
        scene.ask().await.unwrap();
    }
    upstream.requests().into_iter().skip(before).map(|request| request.key).collect()
}

async fn case_42_the_providers_credential_and_an_entry_alternate(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = unbalanced(rota, &upstream).await;
    scene.add_credential("provider's", "key-k").await;
    scene.put_configs(vec![inherit(true), config("b", "key-b")]).await;
    scene.enable().await;
    assert_eq!(asked_with(&scene, &upstream, 4).await, ["key-k", "key-b", "key-k", "key-b"]);
}

async fn case_43_the_models_credential_is_inherited_before_the_providers(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = unbalanced(rota, &upstream).await;
    scene.add_credential("provider's", "key-k").await;
    scene.create_model_credential("model's", "key-k2").await;
    scene.put_configs(vec![inherit(true), config("b", "key-b")]).await;
    scene.enable().await;
    assert_eq!(asked_with(&scene, &upstream, 4).await, ["key-k2", "key-b", "key-k2", "key-b"]);
    assert_eq!(upstream.hits("key-k"), 0);
}

async fn case_44_without_anything_to_inherit_the_other_entry_is_balanced_alone(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = unbalanced(rota, &upstream).await;
    scene.put_configs(vec![config("b", "key-b"), config("c", "key-c")]).await;
    scene.enable().await;
    let b = scene.configs[0].clone();
    scene.put_configs(vec![inherit(true), b]).await;
    assert_eq!(names(&scene.configs_now().await), ["b"]);
    assert_eq!(asked_with(&scene, &upstream, 3).await, ["key-b"; 3]);
    // It is a pool: its only member cools, and nobody goes to the provider without a key.
    upstream.script("key-b", Script::fail_for(429, "60"));
    refused(scene.ask().await, Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED");
    refused(scene.ask().await, Code::ResourceExhausted, "ALL_CONFIGS_COOLING_DOWN");
    assert_eq!((upstream.hits("key-b"), upstream.total_hits()), (4, 4));
}

async fn case_45_a_disabled_inherit_is_passed_over(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = unbalanced(rota, &upstream).await;
    scene.add_credential("provider's", "key-k").await;
    scene.put_configs(vec![inherit(false), config("b", "key-b"), config("c", "key-c")]).await;
    scene.enable().await;
    assert_eq!(names(&scene.configs_now().await), ["__inherit__", "b", "c"]);
    assert_eq!(asked_with(&scene, &upstream, 4).await, ["key-b", "key-c", "key-b", "key-c"]);
}

async fn case_46_inheriting_nothing_twice_is_a_typed_error(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    // A kind that cannot be called without a key.
    let provider = Provider { base_url: upstream.base_url(), ..openai(&scene, &scene.provider) };
    create(&scene, provider).await.unwrap();
    scene.put_model(&scene.key).await;
    scene.add_configs(2).await;
    scene.enable().await;
    assert_eq!(invalid_fields(scene.save(vec![inherit(true), inherit(true)]).await), ["configs[1].id"]);
    // One of them can be saved, and is nobody.
    scene.put_configs(vec![inherit(true)]).await;
    assert!(scene.configs.is_empty());
    refused(scene.ask().await, Code::FailedPrecondition, "CREDENTIALS_NOT_CONFIGURED");
    refused(scene.ask_stream().await, Code::FailedPrecondition, "CREDENTIALS_NOT_CONFIGURED");
    assert_eq!(upstream.total_hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_50_an_entry_whose_secret_does_not_decrypt_is_left_out_with_an_alarm() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().start().await;
    let scene = Scene::set(&rota, &upstream, 5).await;
    rota.kill9();
    let database = Sql::of_sqlite(&rota).await;
    let damages = [
        ("config-0", "replace(fields, '\"sealed\":\"', '\"sealed\":\"AAAA')".to_owned()),
        // Another row's.
        ("config-1", "(SELECT fields FROM lb_configs WHERE name = 'config-3')".to_owned()),
        // Never sealed: nobody may put a key of theirs beside the encryption.
        ("config-2", format!("'{{\"api_key\":\"{}\"}}'", scene.keys[2])),
    ];
    for (name, fields) in &damages {
        let update = format!("UPDATE lb_configs SET fields = {fields} WHERE name = '{name}'");
        assert_eq!(database.run(&update).await, 1);
    }
    database.close().await;
    rota.restart().await;

    let scene = scene.through(&rota).await;
    for _ in 0..4 {
        scene.ask().await.unwrap();
    }
    assert_eq!(scene.hits(&upstream), [0, 0, 0, 2, 2]);
    assert_eq!(upstream.total_hits(), 4, "nothing else was sent as a key");
    let warnings: Vec<_> = scene.configs_now().await.into_iter().map(|config| config.warning).collect();
    let unreadable = "secret cannot be read";
    assert_eq!(warnings, [unreadable, unreadable, unreadable, "", ""]);
    let log = rota.logs();
    for config in &scene.configs[..3] {
        let alarm = |line: &&str| line.contains("ERROR") && line.contains(&config.id);
        assert!(log.lines().find(alarm).is_some_and(|line| line.contains(unreadable)), "{}", config.name);
    }
}
