//! Credentials: masks, what is active, and that a secret stays where it was put.

use std::collections::BTreeMap;

use rota::{
    catalog::{
        CredentialChange, Error, HIDDEN, ModelKey, NewProvider, PageRequest, ProviderChange, ResourceKind,
    },
    provider::ModelType,
};
use uuid::Uuid;

use super::{Bed, KEY, OTHER_KEY, api_key, inline, new_credential, new_model, violated};

#[tokio::test]
async fn a_secret_is_masked_and_a_mask_keeps_it() {
    let (bed, key) = Bed::with_model().await;
    let made = bed.credential("openai", "one", KEY).await;
    assert_eq!(made.fields["api_key"], "sk-pro************11");
    assert!(made.active);
    assert!(!bed.stored_fields("credentials", made.id).await.contains("sk-proj"));
    let id = made.id.to_string();
    let update = async |fields: BTreeMap<String, String>| {
        let change = CredentialChange { fields: Some(fields), ..CredentialChange::default() };
        bed.writer().update_credential("acme", "openai", &id, change).await
    };
    for kept in [BTreeMap::new(), api_key(HIDDEN), api_key("sk-pro************11")] {
        update(kept).await.unwrap();
        assert_eq!(bed.serving(&key), [KEY]);
    }
    let mut with_organization = api_key(HIDDEN);
    with_organization.insert("organization".to_owned(), "org-1".to_owned());
    assert_eq!(update(with_organization).await.unwrap().fields["organization"], "org-1");
    assert_eq!(update(api_key(OTHER_KEY)).await.unwrap().revision, 6);
    assert_eq!(bed.serving(&key), [OTHER_KEY]);
    // The mask of the old value is not the mask of this one.
    assert_eq!(violated(update(api_key("sk-pro************11")).await), ["fields.api_key"]);
    assert_eq!(violated(update(api_key("")).await), ["fields.api_key"]);
    assert_eq!(bed.serving(&key), [OTHER_KEY]);
}

#[tokio::test]
async fn new_fields_are_checked() {
    let (bed, _) = Bed::with_model().await;
    let huge = "k".repeat(200_000);
    for bad in ["", HIDDEN, "line\nbreak", &huge] {
        let new = new_credential("openai", None, "one", bad);
        let result = bed.writer().create_credential("acme", new).await;
        assert!(result.as_ref().unwrap_err().to_string().len() < 300);
        assert_eq!(violated(result), ["fields.api_key"], "{bad:.20}");
    }
    let mut new = new_credential("openai", None, "", KEY);
    new.fields.insert("password".to_owned(), KEY.to_owned());
    let result = bed.writer().create_credential("acme", new).await;
    assert!(!format!("{result:?}").contains(KEY));
    assert_eq!(violated(result), ["name", "fields.password"]);
    let mut missing = new_credential("openai", None, "one", KEY);
    missing.fields.clear();
    let error = bed.writer().create_credential("acme", missing).await.unwrap_err();
    assert_eq!(error.to_string(), "fields.api_key: Variable api_key is required");
}

#[tokio::test]
async fn the_first_is_active_and_the_oldest_takes_over() {
    let (bed, key) = Bed::with_model().await;
    let one = bed.credential("openai", "one", KEY).await;
    let two = bed.credential("openai", "two", OTHER_KEY).await;
    let three = bed.credential("openai", "three", "sk-3").await;
    assert_eq!([one.active, two.active, three.active], [true, false, false]);
    let again = new_credential("openai", None, "one", KEY);
    let again = bed.writer().create_credential("acme", again).await;
    assert!(matches!(again, Err(Error::AlreadyExists(ResourceKind::Credential, _))));

    let id = three.id.to_string();
    assert!(bed.writer().activate_credential("acme", "openai", &id).await.unwrap().active);
    assert_eq!(bed.serving(&key), ["sk-3"]);
    let provider = bed.catalog.get_provider("acme", "openai").await.unwrap();
    assert_eq!(provider.active_credential, Some(three.id));
    bed.writer().delete_credential("acme", "openai", &id).await.unwrap();
    assert_eq!(bed.serving(&key), [KEY]);
    bed.writer().delete_credential("acme", "openai", &one.id.to_string()).await.unwrap();
    bed.writer().delete_credential("acme", "openai", &two.id.to_string()).await.unwrap();
    assert!(bed.serving(&key).is_empty());
}

#[tokio::test]
async fn a_models_own_credential_goes_before_the_providers() {
    let (bed, key) = Bed::with_model().await;
    let other = bed.model("openai", "other").await;
    bed.credential("openai", "one", KEY).await;
    // It may be there before its model.
    let early = new_credential("openai", Some("late"), "own", "sk-late");
    bed.writer().create_credential("acme", early).await.unwrap();
    let late = bed.model("openai", "late").await;
    let own = new_credential("openai", Some("gpt"), "own", OTHER_KEY);
    bed.writer().create_credential("acme", own).await.unwrap();
    assert_eq!(bed.serving(&key), [OTHER_KEY]);
    assert_eq!(bed.serving(&other), [KEY]);
    assert_eq!(bed.serving(&late), ["sk-late"]);

    let page = PageRequest::default();
    let of_model = Some((ModelType::Llm, "gpt".to_owned()));
    let listed =
        bed.catalog.list_credentials("acme", "openai", of_model.clone(), page.clone()).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    bed.writer().delete_model(&key).await.unwrap();
    let listed = bed.catalog.list_credentials("acme", "openai", of_model, page).await.unwrap();
    assert!(listed.items.is_empty(), "its credentials go with it");
}

#[tokio::test]
async fn a_sealed_value_opens_nowhere_else() {
    let (bed, key) = Bed::with_model().await;
    bed.writer().create_tenant("beta", "").await.unwrap();
    let provider =
        NewProvider { name: "openai".to_owned(), kind: "openai".to_owned(), ..NewProvider::default() };
    bed.writer().create_provider("beta", provider).await.unwrap();
    let beta = ModelKey { tenant: "beta".to_owned(), ..key.clone() };
    bed.writer().put_model(new_model(&beta)).await.unwrap();
    let one = bed.credential("openai", "one", KEY).await;
    let new = new_credential("openai", None, "one", OTHER_KEY);
    let theirs = bed.writer().create_credential("beta", new).await.unwrap();

    let sealed = bed.stored_fields("credentials", one.id).await;
    let put = async |id: Uuid, fields: String| {
        bed.store_fields("credentials", id, &fields).await;
        bed.catalog.load().await.unwrap();
    };
    // Another tenant's row.
    put(theirs.id, sealed.clone()).await;
    assert!(bed.serving(&beta).is_empty());
    assert!(bed.catalog.pool(&beta).unwrap().unreadable);
    // Another field of the same row.
    put(one.id, sealed.replace("api_key", "organization")).await;
    assert!(bed.catalog.pool(&key).unwrap().unreadable);
    // Where it belongs.
    put(one.id, sealed).await;
    assert_eq!(bed.serving(&key), [KEY]);
    assert!(!bed.catalog.pool(&key).unwrap().unreadable);
}

#[tokio::test]
async fn a_provider_with_secrets_stays_where_it_is() {
    let (bed, key) = Bed::with_model().await;
    let change = async |base_url: &str| {
        let change = ProviderChange { base_url: Some(base_url.to_owned()), ..ProviderChange::default() };
        bed.writer().update_provider("acme", "openai", change).await
    };
    change("https://one.example/v1").await.unwrap();
    let one = bed.credential("openai", "one", KEY).await;
    change("https://one.example/v2").await.unwrap();
    for elsewhere in ["https://two.example/v1", "http://one.example/v1", "https://one.example:8443/v1", ""] {
        assert_eq!(violated(change(elsewhere).await), ["base_url"], "{elsewhere}");
    }
    bed.writer().delete_credential("acme", "openai", &one.id.to_string()).await.unwrap();
    bed.save(&key, vec![inline("a", KEY)]).await.unwrap();
    assert_eq!(violated(change("https://two.example/v1").await), ["base_url"]);
    bed.save(&key, vec![]).await.unwrap();
    change("https://two.example/v1").await.unwrap();
}
