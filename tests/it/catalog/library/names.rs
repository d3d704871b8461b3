//! Tenants, tokens, providers and models: what they are called, who has them, how they are listed.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rota::{
    catalog::{
        DatabaseState, Error, ModelKey, NewModel, NewProvider, NewToken, OpenError, PageRequest,
        ProviderChange, ResourceKind, Role,
    },
    provider::ModelType,
};
use secrecy::ExposeSecret;

use super::{Bed, KEY, MASTER, OTHER_MASTER, inline, new_model, on, open, violated};

#[tokio::test]
async fn a_tenant_comes_and_goes_with_all_it_has() {
    let (bed, key) = Bed::with_model().await;
    bed.credential("openai", "one", KEY).await;
    bed.save(&key, vec![inline("a", KEY)]).await.unwrap();
    bed.writer().set_default_model(&key).await.unwrap();
    let (_, secret) = bed.writer().create_token(token(Some(Role::Invoker), "acme")).await.unwrap();
    assert!(bed.catalog.authenticate(secret.expose_secret()).await.unwrap().is_some());

    assert!(matches!(
        bed.writer().create_tenant("acme", "").await,
        Err(Error::AlreadyExists(ResourceKind::Tenant, _))
    ));
    bed.writer().delete_tenant("acme").await.unwrap();

    assert!(bed.catalog.pool(&key).is_none());
    assert!(bed.catalog.authenticate(secret.expose_secret()).await.unwrap().is_none());
    assert!(matches!(bed.catalog.get_tenant("acme").await, Err(Error::NotFound(ResourceKind::Tenant, _))));
    let resolved = bed.catalog.resolve("acme", "", ModelType::Llm, "").await;
    assert!(matches!(resolved, Err(Error::NotFound(ResourceKind::Tenant, _))), "{resolved:?}");
}

fn token(role: Option<Role>, tenant: &str) -> NewToken {
    NewToken {
        tenant: tenant.to_owned(),
        role,
        name: "ci".to_owned(),
        expires_at: None,
        may_read_credentials: false,
    }
}

#[tokio::test]
async fn tokens() {
    let bed = Bed::new().await;
    let catalog = &bed.catalog;
    assert!(catalog.is_empty().await.unwrap());
    assert_eq!(violated(catalog.by_command_line().create_token(token(None, "")).await), ["role"]);
    assert_eq!(
        violated(catalog.by_command_line().create_token(token(Some(Role::Viewer), "")).await),
        ["tenant_id"]
    );
    assert_eq!(
        violated(catalog.by_command_line().create_token(token(Some(Role::Operator), "acme")).await),
        ["tenant_id"]
    );
    let (made, secret) =
        catalog.by_command_line().create_token(token(Some(Role::Operator), "")).await.unwrap();
    assert!(!catalog.is_empty().await.unwrap());
    let secret = secret.expose_secret();
    assert!(secret.starts_with("rota_") && secret.len() == 48 && secret.starts_with(&made.prefix));

    let caller = catalog.authenticate(secret).await.unwrap().unwrap();
    assert_eq!((caller.token, caller.role, &caller.tenant), (made.id, Role::Operator, &None));
    assert!(!caller.may_read_credentials && catalog.still_valid(&caller).await);
    let mut wrong = secret.to_owned();
    wrong.replace_range(47.., if secret.ends_with('A') { "E" } else { "A" });
    for wrong in ["", "rota_", &wrong] {
        assert_eq!(catalog.authenticate(wrong).await.unwrap(), None);
    }

    catalog.by_command_line().revoke_token(&made.id.to_string()).await.unwrap();
    assert_eq!(catalog.authenticate(secret).await.unwrap(), None);
    assert!(!catalog.still_valid(&caller).await);
    let again = catalog.by_command_line().revoke_token(&made.id.to_string()).await;
    assert!(matches!(again, Err(Error::NotFound(ResourceKind::Token, _))));
}

#[tokio::test]
async fn a_token_expires_even_when_it_is_known() {
    let bed = Bed::new().await;
    let past =
        NewToken { expires_at: Some(Utc::now() - TimeDelta::seconds(1)), ..token(Some(Role::Operator), "") };
    assert_eq!(violated(bed.writer().create_token(past).await), ["expires_at"]);
    let soon = NewToken {
        expires_at: Some(Utc::now() + TimeDelta::milliseconds(700)),
        ..token(Some(Role::Operator), "")
    };
    let (_, secret) = bed.writer().create_token(soon).await.unwrap();
    assert!(bed.catalog.authenticate(secret.expose_secret()).await.unwrap().is_some());
    for _ in 0..200 {
        if bed.catalog.authenticate(secret.expose_secret()).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the token did not expire");
}

#[tokio::test]
async fn known_tokens_and_pools_outlive_the_database() {
    let (bed, key) = Bed::with_model().await;
    bed.credential("openai", "one", KEY).await;
    let (_, secret) = bed.writer().create_token(token(Some(Role::Invoker), "acme")).await.unwrap();
    let db = bed.connection().await;
    let replica = on(db.clone());
    replica.load().await.unwrap();
    replica.authenticate(secret.expose_secret()).await.unwrap();
    db.close().await.unwrap();

    assert!(replica.authenticate(secret.expose_secret()).await.unwrap().is_some());
    let named = replica.resolve("acme", "langgenius/openai/openai", ModelType::Llm, "gpt").await.unwrap();
    let default = replica.resolve("acme", "", ModelType::Llm, "").await.unwrap();
    assert_eq!((&named.key, &default.key), (&key, &key));
    let write = replica.by_command_line().create_tenant("beta", "").await;
    assert!(matches!(write, Err(Error::DatabaseUnavailable)), "{write:?}");
    assert_eq!(replica.database_state().await, DatabaseState::Away);
    let miss = replica.resolve("acme", "openai", ModelType::Llm, "none").await;
    assert!(matches!(miss, Err(Error::DatabaseUnavailable)), "{miss:?}");
}

#[tokio::test]
async fn providers() {
    let bed = Bed::new().await;
    let catalog = &bed.catalog;
    catalog.by_command_line().create_tenant("acme", "").await.unwrap();
    let bad = NewProvider {
        name: "No".to_owned(),
        kind: "nope".to_owned(),
        base_url: "ftp://x".to_owned(),
        ..NewProvider::default()
    };
    assert_eq!(
        violated(catalog.by_command_line().create_provider("acme", bad).await),
        ["name", "base_url", "kind"]
    );
    let homeless =
        NewProvider { name: "x".to_owned(), kind: "openai_compatible".to_owned(), ..NewProvider::default() };
    assert_eq!(violated(catalog.by_command_line().create_provider("acme", homeless).await), ["base_url"]);

    bed.provider("langgenius/openai/openai", "openai", "").await;
    let got = catalog.get_provider("acme", "langgenius/openai/openai").await.unwrap();
    assert_eq!((got.name.as_str(), got.revision, got.enabled), ("openai", 1, true));
    let twice =
        NewProvider { name: "openai".to_owned(), kind: "openai".to_owned(), ..NewProvider::default() };
    assert!(matches!(
        catalog.by_command_line().create_provider("acme", twice).await,
        Err(Error::AlreadyExists(ResourceKind::Provider, _))
    ));

    let change = ProviderChange { enabled: Some(false), revision: 1, ..ProviderChange::default() };
    assert_eq!(
        catalog.by_command_line().update_provider("acme", "openai", change.clone()).await.unwrap().revision,
        2
    );
    let stale = catalog.by_command_line().update_provider("acme", "openai", change).await;
    assert!(matches!(stale, Err(Error::StaleRevision { given: 1, current: 2 })));

    let key = bed.model("openai", "gpt").await;
    assert!(matches!(
        catalog.by_command_line().delete_provider("acme", "openai").await,
        Err(Error::InUse(ResourceKind::Provider, _))
    ));
    catalog.by_command_line().delete_model(&key).await.unwrap();
    catalog.by_command_line().delete_provider("acme", "openai").await.unwrap();
    assert!(matches!(
        catalog.get_provider("acme", "openai").await,
        Err(Error::NotFound(ResourceKind::Provider, _))
    ));
}

#[tokio::test]
async fn pages_hold_everything_once() {
    let (bed, _) = Bed::with_model().await;
    bed.provider("azure", "openai", "").await;
    for model in ["b", "a", "c"] {
        bed.model("openai", model).await;
        bed.model("azure", model).await;
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let request = PageRequest { size: 2, token };
        let page = bed.catalog.list_models("acme", "", None, request).await.unwrap();
        assert!(page.items.len() <= 2);
        names.extend(page.items.into_iter().map(|m| format!("{}/{}", m.key.provider, m.key.model)));
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["azure/a", "azure/b", "azure/c", "openai/a", "openai/b", "openai/c", "openai/gpt"]);
    for (size, token, field) in [(-1, "", "page_size"), (0, "%%", "page_token"), (0, "W10", "page_token")] {
        let request = PageRequest { size, token: token.to_owned() };
        assert_eq!(violated(bed.catalog.list_models("acme", "", None, request).await), [field]);
    }
}

#[tokio::test]
async fn models() {
    let (bed, key) = Bed::with_model().await;
    let catalog = &bed.catalog;
    let put = NewModel {
        upstream_model: "gpt-4o".to_owned(),
        enabled: Some(false),
        revision: 1,
        ..new_model(&key)
    };
    assert_eq!(catalog.by_command_line().put_model(put.clone()).await.unwrap().revision, 2);
    assert!(matches!(catalog.by_command_line().put_model(put).await, Err(Error::StaleRevision { .. })));
    // An absent `enabled` leaves it as it is.
    assert!(!catalog.by_command_line().put_model(new_model(&key)).await.unwrap().enabled);
    assert!(!catalog.pool(&key).unwrap().enabled);
    assert!(catalog.by_command_line().set_model_enabled(&key, true).await.unwrap().enabled);
    assert!(catalog.pool(&key).unwrap().enabled);
    let mut other = key.clone();
    other.model_type = ModelType::Rerank;
    assert_eq!(violated(catalog.by_command_line().put_model(new_model(&other)).await), ["key.model_type"]);
    let huge = ModelKey { model: "m".repeat(257), provider: "Bad".to_owned(), ..key.clone() };
    assert_eq!(violated(catalog.get_model(&huge).await), ["key.provider", "key.model"]);
}

#[tokio::test]
async fn default_models() {
    let (bed, gpt) = Bed::with_model().await;
    let first = bed.model("openai", "a-model").await;
    let catalog = &bed.catalog;
    let default = async || catalog.resolve("acme", "", ModelType::Llm, "").await.map(|pool| pool.key.clone());
    assert_eq!(catalog.default_model("acme", ModelType::Llm).await.unwrap(), (first.clone(), true));
    assert_eq!(default().await.unwrap(), first);
    catalog.by_command_line().set_model_enabled(&first, false).await.unwrap();
    assert_eq!(default().await.unwrap(), gpt);
    assert_eq!(violated(catalog.by_command_line().set_default_model(&first).await), ["key.model"]);
    catalog.by_command_line().set_model_enabled(&first, true).await.unwrap();
    catalog.by_command_line().set_default_model(&gpt).await.unwrap();
    assert_eq!(catalog.default_model("acme", ModelType::Llm).await.unwrap(), (gpt.clone(), false));
    assert_eq!(default().await.unwrap(), gpt);
    assert!(matches!(
        catalog.by_command_line().delete_model(&gpt).await,
        Err(Error::InUse(ResourceKind::Model, _))
    ));
    catalog.by_command_line().set_default_model(&first).await.unwrap();
    catalog.by_command_line().delete_model(&gpt).await.unwrap();
    let none = catalog.resolve("acme", "", ModelType::TextEmbedding, "").await;
    assert!(matches!(none, Err(Error::NotFound(ResourceKind::Model, _))));
}

#[tokio::test]
async fn resolve_says_what_is_missing() {
    let (bed, _) = Bed::with_model().await;
    let missing = async |tenant: &str, provider: &str, model: &str| match bed
        .catalog
        .resolve(tenant, provider, ModelType::Llm, model)
        .await
    {
        Err(Error::NotFound(thing, _)) => thing,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing("nobody", "openai", "gpt").await, ResourceKind::Tenant);
    assert_eq!(missing("acme", "nobody", "gpt").await, ResourceKind::Provider);
    assert_eq!(missing("acme", "openai", "none").await, ResourceKind::Model);
    assert_eq!(violated(bed.catalog.resolve("acme", "openai", ModelType::Llm, "").await), ["model"]);
}

#[tokio::test]
async fn the_file_is_the_owners_alone_and_the_master_key_must_be_right() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::new().await;
    bed.writer().create_tenant("acme", "").await.unwrap();
    for entry in std::fs::read_dir(bed.dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    assert!(matches!(open(&bed.dir, OTHER_MASTER).await, Err(OpenError::WrongMasterKey)));
    let ring = format!("2:{OTHER_MASTER},1:{MASTER}");
    assert!(open(&bed.dir, &ring).await.is_ok());
}
