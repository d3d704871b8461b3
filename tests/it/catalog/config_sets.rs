//! A model's balancing configs, through the API, on both databases.

use rota::{
    api::pb::{
        Credential, DeleteCredentialRequest, DisableModelLoadBalancingRequest,
        EnableModelLoadBalancingRequest, ErrorClass, GetCooldownRequest, GetLoadBalancingConfigRequest,
        LoadBalancingConfig, UpdateCredentialRequest, ValidateLoadBalancingCredentialsRequest,
        ValidateLoadBalancingCredentialsResponse,
    },
    scripted::{Script, Upstream},
};
use tonic::{Code, Status};

use crate::support::{
    listing::{api_key_field, inherit, link, names},
    refusal::{invalid_fields, refused},
    rota::{Rota, on_both_databases},
    world::{Scene, config},
};

on_both_databases!(
    a_set_is_replaced_as_a_whole,
    an_update_is_all_or_nothing,
    a_change_serves_at_once,
    secrets_of_a_config_are_kept,
    inherit_is_a_member_until_a_saved_set_says_otherwise,
    links_follow_their_credential,
    a_deleted_credential_takes_its_configs_along,
    config_from_tells_two_sets_apart,
    balancing_needs_two_usable_configs,
    credentials_are_validated_without_being_stored,
    unknown_configs_are_not_found,
);

async fn scene(rota: &Rota, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    scene
}

async fn enable(scene: &Scene) -> Result<(), Status> {
    let request = EnableModelLoadBalancingRequest { key: Some(scene.key.clone()) };
    let model = scene.clients.config.clone().enable_model_load_balancing(request).await?.into_inner().model;
    assert!(model.unwrap().load_balancing_enabled);
    Ok(())
}

async fn a_set_is_replaced_as_a_whole(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let before = scene.set_of("").await;
    assert!(!before.enabled && before.configs.is_empty(), "{before:?}");
    let full = LoadBalancingConfig {
        weight: Some(3),
        priority: 2,
        base_url: upstream.base_url(),
        upstream_model: "their-name".to_owned(),
        ..config("full", "key-full")
    };
    let saved = scene.save(vec![config("plain", "key-plain"), full.clone()]).await.unwrap();
    assert_eq!(saved.revision, before.revision + 1);
    let [first, second] = saved.configs.as_slice() else { panic!("{saved:?}") };
    assert!(!first.id.is_empty() && first.id != second.id);
    let shown = |config: &LoadBalancingConfig, given: LoadBalancingConfig| LoadBalancingConfig {
        id: config.id.clone(),
        weight: given.weight.or(Some(1)),
        credentials: api_key_field("********************"),
        ..given
    };
    assert_eq!(*first, shown(first, config("plain", "")));
    assert_eq!(*second, shown(second, full));
    assert_eq!(scene.set_of("").await.configs, saved.configs);
    let one = GetLoadBalancingConfigRequest { key: Some(scene.key.clone()), id: second.id.clone() };
    let one = scene.clients.config.clone().get_load_balancing_config(one).await.unwrap().into_inner();
    assert_eq!(one.config.unwrap(), *second);

    // Those with an id stay themselves, those left out are gone, new ones come last.
    let renamed = LoadBalancingConfig { name: "renamed".to_owned(), ..second.clone() };
    let saved = scene.save(vec![config("new", "key-new"), renamed]).await.unwrap();
    assert_eq!(saved.revision, before.revision + 2);
    let mut set = names(&saved.configs);
    set.sort_unstable();
    assert_eq!(set, ["new", "renamed"]);
    assert!(saved.configs.iter().any(|config| config.id == second.id && config.name == "renamed"));
    let stale = scene.save_with("", before.revision + 1, vec![]).await;
    refused(stale, Code::Aborted, "STALE_REVISION");
    assert_eq!(scene.set_of("").await.configs, saved.configs);
    let saved = scene.save_with("", before.revision + 2, vec![]).await.unwrap();
    assert!(saved.configs.is_empty());
}

async fn an_update_is_all_or_nothing(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let saved = scene.save(vec![config("a", "key-a"), config("b", "key-b")]).await.unwrap();
    enable(&scene).await.unwrap();
    let before = scene.listing().await;
    let changed = LoadBalancingConfig { name: "changed".to_owned(), ..saved.configs[0].clone() };
    let with = |wrong: LoadBalancingConfig| vec![changed.clone(), wrong, config("c", "key-c")];
    let table = [
        (LoadBalancingConfig { weight: Some(-1), ..config("x", "k") }, "configs[1].weight"),
        (LoadBalancingConfig { enabled: None, ..config("x", "k") }, "configs[1].enabled"),
        (config("", "k"), "configs[1].name"),
        (config("x", "[__HIDDEN__]"), "configs[1].credentials.api_key"),
        (LoadBalancingConfig { credentials: [].into(), ..config("x", "") }, "configs[1].credentials"),
        (changed.clone(), "configs[1].id"),
    ];
    for (wrong, field) in table {
        assert_eq!(invalid_fields(scene.save(with(wrong)).await), [field]);
        assert_eq!(scene.listing().await, before, "{field}");
    }
    let unknown = "01900000-0000-7000-8000-000000000000".to_owned();
    let wrong = LoadBalancingConfig { id: unknown.clone(), ..config("x", "k") };
    let missing = refused(scene.save(with(wrong)).await, Code::NotFound, "CONFIG_NOT_FOUND");
    assert_eq!(missing.resource, Some(("config".to_owned(), unknown.clone())));
    let wrong = LoadBalancingConfig { credential_id: unknown.clone(), ..config("x", "k") };
    let wrong = LoadBalancingConfig { credentials: [].into(), ..wrong };
    let missing = refused(scene.save(with(wrong)).await, Code::NotFound, "CREDENTIAL_NOT_FOUND");
    assert_eq!(missing.resource, Some(("credential".to_owned(), unknown)));
    assert_eq!(scene.listing().await, before);
    assert_eq!(scene.served_by(2).await, ["a", "b"]);
}

async fn a_change_serves_at_once(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let saved = scene.save(vec![config("a", "key-a"), config("b", "key-b")]).await.unwrap();
    enable(&scene).await.unwrap();
    assert_eq!(scene.served_by(4).await, ["a", "a", "b", "b"]);
    let [a, b] = <[_; 2]>::try_from(saved.configs).unwrap();
    let with_a = |a: LoadBalancingConfig| vec![a, b.clone()];
    // Each of these takes `a` out; the whole set put back brings it back.
    let out = [
        LoadBalancingConfig { enabled: Some(false), ..a.clone() },
        LoadBalancingConfig { weight: Some(0), ..a.clone() },
        LoadBalancingConfig { priority: 1, ..a.clone() },
    ];
    for out in out {
        scene.save(with_a(out)).await.unwrap();
        assert_eq!(scene.served_by(2).await, ["b", "b"]);
        scene.save(with_a(a.clone())).await.unwrap();
        assert_eq!(scene.served_by(2).await, ["a", "b"]);
    }
    let renamed = LoadBalancingConfig { upstream_model: "their-name".to_owned(), ..a.clone() };
    scene.save(vec![renamed]).await.unwrap();
    assert_eq!(scene.ask().await.unwrap().route.unwrap().upstream_model, "their-name");
    assert_eq!(upstream.requests().pop().unwrap().body["model"], "their-name");
    let one = scene.set_of("").await.configs.remove(0);
    assert!(!one.warning.is_empty(), "one member alone has nothing to fail over to");

    // Without balancing the configs do not serve.
    let off = DisableModelLoadBalancingRequest { key: Some(scene.key.clone()) };
    let off = scene.clients.config.clone().disable_model_load_balancing(off).await.unwrap();
    assert!(!off.into_inner().model.unwrap().load_balancing_enabled);
    assert_eq!(scene.served_by(1).await, ["__inherit__"]);
    assert_eq!(scene.set_of("").await.configs.len(), 1, "they are kept");
}

async fn secrets_of_a_config_are_kept(rota: &'static Rota) {
    const KEY: &str = "sk-kept-0123456789-kept";
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let saved = scene.save(vec![config("a", KEY), config("b", "key-b")]).await.unwrap();
    enable(&scene).await.unwrap();
    let [a, b] = <[_; 2]>::try_from(saved.configs).unwrap();
    for kept in ["[__HIDDEN__]", "sk-kep************pt", ""] {
        let credentials = if kept.is_empty() { [].into() } else { api_key_field(kept) };
        let again = LoadBalancingConfig { credentials, name: format!("kept {kept}"), ..a.clone() };
        scene.save(vec![again, b.clone()]).await.unwrap();
        let before = upstream.hits(KEY);
        scene.served_by(2).await;
        assert_eq!(upstream.hits(KEY), before + 1, "{kept}");
    }
    let fresh = LoadBalancingConfig { credentials: api_key_field("sk-fresh"), ..a.clone() };
    scene.save(vec![fresh, b]).await.unwrap();
    let before = upstream.hits(KEY);
    scene.served_by(2).await;
    assert_eq!((upstream.hits(KEY), upstream.hits("sk-fresh")), (before, 1));
}

async fn inherit_is_a_member_until_a_saved_set_says_otherwise(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let credential = scene.create_credential("provider's", "key-inherited").await;
    let listed = scene.set_of("").await.configs;
    assert_eq!(names(&listed), ["__inherit__"]);
    assert_eq!((listed[0].id.as_str(), listed[0].enabled), ("__inherit__", Some(true)));
    assert!(listed[0].credential_id.is_empty() && listed[0].credentials.is_empty());

    let saved = scene.save(vec![config("own", "key-own"), inherit(true)]).await.unwrap();
    assert_eq!(names(&saved.configs), ["__inherit__", "own"], "listed first, wherever it was sent");
    // It counts as usable, and serves.
    enable(&scene).await.unwrap();
    assert_eq!(scene.served_by(4).await, ["__inherit__", "__inherit__", "own", "own"]);
    assert_eq!((upstream.hits("key-inherited"), upstream.hits("key-own")), (2, 2));

    let own = saved.configs[1].clone();
    let saved = scene.save(vec![inherit(false), own.clone()]).await.unwrap();
    assert_eq!(names(&saved.configs), ["__inherit__", "own"]);
    assert_eq!(saved.configs[0].enabled, Some(false));
    assert_eq!(scene.served_by(2).await, ["own", "own"]);
    let saved = scene.save(vec![own.clone()]).await.unwrap();
    assert_eq!(names(&saved.configs), ["own"]);
    assert_eq!(scene.served_by(2).await, ["own", "own"]);
    let saved = scene.save(vec![inherit(true), own]).await.unwrap();
    assert_eq!(names(&saved.configs), ["__inherit__", "own"]);

    // Nobody else can have its name, and there is nothing to set on it.
    assert_eq!(invalid_fields(scene.save(vec![config("__inherit__", "k")]).await), ["configs[0].name"]);
    let named =
        Credential { id: String::new(), name: "__inherit__".to_owned(), revision: 0, ..credential.clone() };
    let named = Credential { fields: api_key_field("k"), ..named };
    assert_eq!(invalid_fields(scene.store(named).await), ["credential.name"]);
    let keyed = LoadBalancingConfig { credentials: api_key_field("k"), ..inherit(true) };
    assert_eq!(invalid_fields(scene.save(vec![keyed]).await), ["configs[0].credentials"]);

    // Without a credential there is none; with the next one it is back.
    let delete = DeleteCredentialRequest {
        tenant_id: String::new(),
        provider: scene.provider.clone(),
        id: credential.id,
    };
    scene.clients.config.clone().delete_credential(delete).await.unwrap();
    assert_eq!(names(&scene.set_of("").await.configs), ["own"]);
    scene.create_model_credential("model's", "key-model").await;
    assert_eq!(names(&scene.set_of("").await.configs), ["__inherit__", "own"]);
    scene.served_by(2).await;
    assert_eq!(upstream.hits("key-model"), 1);
}

async fn links_follow_their_credential(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let credential = scene.create_credential("shared", "key-old").await;
    let sent = LoadBalancingConfig { name: "another name".to_owned(), ..link(&credential) };
    let saved = scene.save(vec![sent, config("own", "key-own")]).await.unwrap();
    assert_eq!(names(&saved.configs), ["shared", "own"], "the credential's name");
    assert_eq!(saved.configs[0].credential_id, credential.id);
    assert!(saved.configs[0].credentials.is_empty());
    enable(&scene).await.unwrap();
    scene.served_by(2).await;
    assert_eq!(upstream.hits("key-old"), 1);

    let fresh =
        Credential { name: "renamed".to_owned(), fields: api_key_field("key-new"), ..credential.clone() };
    let update = UpdateCredentialRequest { credential: Some(fresh), update_mask: None };
    scene.clients.config.clone().update_credential(update).await.unwrap();
    assert_eq!(scene.served_by(2).await, ["own", "renamed"]);
    assert_eq!((upstream.hits("key-old"), upstream.hits("key-new")), (1, 1));

    // Another model's credential, or another tenant's, is not there to be linked.
    let mut other = Scene {
        key: rota::api::pb::ModelKey { model: "other".to_owned(), ..scene.key.clone() },
        ..scene.clone()
    };
    other.put_model(&other.key).await;
    let foreign = other.create_model_credential("other's", "k").await;
    refused(scene.save(vec![link(&foreign)]).await, Code::NotFound, "CREDENTIAL_NOT_FOUND");
    other = Scene::tenant(rota).await;
    other.add_model(&upstream.base_url()).await;
    refused(other.save(vec![link(&credential)]).await, Code::NotFound, "CREDENTIAL_NOT_FOUND");
}

async fn a_deleted_credential_takes_its_configs_along(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let (gone, stays) = (
        scene.create_credential("gone", "key-gone").await,
        scene.create_credential("stays", "key-stays").await,
    );
    let saved = scene.save(vec![link(&gone), link(&stays), config("own", "key-own")]).await.unwrap();
    enable(&scene).await.unwrap();
    assert_eq!(scene.served_by(3).await, ["gone", "own", "stays"]);
    let revision = scene.set_of("").await.revision;
    let delete = DeleteCredentialRequest {
        tenant_id: scene.tenant.clone(),
        provider: scene.provider.clone(),
        id: gone.id,
    };
    scene.clients.config.clone().delete_credential(delete).await.unwrap();
    let set = scene.set_of("").await;
    assert_eq!(names(&set.configs), ["stays", "own"]);
    assert!(set.revision > revision, "the set has changed");
    assert_eq!(scene.served_by(2).await, ["own", "stays"]);
    assert_eq!(upstream.hits("key-gone"), 1);
    // Who read the set before cannot put the row back.
    refused(scene.save_with("", revision, saved.configs).await, Code::Aborted, "STALE_REVISION");
}

async fn config_from_tells_two_sets_apart(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let (of_provider, of_model) = (
        scene.create_credential("provider's", "key-provider").await,
        scene.create_model_credential("model's", "key-model").await,
    );
    let stored = |set: &[LoadBalancingConfig]| {
        let stored = set.iter().filter(|config| config.id != "__inherit__");
        stored.map(|config| config.name.clone()).collect::<Vec<_>>()
    };
    scene.save(vec![link(&of_provider), link(&of_model)]).await.unwrap();
    assert_eq!(stored(&scene.set_of("predefined-model").await.configs), ["provider's"]);
    assert_eq!(stored(&scene.set_of("custom-model").await.configs), ["model's"]);
    assert_eq!(stored(&scene.set_of("").await.configs), ["provider's", "model's"]);
    // Replacing one leaves the other.
    let saved = scene.save_with("custom-model", 0, vec![config("own", "key-own")]).await.unwrap();
    assert_eq!(stored(&saved.configs), ["own"]);
    assert_eq!(stored(&scene.set_of("").await.configs), ["provider's", "own"]);
    scene.save_with("predefined-model", 0, vec![]).await.unwrap();
    assert_eq!(stored(&scene.set_of("").await.configs), ["own"]);
    assert_eq!(invalid_fields(scene.save_with("else", 0, vec![]).await), ["config_from"]);
}

async fn balancing_needs_two_usable_configs(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene(rota, &upstream).await;
    let off = |name: &str| LoadBalancingConfig { enabled: Some(false), ..config(name, "k") };
    let drained = LoadBalancingConfig { weight: Some(0), ..config("drained", "k") };
    for set in [vec![], vec![config("one", "k")], vec![config("one", "k"), off("two"), drained]] {
        let saved = scene.save(set).await.unwrap();
        refused(enable(&scene).await, Code::FailedPrecondition, "NOT_ENOUGH_CONFIGS");
        let after = scene.set_of("").await;
        assert_eq!((after.enabled, after.revision), (false, saved.revision), "nothing has changed");
    }
    scene.save(vec![config("one", "k1"), config("two", "k2"), off("three")]).await.unwrap();
    let revision = scene.set_of("").await.revision;
    enable(&scene).await.unwrap();
    let after = scene.set_of("").await;
    assert!(after.enabled && after.revision > revision);
}

async fn credentials_are_validated_without_being_stored(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    upstream.script("key-wrong", Script::fail(401));
    let scene = scene(rota, &upstream).await;
    scene.create_credential("provider's", "key-inherited").await;
    scene.save(vec![config("good", "key-good"), config("wrong", "key-wrong")]).await.unwrap();
    let before = scene.listing().await;
    let id = |name: &str| {
        let set = &before.configs[0].configs;
        set.iter().find(|config| config.name == name).unwrap().id.clone()
    };
    let validate = async |request: ValidateLoadBalancingCredentialsRequest| {
        let request = ValidateLoadBalancingCredentialsRequest { key: Some(scene.key.clone()), ..request };
        let answer = scene.clients.config.clone().validate_load_balancing_credentials(request).await;
        answer.map(tonic::Response::into_inner)
    };
    let given = |credentials: &[(&str, &str)], config_id: &str| ValidateLoadBalancingCredentialsRequest {
        credentials: credentials
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        config_id: config_id.to_owned(),
        ..Default::default()
    };
    let refuses = |answer: &ValidateLoadBalancingCredentialsResponse| {
        !answer.valid && answer.error_class() == ErrorClass::Authentication && !answer.message.is_empty()
    };
    let good = validate(given(&[("api_key", "key-fresh")], "")).await.unwrap();
    assert!(
        good.valid && good.error_class() == ErrorClass::Unspecified && good.latency.is_some(),
        "{good:?}"
    );
    assert_eq!(upstream.hits("key-fresh"), 1, "the real upstream was asked");
    let wrong = validate(given(&[("api_key", "key-wrong")], "")).await.unwrap();
    assert!(refuses(&wrong), "{wrong:?}");
    // Stored ones: as they are, hidden, and with a new value in place of the stored one.
    assert!(validate(given(&[], &id("good"))).await.unwrap().valid);
    assert!(validate(given(&[("api_key", "[__HIDDEN__]")], &id("good"))).await.unwrap().valid);
    assert_eq!(upstream.hits("key-good"), 2);
    assert!(refuses(&validate(given(&[("api_key", "[__HIDDEN__]")], &id("wrong"))).await.unwrap()));
    assert!(validate(given(&[("api_key", "key-fresh")], &id("wrong"))).await.unwrap().valid);
    assert!(validate(given(&[], "__inherit__")).await.unwrap().valid);
    assert_eq!(upstream.hits("key-inherited"), 1);
    let elsewhere = ValidateLoadBalancingCredentialsRequest {
        base_url: "http://127.0.0.1:9/v1".to_owned(),
        ..given(&[("api_key", "key-fresh")], "")
    };
    let elsewhere = validate(elsewhere).await.unwrap();
    assert_eq!((elsewhere.valid, elsewhere.error_class()), (false, ErrorClass::Connection));
    assert_eq!(scene.listing().await, before, "nothing is stored, no config cools down");

    let hidden = validate(given(&[("api_key", "[__HIDDEN__]")], "")).await;
    assert_eq!(invalid_fields(hidden), ["credentials.api_key"]);
    assert_eq!(invalid_fields(validate(given(&[("nonsense", "x")], "")).await), ["credentials.nonsense"]);
    // A stored secret does not travel.
    let moved = ValidateLoadBalancingCredentialsRequest {
        base_url: "http://127.0.0.1:9/v1".to_owned(),
        ..given(&[], &id("good"))
    };
    assert_eq!(invalid_fields(validate(moved).await), ["base_url"]);
    refused(validate(given(&[], "nobody")).await, Code::NotFound, "CONFIG_NOT_FOUND");
}

async fn unknown_configs_are_not_found(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let mut client = scene.clients.config.clone();
    let key = Some(scene.key.clone());
    for id in ["nobody", "01900000-0000-7000-8000-000000000000", "", "__inherit__"] {
        let named = Some(("config".to_owned(), id.to_owned()));
        let get = GetLoadBalancingConfigRequest { key: key.clone(), id: id.to_owned() };
        let missing = client.get_load_balancing_config(get).await;
        assert_eq!(refused(missing, Code::NotFound, "CONFIG_NOT_FOUND").resource, named);
        let get = GetCooldownRequest { key: key.clone(), config_id: id.to_owned() };
        let missing = client.get_cooldown(get).await;
        assert_eq!(refused(missing, Code::NotFound, "CONFIG_NOT_FOUND").resource, named);
    }
    let cooldown = GetCooldownRequest { key: key.clone(), config_id: scene.configs[0].id.clone() };
    assert!(!client.get_cooldown(cooldown).await.unwrap().into_inner().in_cooldown);
}
