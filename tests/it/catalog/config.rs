//! Providers and credentials, through the API, on both databases.

use rota::{
    api::pb::{
        ActivateCredentialRequest, CreateProviderRequest, Credential, DeleteCredentialRequest,
        DeleteModelRequest, DeleteProviderRequest, GetCredentialRequest, GetProviderRequest,
        ListCredentialsRequest, ListModelsRequest, ListProvidersRequest, ModelKey, Provider,
        SetDefaultModelRequest, UpdateCredentialRequest, UpdateProviderRequest,
    },
    scripted::Upstream,
};
use tonic::Code;

use crate::support::{
    listing::{api_key_field, link},
    refusal::{invalid_fields, refused},
    rota::{Rota, on_both_databases},
    world::{Scene, config},
};

on_both_databases!(
    providers_are_created_changed_and_deleted,
    providers_are_paged_by_name,
    the_long_dify_name_is_the_short_one,
    credentials_are_created_changed_and_deleted,
    credentials_are_listed_by_owner_and_paged,
    secrets_come_back_masked,
    a_masked_secret_keeps_its_value,
);

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() })
}

/// A provider of the kind that needs a key, at an address where nothing is.
pub fn openai(scene: &Scene, name: &str) -> Provider {
    Provider {
        tenant_id: scene.tenant.clone(),
        name: name.to_owned(),
        kind: "openai".to_owned(),
        base_url: "http://127.0.0.1:9/v1".to_owned(),
        ..Provider::default()
    }
}

pub async fn create(scene: &Scene, provider: Provider) -> Result<Provider, tonic::Status> {
    let request = CreateProviderRequest { provider: Some(provider) };
    let answer = scene.clients.config.clone().create_provider(request).await?.into_inner();
    Ok(answer.provider.expect("CreateProvider returns the provider"))
}

pub async fn update(
    scene: &Scene,
    provider: Provider,
    update_mask: Option<prost_types::FieldMask>,
) -> Result<Provider, tonic::Status> {
    let request = UpdateProviderRequest { provider: Some(provider), update_mask };
    let answer = scene.clients.config.clone().update_provider(request).await?.into_inner();
    Ok(answer.provider.expect("UpdateProvider returns the provider"))
}

async fn providers_are_created_changed_and_deleted(rota: &'static Rota) {
    let scene = Scene::tenant(rota).await;
    let mut client = scene.clients.config.clone();
    let named = |revision| Provider {
        tenant_id: scene.tenant.clone(),
        name: "acme".to_owned(),
        revision,
        ..Provider::default()
    };
    // The tenant may be left out with a tenant's token.
    let sent =
        Provider { display_name: "First".to_owned(), tenant_id: String::new(), ..openai(&scene, "acme") };
    let created = create(&scene, sent).await.unwrap();
    let expected = Provider {
        display_name: "First".to_owned(),
        enabled: Some(true),
        revision: 1,
        ..openai(&scene, "acme")
    };
    assert_eq!(created, expected);
    let get = GetProviderRequest { tenant_id: String::new(), provider: "acme".to_owned() };
    assert_eq!(client.get_provider(get.clone()).await.unwrap().into_inner().provider.unwrap(), created);
    let again = refused(create(&scene, openai(&scene, "acme")).await, Code::AlreadyExists, "ALREADY_EXISTS");
    assert_eq!(again.resource, Some(("provider".to_owned(), "acme".to_owned())));

    // Without a mask: what is present. With one: what it names, empty or not.
    let change = Provider { display_name: "Second".to_owned(), ..named(1) };
    let second = update(&scene, change, None).await.unwrap();
    assert_eq!(second, Provider { display_name: "Second".to_owned(), revision: 2, ..expected.clone() });
    let change = Provider { base_url: "http://127.0.0.1:8/v1".to_owned(), enabled: Some(false), ..named(0) };
    let third = update(&scene, change, mask(&["display_name", "enabled"])).await.unwrap();
    let cleared =
        Provider { display_name: String::new(), enabled: Some(false), revision: 3, ..expected.clone() };
    assert_eq!(third, cleared);

    let change = Provider { display_name: "Late".to_owned(), ..named(2) };
    refused(update(&scene, change, None).await, Code::Aborted, "STALE_REVISION");
    let elsewhere = Provider { name: "elsewhere".to_owned(), ..named(0) };
    let missing = refused(update(&scene, elsewhere, None).await, Code::NotFound, "PROVIDER_NOT_FOUND");
    assert_eq!(missing.resource, Some(("provider".to_owned(), "elsewhere".to_owned())));
    assert_eq!(client.get_provider(get.clone()).await.unwrap().into_inner().provider.unwrap(), third);

    // Models keep it; credentials go with it.
    let key = ModelKey { provider: "acme".to_owned(), ..scene.key.clone() };
    scene.put_model(&key).await;
    let credential =
        Credential { provider: "acme".to_owned(), name: "one".to_owned(), ..Credential::default() };
    scene.store(Credential { fields: api_key_field("k"), ..credential }).await.unwrap();
    let delete = DeleteProviderRequest { tenant_id: String::new(), provider: "acme".to_owned() };
    let in_use = refused(client.delete_provider(delete.clone()).await, Code::FailedPrecondition, "IN_USE");
    assert_eq!(in_use.resource, Some(("provider".to_owned(), "acme".to_owned())));
    client.delete_model(DeleteModelRequest { key: Some(key) }).await.unwrap();
    client.delete_provider(delete.clone()).await.unwrap();
    refused(client.delete_provider(delete).await, Code::NotFound, "PROVIDER_NOT_FOUND");
    refused(client.get_provider(get).await, Code::NotFound, "PROVIDER_NOT_FOUND");
    let left = scene.listing().await;
    assert!(left.providers.is_empty() && left.credentials.is_empty() && left.models.is_empty(), "{left:?}");
}

async fn providers_are_paged_by_name(rota: &'static Rota) {
    let scene = Scene::tenant(rota).await;
    for name in ["d", "a", "e", "c", "b"] {
        create(&scene, openai(&scene, name)).await.unwrap();
    }
    let pages = async |page_size| {
        let (mut pages, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListProvidersRequest { page_size, page_token, ..Default::default() };
            let page = scene.clients.config.clone().list_providers(request).await.unwrap().into_inner();
            pages.push(page.providers.into_iter().map(|provider| provider.name).collect::<String>());
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return pages;
            }
        }
    };
    assert_eq!(pages(2).await, ["ab", "cd", "e"]);
    assert_eq!(pages(5).await, ["abcde"]);
    assert_eq!(pages(0).await, ["abcde"]);
    assert_eq!(pages(i32::MAX).await, ["abcde"]);
}

async fn the_long_dify_name_is_the_short_one(rota: &'static Rota) {
    const LONG: &str = "langgenius/openai/openai";
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::tenant(rota).await;
    let mut client = scene.clients.config.clone();
    let created = create(&scene, Provider { base_url: upstream.base_url(), ..openai(&scene, LONG) }).await;
    assert_eq!(created.unwrap().name, "openai");
    refused(create(&scene, openai(&scene, "openai")).await, Code::AlreadyExists, "ALREADY_EXISTS");

    let key = ModelKey { provider: LONG.to_owned(), ..scene.key.clone() };
    let short = Some(ModelKey { provider: "openai".to_owned(), ..key.clone() });
    assert_eq!(scene.put_model(&key).await.key, short);
    let scene = Scene { provider: LONG.to_owned(), key: key.clone(), ..scene };
    let credential = scene.create_credential("one", "key-one").await;
    assert_eq!(credential.provider, "openai");

    let tenant_id = scene.tenant.clone();
    let get = GetProviderRequest { tenant_id: tenant_id.clone(), provider: LONG.to_owned() };
    let provider = client.get_provider(get).await.unwrap().into_inner().provider.unwrap();
    assert_eq!((provider.name.as_str(), provider.active_credential_id), ("openai", credential.id.clone()));
    let renamed = Provider { name: LONG.to_owned(), display_name: "Long".to_owned(), ..Provider::default() };
    assert_eq!(update(&scene, renamed, None).await.unwrap().name, "openai");
    let list =
        ListModelsRequest { tenant_id: tenant_id.clone(), provider: LONG.to_owned(), ..Default::default() };
    assert_eq!(client.list_models(list).await.unwrap().into_inner().models[0].key, short);
    let list = ListCredentialsRequest { provider: LONG.to_owned(), ..Default::default() };
    assert_eq!(client.list_credentials(list).await.unwrap().into_inner().credentials[0].id, credential.id);
    let get = GetCredentialRequest {
        tenant_id: tenant_id.clone(),
        provider: LONG.to_owned(),
        id: credential.id.clone(),
    };
    assert_eq!(client.get_credential(get).await.unwrap().into_inner().credential, Some(credential.clone()));
    let default = client.set_default_model(SetDefaultModelRequest { key: Some(key) }).await.unwrap();
    assert_eq!(default.into_inner().key, short);
    let saved = scene.save(vec![link(&credential), config("own", "key-own")]).await.unwrap();
    assert_eq!(saved.configs.len(), 2);
    assert_eq!(scene.ask().await.unwrap().route.unwrap().provider, "openai");

    let delete = DeleteCredentialRequest { tenant_id, provider: LONG.to_owned(), id: credential.id };
    client.delete_credential(delete).await.unwrap();
    // Only this one spelling is another's name.
    for other in ["langgenius/openai/other", "langgenius/openai", "other/openai/openai"] {
        assert_eq!(invalid_fields(create(&scene, openai(&scene, other)).await), ["provider.name"], "{other}");
    }
}

async fn credentials_are_created_changed_and_deleted(rota: &'static Rota) {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model("http://127.0.0.1:9/v1").await;
    let mut client = scene.clients.config.clone();
    let first = scene.create_credential("first", "short").await;
    let expected = Credential {
        id: first.id.clone(),
        tenant_id: scene.tenant.clone(),
        provider: scene.provider.clone(),
        name: "first".to_owned(),
        fields: api_key_field("********************"),
        active: true,
        revision: 1,
        ..Credential::default()
    };
    assert_eq!(first, expected);
    let second = scene.create_credential("second", "other").await;
    assert!(!second.active, "only the first becomes active by itself");
    let get = |id: &str| GetCredentialRequest {
        tenant_id: scene.tenant.clone(),
        provider: scene.provider.clone(),
        id: id.to_owned(),
    };
    let read = async |id: &str| {
        let answer = scene.clients.config.clone().get_credential(get(id)).await;
        answer.unwrap().into_inner().credential.unwrap()
    };
    assert_eq!(read(&first.id).await, first);

    // A name is unique among the provider's, and among one model's.
    let twin = Credential { id: String::new(), active: false, revision: 0, ..second.clone() };
    let taken = scene.store(Credential { fields: api_key_field("k"), ..twin.clone() }).await;
    assert_eq!(refused(taken, Code::AlreadyExists, "ALREADY_EXISTS").resource.unwrap().0, "credential");
    let of_model = scene.create_model_credential("second", "model's").await;
    assert!(of_model.active, "the model's first");
    assert_eq!((of_model.model_type, of_model.model.as_str()), (scene.key.model_type, "chat"));

    let change = async |credential: Credential, update_mask| {
        let request = UpdateCredentialRequest { credential: Some(credential), update_mask };
        let answer = scene.clients.config.clone().update_credential(request).await;
        answer.map(|answer| answer.into_inner().credential.unwrap())
    };
    let renamed = change(Credential { name: "renamed".to_owned(), ..second.clone() }, mask(&["name"])).await;
    assert_eq!(renamed.unwrap(), Credential { name: "renamed".to_owned(), revision: 2, ..second.clone() });
    let stale = change(Credential { name: "late".to_owned(), ..second.clone() }, None).await;
    refused(stale, Code::Aborted, "STALE_REVISION");
    let taken = Credential { name: "first".to_owned(), revision: 0, ..second.clone() };
    refused(change(taken, mask(&["name"])).await, Code::AlreadyExists, "ALREADY_EXISTS");
    let unnamed = Credential { name: String::new(), revision: 0, ..second.clone() };
    assert_eq!(invalid_fields(change(unnamed, mask(&["name"])).await), ["credential.name"]);
    assert_eq!(read(&second.id).await.name, "renamed");

    let activate = ActivateCredentialRequest {
        tenant_id: scene.tenant.clone(),
        provider: scene.provider.clone(),
        id: second.id.clone(),
    };
    let active = client.activate_credential(activate).await.unwrap().into_inner().credential.unwrap();
    assert!(active.active && !read(&first.id).await.active, "one is active");
    let provider = scene.listing().await.providers.remove(0);
    assert_eq!(provider.active_credential_id, second.id);

    let delete = |id: &str| DeleteCredentialRequest {
        tenant_id: scene.tenant.clone(),
        provider: scene.provider.clone(),
        id: id.to_owned(),
    };
    client.delete_credential(delete(&second.id)).await.unwrap();
    let missing =
        refused(client.get_credential(get(&second.id)).await, Code::NotFound, "CREDENTIAL_NOT_FOUND");
    assert_eq!(missing.resource, Some(("credential".to_owned(), second.id.clone())));
    refused(client.delete_credential(delete(&second.id)).await, Code::NotFound, "CREDENTIAL_NOT_FOUND");
    assert!(read(&first.id).await.active, "the next one takes its place");
}

async fn credentials_are_listed_by_owner_and_paged(rota: &'static Rota) {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model("http://127.0.0.1:9/v1").await;
    create(&scene, openai(&scene, "other")).await.unwrap();
    for name in ["1", "2", "3"] {
        scene.create_credential(name, "k").await;
    }
    scene.create_model_credential("4", "k").await;
    let other = Credential { provider: "other".to_owned(), name: "5".to_owned(), ..Credential::default() };
    scene.store(Credential { fields: api_key_field("k"), ..other }).await.unwrap();

    let list = async |request: ListCredentialsRequest| {
        let page = scene.clients.config.clone().list_credentials(request).await.unwrap().into_inner();
        let names: String = page.credentials.iter().map(|credential| credential.name.as_str()).collect();
        (names, page.next_page_token)
    };
    let all = ListCredentialsRequest::default;
    assert_eq!(list(all()).await, ("12345".to_owned(), String::new()));
    let of = |provider: &str| ListCredentialsRequest { provider: provider.to_owned(), ..all() };
    assert_eq!(list(of("other")).await.0, "5");
    assert_eq!(list(of(&scene.provider)).await.0, "1234");
    let of_model = ListCredentialsRequest {
        model_type: scene.key.model_type,
        model: "chat".to_owned(),
        ..of(&scene.provider)
    };
    assert_eq!(list(of_model).await.0, "4");
    let (first, page_token) = list(ListCredentialsRequest { page_size: 3, ..all() }).await;
    let rest = list(ListCredentialsRequest { page_size: 3, page_token, ..all() }).await;
    assert_eq!((first.as_str(), rest), ("123", ("45".to_owned(), String::new())));
}

async fn secrets_come_back_masked(rota: &'static Rota) {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model("http://127.0.0.1:9/v1").await;
    let table = [
        ("sk-proj-abcdefghijklmnopqrstuvwxyz", Some("sk-pro************yz")),
        ("12345678901234567890", Some("123456************90")),
        ("1234567890123456789", Some("********************")),
        ("x", Some("********************")),
        ("", None),
    ];
    for (index, (key, masked)) in table.into_iter().enumerate() {
        let credential = scene.create_credential(&format!("credential {index}"), key).await;
        let shown = credential.fields.get("api_key").map(String::as_str).filter(|shown| !shown.is_empty());
        assert_eq!(shown, masked, "{key}");
    }
    let plain =
        Credential { provider: scene.provider.clone(), name: "plain".to_owned(), ..Default::default() };
    let fields = [("organization".to_owned(), "org-1234567890123456".to_owned())].into();
    let plain = scene.store(Credential { fields, ..plain }).await.unwrap();
    assert_eq!(plain.fields["organization"], "org-1234567890123456", "no secret");
    let saved = scene.save(vec![config("own", "sk-proj-abcdefghijklmnopqrstuvwxyz")]).await.unwrap();
    assert_eq!(saved.configs[0].credentials["api_key"], "sk-pro************yz");
    let listing = scene.listing().await;
    let shown: Vec<_> = listing.credentials.iter().filter_map(|one| one.fields.get("api_key")).collect();
    assert!(shown.iter().all(|shown| shown.is_empty() || shown.contains("************")), "{shown:?}");
}

async fn a_masked_secret_keeps_its_value(rota: &'static Rota) {
    const KEY: &str = "sk-kept-0123456789-0123456789-kept";
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    let mut stored = scene.create_credential("one", KEY).await;
    let served_with = async || {
        scene.ask().await.unwrap();
        let last = upstream.requests().pop().unwrap();
        let organization = last.headers.get("openai-organization");
        (last.key, organization.map(|value| value.to_str().unwrap().to_owned()))
    };
    assert_eq!(served_with().await, (KEY.to_owned(), None));
    let organization = ("organization".to_owned(), "org-1".to_owned());
    for kept in [Some("[__HIDDEN__]"), Some("sk-kep************pt"), None] {
        let mut fields = std::collections::HashMap::from([organization.clone()]);
        fields.extend(kept.map(|kept| ("api_key".to_owned(), kept.to_owned())));
        let credential = Credential { fields, ..stored.clone() };
        let request =
            UpdateCredentialRequest { credential: Some(credential), update_mask: mask(&["fields"]) };
        let answer = scene.clients.config.clone().update_credential(request).await.unwrap();
        stored = answer.into_inner().credential.unwrap();
        assert_eq!(stored.fields["api_key"], "sk-kep************pt", "{kept:?}");
        assert_eq!(served_with().await, (KEY.to_owned(), Some("org-1".to_owned())), "{kept:?}");
    }
    // Any other mask is nobody's value.
    let wrong = Credential { fields: api_key_field("sk-oth************er"), ..stored.clone() };
    let request = UpdateCredentialRequest { credential: Some(wrong), update_mask: None };
    let answer = scene.clients.config.clone().update_credential(request).await;
    assert_eq!(invalid_fields(answer), ["credential.fields.api_key"]);
    let fresh = Credential { fields: api_key_field("sk-new"), ..stored };
    let request = UpdateCredentialRequest { credential: Some(fresh), update_mask: None };
    scene.clients.config.clone().update_credential(request).await.unwrap();
    // A plain field left out is gone.
    assert_eq!(served_with().await, ("sk-new".to_owned(), None));
}
