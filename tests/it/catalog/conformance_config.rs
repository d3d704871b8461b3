//! Dify's cases of saving a set of entries, by number: what is refused, and that a refusal changes nothing.

use std::collections::HashMap;

use prost::Message;
use rota::{
    api::pb::{
        Credential, EnableModelLoadBalancingRequest, GetLoadBalancingConfigRequest, LoadBalancingConfig,
        ModelKey, UpdateLoadBalancingConfigsRequest, ValidateLoadBalancingCredentialsRequest,
        ValidateLoadBalancingCredentialsResponse,
    },
    scripted::Upstream,
};
use tonic::{Code, Status};

use crate::support::{
    listing::{api_key_field, inherit, link, names},
    raw::Raw,
    refusal::{invalid_fields, refused},
    rota::{Rota, on_both_databases},
    world::{Scene, config},
};

on_both_databases!(
    case_51_balancing_one_entry_is_refused,
    case_52_only_usable_entries_count,
    case_53_an_unknown_id_is_refused_and_nothing_is_saved,
    case_54_one_invalid_item_saves_none,
    case_55_an_entry_created_disabled_is_disabled,
    case_56_the_reserved_name_is_refused,
    case_57_name_and_enabled_are_required,
    case_58_credentials_are_required_of_a_new_entry,
    case_59_another_tenants_credential_is_not_found,
    case_60_another_credential_is_linked_anew,
    case_61_a_hidden_secret_keeps_the_stored_one,
    case_62_a_hidden_secret_of_a_new_entry_is_refused,
    case_63_an_entry_left_out_is_deleted,
    case_64_the_set_of_another_source_is_left_alone,
);

const HIDDEN: &str = "[__HIDDEN__]";
const KEY: &str = "sk-stored-0123456789-key";

/// A model of `upstream`, without configs.
async fn scene(rota: &Rota, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    scene
}

/// A model with the configs `a` and `b`, which serve, and a third one, `off`, which does not.
async fn saved(rota: &Rota, upstream: &Upstream) -> Scene {
    let mut scene = scene(rota, upstream).await;
    scene.put_configs(vec![config("a", KEY), config("b", "key-b"), disabled(config("off", "key-off"))]).await;
    scene.enable().await;
    scene
}

fn disabled(config: LoadBalancingConfig) -> LoadBalancingConfig {
    LoadBalancingConfig { enabled: Some(false), ..config }
}

async fn enable(scene: &Scene) -> Result<(), Status> {
    let request = EnableModelLoadBalancingRequest { key: Some(scene.key.clone()) };
    scene.clients.config.clone().enable_model_load_balancing(request).await.map(drop)
}

async fn validate(
    scene: &Scene,
    credentials: HashMap<String, String>,
    config_id: &str,
) -> Result<ValidateLoadBalancingCredentialsResponse, Status> {
    let request = ValidateLoadBalancingCredentialsRequest {
        key: Some(scene.key.clone()),
        credentials,
        config_id: config_id.to_owned(),
        ..Default::default()
    };
    let answer = scene.clients.config.clone().validate_load_balancing_credentials(request).await?;
    Ok(answer.into_inner())
}

/// Sends each set, which is refused for these fields, and holds everything stored against what was there before.
async fn refuses(scene: &Scene, table: Vec<(Vec<LoadBalancingConfig>, &[&str])>) {
    let before = scene.listing().await;
    for (index, (set, fields)) in table.into_iter().enumerate() {
        assert_eq!(invalid_fields(scene.save(set).await), fields, "row {index}");
        assert_eq!(scene.listing().await, before, "row {index}");
    }
}

async fn case_51_balancing_one_entry_is_refused(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = scene(rota, &upstream).await;
    for set in [vec![], vec![config("one", "key-one")]] {
        scene.put_configs(set).await;
        let before = scene.listing().await;
        refused(enable(&scene).await, Code::FailedPrecondition, "NOT_ENOUGH_CONFIGS");
        assert_eq!(scene.listing().await, before);
    }
    let two = vec![config("one", "key-one"), config("two", "key-two")];
    scene.put_configs(two).await;
    enable(&scene).await.unwrap();
    assert_eq!(scene.served_by(2).await, ["one", "two"]);
}

async fn case_52_only_usable_entries_count(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = scene(rota, &upstream).await;
    let drained = LoadBalancingConfig { weight: Some(0), ..config("drained", "key-drained") };
    let off = || disabled(config("off", "key-off"));
    scene.put_configs(vec![config("one", "key-one"), off(), drained]).await;
    refused(enable(&scene).await, Code::FailedPrecondition, "NOT_ENOUGH_CONFIGS");
    // What is inherited is an entry like another.
    scene.add_credential("provider's", "key-provider").await;
    scene.put_configs(vec![inherit(false), config("one", "key-one"), off()]).await;
    refused(enable(&scene).await, Code::FailedPrecondition, "NOT_ENOUGH_CONFIGS");
    assert!(!scene.set_of("").await.enabled);
    scene.put_configs(vec![inherit(true), config("one", "key-one"), off()]).await;
    enable(&scene).await.unwrap();
    assert_eq!(scene.served_by(2).await, ["__inherit__", "one"]);
}

async fn case_53_an_unknown_id_is_refused_and_nothing_is_saved(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = saved(rota, &upstream).await;
    let deleted = scene.configs.pop().unwrap();
    scene.put_configs(scene.configs.clone()).await;
    let other_model =
        Scene { key: ModelKey { model: "other".to_owned(), ..scene.key.clone() }, ..scene.clone() };
    other_model.put_model(&other_model.key).await;
    let elsewhere = other_model.save(vec![config("other's", "key-other")]).await.unwrap().configs.remove(0);
    let foreign = saved(rota, &upstream).await.configs.remove(0);
    let before = scene.listing().await;
    for id in ["x", &deleted.id, &elsewhere.id, &foreign.id] {
        let renamed = LoadBalancingConfig { name: "renamed".to_owned(), ..scene.configs[0].clone() };
        let unknown = LoadBalancingConfig { id: id.to_owned(), ..config("unknown", "key-unknown") };
        let answer = scene.save(vec![renamed, unknown, config("new", "key-new")]).await;
        let refusal = refused(answer, Code::NotFound, "CONFIG_NOT_FOUND");
        assert_eq!(refusal.resource, Some(("config".to_owned(), id.to_owned())));
        assert_eq!(scene.listing().await, before, "{id}");
    }
    assert_eq!(scene.served_by(2).await, ["a", "b"]);
}

async fn case_54_one_invalid_item_saves_none(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let renamed = || LoadBalancingConfig { name: "renamed".to_owned(), ..scene.configs[0].clone() };
    let wrong = || LoadBalancingConfig { weight: Some(-1), ..config("wrong", "key-wrong") };
    let table: Vec<(_, &[&str])> = vec![
        (vec![renamed(), wrong()], &["configs[1].weight"]),
        (vec![wrong(), renamed()], &["configs[0].weight"]),
        (
            vec![config("new", "key-new"), renamed(), config("late", HIDDEN)],
            &["configs[2].credentials.api_key"],
        ),
        (vec![renamed(), wrong(), disabled(config("", "key"))], &["configs[1].weight"]),
    ];
    refuses(&scene, table).await;
    assert_eq!(scene.served_by(2).await, ["a", "b"]);
}

async fn case_55_an_entry_created_disabled_is_disabled(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let enabled: Vec<_> = scene.set_of("").await.configs.iter().map(|config| config.enabled).collect();
    assert_eq!(enabled, [Some(true), Some(true), Some(false)]);
    assert_eq!(scene.served_by(4).await, ["a", "a", "b", "b"]);
    assert_eq!(upstream.hits("key-off"), 0);
}

async fn case_56_the_reserved_name_is_refused(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let [a, b, off] = <[_; 3]>::try_from(scene.configs.clone()).unwrap();
    let renamed = LoadBalancingConfig { name: "__inherit__".to_owned(), ..a.clone() };
    let table: Vec<(_, &[&str])> = vec![
        (vec![a, b.clone(), off.clone(), config("__inherit__", "key")], &["configs[3].name"]),
        (vec![renamed, b, off], &["configs[0].name"]),
    ];
    refuses(&scene, table).await;
}

async fn case_57_name_and_enabled_are_required(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let unsaid = |config: LoadBalancingConfig| LoadBalancingConfig { enabled: None, ..config };
    let named = |name: &str, config: &LoadBalancingConfig| LoadBalancingConfig {
        name: name.to_owned(),
        ..config.clone()
    };
    let stored = &scene.configs[0];
    let table: Vec<(_, &[&str])> = vec![
        (vec![config("", "key")], &["configs[0].name"]),
        (vec![config(" ", "key")], &["configs[0].name"]),
        (vec![named("", stored)], &["configs[0].name"]),
        (vec![unsaid(config("new", "key"))], &["configs[0].enabled"]),
        (vec![unsaid(stored.clone())], &["configs[0].enabled"]),
        (vec![unsaid(inherit(true))], &["configs[0].enabled"]),
        (
            vec![unsaid(config("new", "key")), unsaid(stored.clone())],
            &["configs[0].enabled", "configs[1].enabled"],
        ),
    ];
    refuses(&scene, table).await;
}

async fn case_58_credentials_are_required_of_a_new_entry(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let with = |credentials| LoadBalancingConfig { credentials, ..config("new", "") };
    let table: Vec<(_, &[&str])> = vec![
        (vec![with([].into())], &["configs[0].credentials"]),
        (vec![with(api_key_field(""))], &["configs[0].credentials"]),
        (
            vec![with([("key".to_owned(), "x".to_owned())].into())],
            &["configs[0].credentials.key", "configs[0].credentials"],
        ),
    ];
    refuses(&scene, table).await;
    // Credentials that are no map are no message of the contract: field 4 of a config as a number.
    let before = scene.listing().await;
    let request = UpdateLoadBalancingConfigsRequest { key: Some(scene.key.clone()), ..Default::default() };
    let bytes = [request.encode_to_vec(), vec![4 << 3 | 2, 2, 4 << 3, 1]].concat();
    let rpc = "ConfigService/UpdateLoadBalancingConfigs";
    let malformed = Raw::new(&scene.clients).call(rpc, bytes).await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument, "{malformed:?}");
    assert_eq!(scene.listing().await, before);
    assert_eq!(scene.served_by(2).await, ["a", "b"]);
}

async fn case_59_another_tenants_credential_is_not_found(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let foreign = saved(rota, &upstream).await.create_credential("foreign", "key-foreign").await;
    let unknown = Credential { id: "01900000-0000-7000-8000-000000000000".to_owned(), ..foreign.clone() };
    let before = scene.listing().await;
    for credential in [foreign, unknown] {
        let relinked = LoadBalancingConfig {
            credential_id: credential.id.clone(),
            credentials: [].into(),
            ..scene.configs[1].clone()
        };
        for config in [link(&credential), relinked] {
            let answer = scene.save(vec![scene.configs[0].clone(), config]).await;
            let refusal = refused(answer, Code::NotFound, "CREDENTIAL_NOT_FOUND");
            assert_eq!(refusal.resource, Some(("credential".to_owned(), credential.id.clone())));
            assert_eq!(scene.listing().await, before);
        }
    }
    assert_eq!(upstream.hits("key-foreign"), 0);
}

async fn case_60_another_credential_is_linked_anew(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let (first, second) =
        (scene.create_credential("first", "key-1").await, scene.create_credential("second", "key-2").await);
    let [own, other, _] = <[_; 3]>::try_from(scene.configs.clone()).unwrap();
    let linked = scene.save(vec![link(&first), other.clone(), own.clone()]).await.unwrap().configs;
    let row = linked.iter().find(|config| config.name == "first").unwrap();
    scene.served_by(3).await;
    assert_eq!((upstream.hits("key-1"), upstream.hits("key-2")), (1, 0));

    // A link to a link, and keys of its own to a link: the row stays, what it calls with does not.
    let again = LoadBalancingConfig { credential_id: second.id.clone(), ..row.clone() };
    let to_link =
        LoadBalancingConfig { credential_id: second.id.clone(), credentials: [].into(), ..own.clone() };
    let saved = scene.save(vec![again, other, to_link]).await.unwrap().configs;
    for id in [&row.id, &own.id] {
        let config = saved.iter().find(|config| config.id == *id).unwrap();
        assert_eq!((&*config.name, &config.credential_id), ("second", &second.id));
        assert!(config.credentials.is_empty(), "{config:?}");
    }
    let before = upstream.hits(KEY);
    assert_eq!(scene.served_by(3).await, ["b", "second", "second"]);
    assert_eq!((upstream.hits("key-1"), upstream.hits("key-2"), upstream.hits(KEY)), (1, 2, before));
}

async fn case_61_a_hidden_secret_keeps_the_stored_one(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let [a, b, _] = <[_; 3]>::try_from(scene.configs.clone()).unwrap();
    let hidden = || api_key_field(HIDDEN);
    assert!(validate(&scene, hidden(), &a.id).await.unwrap().valid);
    assert_eq!(upstream.hits(KEY), 1, "validated with what is stored");
    let again = LoadBalancingConfig { name: "renamed".to_owned(), credentials: hidden(), ..a.clone() };
    let saved = scene.save(vec![again, b]).await.unwrap();
    assert_eq!((&*saved.configs[0].name, &saved.configs[0].id), ("renamed", &a.id));
    assert_eq!(scene.served_by(2).await, ["b", "renamed"]);
    assert_eq!((upstream.hits(KEY), upstream.hits(HIDDEN)), (2, 0));
}

async fn case_62_a_hidden_secret_of_a_new_entry_is_refused(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let credential = scene.create_credential("linked", "key-linked").await;
    let [a, b, off] = <[_; 3]>::try_from(scene.configs.clone()).unwrap();
    let linked = scene.save(vec![link(&credential), a, b, off]).await.unwrap().configs;
    let linked = linked.into_iter().find(|config| config.name == "linked").unwrap();
    // A row that leaves its link has no secret of its own either.
    let unlinked = LoadBalancingConfig {
        credential_id: String::new(),
        name: "unlinked".to_owned(),
        credentials: api_key_field(HIDDEN),
        ..linked
    };
    let table: Vec<(_, &[&str])> = vec![
        (vec![config("new", HIDDEN)], &["configs[0].credentials.api_key"]),
        (vec![unlinked], &["configs[0].credentials.api_key"]),
    ];
    refuses(&scene, table).await;
    let before = scene.listing().await;
    let trial = validate(&scene, api_key_field(HIDDEN), "").await;
    assert_eq!(invalid_fields(trial), ["credentials.api_key"]);
    let new = Credential {
        provider: scene.provider.clone(),
        name: "new".to_owned(),
        fields: api_key_field(HIDDEN),
        ..Default::default()
    };
    assert_eq!(invalid_fields(scene.store(new).await), ["credential.fields.api_key"]);
    assert_eq!(scene.listing().await, before);
    assert_eq!(upstream.total_hits(), 0);
}

async fn case_63_an_entry_left_out_is_deleted(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = saved(rota, &upstream).await;
    let [a, b, off] = <[_; 3]>::try_from(scene.configs.clone()).unwrap();
    assert_eq!(scene.served_by(2).await, ["a", "b"]);
    let left = scene.save(vec![b.clone(), off]).await.unwrap().configs;
    assert_eq!(names(&left), ["b", "off"]);
    let get = GetLoadBalancingConfigRequest { key: Some(scene.key.clone()), id: a.id.clone() };
    let gone = scene.clients.config.clone().get_load_balancing_config(get).await;
    refused(gone, Code::NotFound, "CONFIG_NOT_FOUND");
    refused(validate(&scene, [].into(), &a.id).await, Code::NotFound, "CONFIG_NOT_FOUND");
    assert_eq!(scene.served_by(3).await, ["b"; 3], "the cached pool has forgotten it too");
    assert_eq!(upstream.hits(KEY), 1);
}

async fn case_64_the_set_of_another_source_is_left_alone(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let custom = scene.create_model_credential("custom", "key-custom").await;
    let set = vec![link(&custom), config("custom too", "key-own")];
    let custom = scene.save_with("custom-model", 0, set).await.unwrap().configs;
    let predefined = scene.create_credential("predefined", "key-predefined").await;
    let set = vec![inherit(false), link(&predefined)];
    let saved = scene.save_with("predefined-model", 0, set).await.unwrap().configs;
    assert_eq!(names(&saved), ["__inherit__", "predefined"]);
    enable(&scene).await.unwrap();
    assert_eq!(names(&scene.set_of("").await.configs), ["__inherit__", "custom", "custom too", "predefined"]);
    assert_eq!(scene.served_by(3).await, ["custom", "custom too", "predefined"]);
    // And the other way round, emptied.
    let emptied = scene.save_with("predefined-model", 0, vec![inherit(false)]).await.unwrap().configs;
    assert_eq!(names(&emptied), ["__inherit__"]);
    assert_eq!(scene.set_of("custom-model").await.configs[1..], custom);
    assert_eq!(scene.served_by(2).await, ["custom", "custom too"]);
}
