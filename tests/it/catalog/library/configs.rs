//! Sets of configs: what is refused, what is kept, and that a refusal changes nothing.

use std::collections::BTreeMap;

use rota::catalog::{ConfigFrom, CredentialChange, Error, HIDDEN, INHERIT, NewConfig, ResourceKind};
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::{Bed, KEY, OTHER_KEY, again, api_key, inherit, inline, link, new_credential, violated};

#[tokio::test]
async fn a_refused_set_changes_nothing() {
    let (bed, key) = Bed::with_model().await;
    bed.credential("openai", "one", KEY).await;
    let set = bed.save(&key, vec![inline("a", KEY), inline("b", OTHER_KEY)]).await.unwrap();
    let before = bed.listed(&key).await;
    let a = again(&set.configs[0]);
    let bad = |row: NewConfig| vec![a.clone(), inline("new", KEY), row];
    let with = |change: fn(&mut NewConfig)| {
        let mut row = inline("x", KEY);
        change(&mut row);
        row
    };
    for (row, field) in [
        (with(|row| row.enabled = None), "configs[2].enabled"),
        (with(|row| row.weight = Some(-1)), "configs[2].weight"),
        (with(|row| row.name.clear()), "configs[2].name"),
        (with(|row| row.name = INHERIT.to_owned()), "configs[2].name"),
        (with(|row| row.credential_id = Uuid::now_v7().to_string()), "configs[2].credential_id"),
        (with(|row| row.credentials.clear()), "configs[2].credentials"),
        (with(|row| row.credentials = api_key(HIDDEN)), "configs[2].credentials.api_key"),
        (with(|row| row.credentials = api_key("a\nb")), "configs[2].credentials.api_key"),
        (with(|row| row.base_url = "ftp://x".to_owned()), "configs[2].base_url"),
        (with(|row| row.upstream_model = "m".repeat(300)), "configs[2].upstream_model"),
        (again(&set.configs[0]), "configs[2].id"),
        (NewConfig { credentials: api_key(KEY), ..inherit(true) }, "configs[2].credentials"),
        (NewConfig { weight: Some(0), ..inherit(true) }, "configs[2].weight"),
    ] {
        assert_eq!(violated(bed.save(&key, bad(row.clone())).await), [field], "{row:?}");
    }
    let unknown = NewConfig { id: Uuid::now_v7().to_string(), ..inline("x", KEY) };
    let result = bed.save(&key, bad(unknown)).await;
    assert!(matches!(result, Err(Error::NotFound(ResourceKind::Config, _))));
    let unlinked =
        NewConfig { credential_id: Uuid::now_v7().to_string(), enabled: Some(true), ..NewConfig::default() };
    let result = bed.save(&key, bad(unlinked)).await;
    assert!(matches!(result, Err(Error::NotFound(ResourceKind::Credential, _))));
    assert_eq!(violated(bed.save(&key, vec![inline("x", KEY); 1001]).await), ["configs"]);

    let after = bed.listed(&key).await;
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert_eq!(bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap().revision, set.revision);
}

#[tokio::test]
async fn a_set_is_replaced_and_ordinals_are_never_given_twice() {
    let (bed, key) = Bed::with_model().await;
    let set = bed.save(&key, vec![inline("a", KEY), inline("b", OTHER_KEY)]).await.unwrap();
    assert_eq!(set.revision, 2);
    let a = NewConfig { name: "renamed".to_owned(), weight: Some(3), ..again(&set.configs[0]) };
    let set = bed.save(&key, vec![inline("c", "sk-c"), a]).await.unwrap();
    let rows: Vec<_> =
        set.configs.iter().map(|c| (c.name.as_str(), c.member.key.ordinal, c.weight)).collect();
    assert_eq!(rows, [("renamed", 1, 3), ("c", 3, 1)]);
    let stale = bed.writer().update_configs(&key, ConfigFrom::Any, 2, vec![]).await;
    assert!(matches!(stale, Err(Error::StaleRevision { given: 2, current: 3 })));
    bed.writer().update_configs(&key, ConfigFrom::Any, 3, vec![]).await.unwrap();
    assert!(bed.listed(&key).await.is_empty());
}

#[tokio::test]
async fn a_row_keeps_its_secret_but_not_elsewhere() {
    let (bed, key) = Bed::with_model().await;
    let mut row = inline("a", KEY);
    row.base_url = "https://one.example/v1".to_owned();
    let set = bed.save(&key, vec![row, inline("b", OTHER_KEY)]).await.unwrap();
    let [a, b] = [again(&set.configs[0]), again(&set.configs[1])];
    assert_eq!(a.credentials["api_key"], "sk-pro************11");
    bed.save(&key, vec![a.clone(), NewConfig { credentials: BTreeMap::new(), ..b.clone() }]).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    assert_eq!(bed.serving(&key), [KEY, OTHER_KEY]);

    let path = NewConfig { base_url: "https://one.example/v2".to_owned(), ..a.clone() };
    bed.save(&key, vec![path, b.clone()]).await.unwrap();
    for credentials in [a.credentials.clone(), BTreeMap::new(), api_key(HIDDEN)] {
        let moved = NewConfig { base_url: "https://two.example/v1".to_owned(), credentials, ..a.clone() };
        assert_eq!(violated(bed.save(&key, vec![moved, b.clone()]).await), ["configs[0].base_url"]);
        let back_home = NewConfig { base_url: String::new(), ..a.clone() };
        assert_eq!(violated(bed.save(&key, vec![back_home, b.clone()]).await), ["configs[0].base_url"]);
    }
    let anew = NewConfig {
        base_url: "https://two.example/v1".to_owned(),
        credentials: api_key("sk-two"),
        ..a.clone()
    };
    bed.save(&key, vec![anew, b]).await.unwrap();
    assert_eq!(bed.serving(&key), ["sk-two", OTHER_KEY]);
}

#[tokio::test]
async fn a_linked_credential_is_used_by_reference() {
    let (bed, key) = Bed::with_model().await;
    let one = bed.credential("openai", "one", KEY).await;
    let two = bed.credential("openai", "two", OTHER_KEY).await;
    let set = bed.save(&key, vec![link(&one), link(&two)]).await.unwrap();
    assert_eq!(set.configs[0].name, "one");
    bed.writer().set_balancing(&key, true).await.unwrap();
    assert_eq!(bed.serving(&key), [KEY, OTHER_KEY]);

    let change = CredentialChange {
        name: Some("uno".to_owned()),
        fields: Some(api_key("sk-uno")),
        ..CredentialChange::default()
    };
    bed.writer().update_credential("acme", "openai", &one.id.to_string(), change).await.unwrap();
    assert_eq!(bed.serving(&key), ["sk-uno", OTHER_KEY]);
    let listed = bed.listed(&key).await;
    assert_eq!(listed[0].name, "uno");
    assert_ne!(listed[0].member.key, set.configs[0].member.key, "a new key has a record of its own");
    assert_eq!(listed[1].member, set.configs[1].member);

    // Left out, the link stays; another one replaces it.
    let kept = NewConfig { credential_id: String::new(), ..again(&listed[0]) };
    let relinked = NewConfig { credential_id: one.id.to_string(), ..again(&listed[1]) };
    bed.save(&key, vec![kept, relinked]).await.unwrap();
    assert_eq!(bed.serving(&key), ["sk-uno", "sk-uno"]);
    let elsewhere = NewConfig { base_url: "https://two.example/v1".to_owned(), ..link(&two) };
    assert_eq!(violated(bed.save(&key, vec![elsewhere]).await), ["configs[0].base_url"]);

    let before = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap().revision;
    bed.writer().delete_credential("acme", "openai", &one.id.to_string()).await.unwrap();
    let set = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap();
    assert!(set.configs.is_empty() && set.revision == before + 1);
}

#[tokio::test]
async fn only_credentials_of_this_provider_and_model_can_be_linked() {
    let (bed, key) = Bed::with_model().await;
    bed.provider("other", "openai", "").await;
    let foreign = bed.credential("other", "one", KEY).await;
    let of_model = new_credential("openai", Some("elsewhere"), "own", KEY);
    let of_model = bed.writer().create_credential("acme", of_model).await.unwrap();
    for credential in [foreign, of_model] {
        let result = bed.save(&key, vec![link(&credential)]).await;
        assert!(matches!(result, Err(Error::NotFound(ResourceKind::Credential, _))));
    }
    let own = new_credential("openai", Some("gpt"), "own", KEY);
    let own = bed.writer().create_credential("acme", own).await.unwrap();
    bed.save(&key, vec![link(&own)]).await.unwrap();
}

#[tokio::test]
async fn each_source_has_its_own_set() {
    let (bed, key) = Bed::with_model().await;
    let save = async |from, configs| bed.writer().update_configs(&key, from, 0, configs).await;
    save(ConfigFrom::PredefinedModel, vec![inline("p", KEY)]).await.unwrap();
    save(ConfigFrom::CustomModel, vec![inline("c", OTHER_KEY)]).await.unwrap();
    let names = async |from| {
        let set = bed.catalog.configs(&key, from).await.unwrap();
        set.configs.into_iter().map(|config| config.name).collect::<Vec<_>>()
    };
    assert_eq!(names(ConfigFrom::PredefinedModel).await, ["p"]);
    assert_eq!(names(ConfigFrom::CustomModel).await, ["c"]);
    assert_eq!(names(ConfigFrom::Any).await, ["p", "c"]);
    let p = bed.listed(&key).await.remove(0);
    let other = save(ConfigFrom::CustomModel, vec![again(&p)]).await;
    assert!(matches!(other, Err(Error::NotFound(ResourceKind::Config, _))));
    save(ConfigFrom::CustomModel, vec![]).await.unwrap();
    assert_eq!(names(ConfigFrom::Any).await, ["p"]);
    // Saved with no source named, a row keeps the one it has.
    save(ConfigFrom::Any, vec![again(&p)]).await.unwrap();
    assert!(names(ConfigFrom::CustomModel).await.is_empty());
}

#[tokio::test]
async fn trials() {
    let bed = Bed::new().await;
    bed.writer().create_tenant("acme", "").await.unwrap();
    bed.provider("own", "openai_compatible", "https://one.example/v1").await;
    let key = bed.model("own", "m").await;
    let mut row = inline("a", KEY);
    row.base_url = "https://two.example/v1".to_owned();
    let set = bed.save(&key, vec![row]).await.unwrap();
    let id = set.configs[0].id.as_str();
    let trial = async |fields, id: &str, base_url: &str| {
        let (_, target) = bed.catalog.config_target(&key, fields, id, base_url).await?;
        let secret = target.fields.get("api_key").map(|v| v.expose_secret().to_owned()).unwrap_or_default();
        Ok::<_, Error>((target.base_url.to_string(), secret))
    };
    let none = BTreeMap::new;
    let (one, two) = ("https://one.example/v1", "https://two.example/v1");
    let pair = |url: &str, secret: &str| (url.to_owned(), secret.to_owned());
    assert_eq!(trial(api_key("sk-x"), "", "").await.unwrap(), pair(one, "sk-x"));
    assert_eq!(trial(api_key("sk-x"), "", two).await.unwrap(), pair(two, "sk-x"));
    assert_eq!(trial(none(), id, "").await.unwrap(), pair(two, KEY));
    assert_eq!(trial(api_key(HIDDEN), id, "").await.unwrap(), pair(two, KEY));
    assert_eq!(trial(api_key("sk-y"), id, "").await.unwrap(), pair(two, "sk-y"));
    assert_eq!(violated(trial(none(), id, "https://three.example").await), ["base_url"]);
    assert_eq!(violated(trial(api_key(HIDDEN), "", two).await), ["credentials.api_key"]);
    assert!(matches!(trial(none(), "nope", "").await, Err(Error::NotFound(ResourceKind::Config, _))));
}
