//! Audit events: who changed what, without secrets, also when the tenant is gone.

use std::collections::{BTreeSet, HashMap};

use rota::{
    api::pb::{
        AcquireRequest, ActivateCredentialRequest, AuditEvent, BalancingPolicy, ClearCooldownRequest,
        CreateProviderRequest, CreateTokenRequest, Credential, DeleteCredentialRequest,
        DeleteModelAliasRequest, DeleteModelRequest, DeleteProviderRequest, DeleteTenantRequest,
        DisableModelLoadBalancingRequest, DisableModelRequest, EnableModelRequest, ListAuditEventsRequest,
        Model, ModelAlias, ModelKey, Provider, PutModelAliasRequest, PutModelRequest, RevokeTokenRequest,
        Role, RotateTenantKeyRequest, SetCooldownRequest, SetDefaultModelRequest, Token,
        UpdateBalancingPolicyRequest, UpdateCredentialRequest, UpdateLoadBalancingConfigsRequest,
        UpdateProviderRequest, ValidateCredentialRequest, ValidateLoadBalancingCredentialsRequest,
    },
    scripted::Upstream,
};
use tonic::Code;

use crate::support::{
    listing::api_key_field,
    postgres::Postgres,
    raw::rpcs,
    refusal::refused,
    rota::{Clients, Rota},
    world::{Scene, config, create_token},
};

async fn events(operator: &Clients, tenant: &str) -> Vec<AuditEvent> {
    let request =
        ListAuditEventsRequest { tenant_id: tenant.to_owned(), page_size: 1000, ..Default::default() };
    operator.admin.clone().list_audit_events(request).await.unwrap().into_inner().events
}

/// Makes every change there is, once at least.
async fn everything(rota: &Rota, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(&upstream.base_url()).await;
    scene.add_credential("first", "sk-audit-first-secret-0000001").await;
    let second = scene.add_credential("second", "sk-audit-second-secret-000002").await;
    scene.add_configs(2).await;
    scene.enable().await;
    scene.change_configs(|configs| configs[1].weight = Some(5)).await;
    let provider = scene.provider.clone();
    let key = || Some(scene.key.clone());
    let mut client = scene.clients.config.clone();
    let change = Provider { name: provider.clone(), display_name: "Renamed".into(), ..Provider::default() };
    let request = UpdateProviderRequest { provider: Some(change), update_mask: None };
    client.update_provider(request).await.unwrap();
    let change = Credential {
        id: second.clone(),
        provider: provider.clone(),
        fields: api_key_field("sk-audit-changed-secret-00003"),
        ..Credential::default()
    };
    let request = UpdateCredentialRequest { credential: Some(change), ..Default::default() };
    client.update_credential(request).await.unwrap();
    let named = |id: &str| (provider.clone(), id.to_owned());
    // Both send a stored secret out.
    let (owner, id) = named(&second);
    let request = ValidateCredentialRequest { provider: owner, id, ..Default::default() };
    client.validate_credential(request).await.unwrap();
    let config_id = scene.configs[0].id.clone();
    let request = ValidateLoadBalancingCredentialsRequest { key: key(), config_id, ..Default::default() };
    client.validate_load_balancing_credentials(request).await.unwrap();
    let (owner, id) = named(&second);
    let request = ActivateCredentialRequest { provider: owner, id, ..Default::default() };
    client.activate_credential(request).await.unwrap();
    let (owner, id) = named(&second);
    let request = DeleteCredentialRequest { provider: owner, id, ..Default::default() };
    client.delete_credential(request).await.unwrap();
    let policy = BalancingPolicy { max_attempts: 3, ..BalancingPolicy::default() };
    let request = UpdateBalancingPolicyRequest { key: key(), policy: Some(policy), ..Default::default() };
    client.update_balancing_policy(request).await.unwrap();
    let config_id = scene.configs[0].id.clone();
    let duration = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request = SetCooldownRequest { key: key(), config_id: config_id.clone(), duration, reason: 0 };
    client.set_cooldown(request).await.unwrap();
    client.clear_cooldown(ClearCooldownRequest { key: key(), config_id }).await.unwrap();
    client.disable_model(DisableModelRequest { key: key() }).await.unwrap();
    client.enable_model(EnableModelRequest { key: key() }).await.unwrap();
    let request = DisableModelLoadBalancingRequest { key: key() };
    client.disable_model_load_balancing(request).await.unwrap();
    client.set_default_model(SetDefaultModelRequest { key: key() }).await.unwrap();
    let other = Some(ModelKey { model: "other".into(), ..scene.key.clone() });
    let model = Model { key: other.clone(), ..Model::default() };
    client.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    let alias = ModelAlias { name: "fast".into(), target: other.clone(), ..ModelAlias::default() };
    client.put_model_alias(PutModelAliasRequest { alias: Some(alias) }).await.unwrap();
    let request = DeleteModelAliasRequest { name: "fast".into(), ..Default::default() };
    client.delete_model_alias(request).await.unwrap();
    client.delete_model(DeleteModelRequest { key: other }).await.unwrap();
    let short = Provider {
        name: "short".into(),
        kind: "openai_compatible".into(),
        base_url: upstream.base_url(),
        ..Provider::default()
    };
    let request = CreateProviderRequest { provider: Some(short) };
    client.create_provider(request).await.unwrap();
    let request = DeleteProviderRequest { provider: "short".into(), ..Default::default() };
    client.delete_provider(request).await.unwrap();
    let mut operator = rota.operator().await;
    let request = RotateTenantKeyRequest { tenant_id: scene.tenant.clone() };
    operator.admin.rotate_tenant_key(request).await.unwrap();
    let token = Token { tenant_id: scene.tenant.clone(), role: Role::Viewer.into(), ..Token::default() };
    let made = operator.admin.create_token(CreateTokenRequest { token: Some(token) }).await.unwrap();
    let id = made.into_inner().token.unwrap().id;
    operator.admin.revoke_token(RevokeTokenRequest { id }).await.unwrap();
    let request = DeleteTenantRequest { tenant_id: scene.tenant.clone() };
    operator.admin.delete_tenant(request).await.unwrap();
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_on_sqlite() {
    every_change_is_told(Rota::shared().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_on_postgres() {
    every_change_is_told(Rota::on_postgres().await).await;
}

async fn every_change_is_told(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = everything(rota, &upstream).await;
    // The tenant is gone; what was done to it is not.
    let events = events(&rota.operator().await, &scene.tenant).await;
    let told: BTreeSet<_> = events.iter().map(|event| event.action.clone()).collect();
    let reads = ["Get", "List", "Watch"];
    let changes = rpcs().into_iter().filter_map(|(rpc, _)| {
        let (service, method) = rpc.split_once('/').unwrap();
        let changes = service != "InvokeService" && !reads.iter().any(|verb| method.starts_with(verb));
        changes.then(|| method.to_owned())
    });
    assert_eq!(told, changes.collect());

    let operators = ["CreateTenant", "DeleteTenant", "CreateToken", "RevokeToken", "RotateTenantKey"];
    for event in &events {
        let role = if operators.contains(&event.action.as_str()) { "operator" } else { "tenant_admin" };
        let actor = event.actor.as_ref().unwrap();
        assert_eq!(actor.role, role, "{event:?}");
        assert!(!actor.token_id.is_empty() && !event.resource.is_empty(), "{event:?}");
        let created = event.action.starts_with("Create");
        assert!(!created || (event.before.is_none() && event.after.is_some()), "{event:?}");
        let deleted = event.action.starts_with("Delete");
        assert!(!deleted || (event.before.is_some() && event.after.is_none()), "{event:?}");
    }
    assert!(events.windows(2).all(|pair| pair[0].id > pair[1].id), "newest first");
    let all = format!("{events:?}");
    assert!(all.contains("[secret]"));
    for secret in scene.keys.iter().map(String::as_str).chain(["sk-audit", "sk-aud", "sealed"]) {
        assert!(!all.contains(secret), "{secret}");
    }
    // What went with the tenant is told as well.
    let deleted = events.iter().find(|event| event.action == "DeleteTenant").unwrap();
    let with = format!("{:?}", deleted.before.as_ref().unwrap().fields["with"]);
    for gone in ["providers", "upstream", "credentials", "first", "models", "chat", "configs", "tokens"] {
        assert!(with.contains(gone), "{gone}: {with}");
    }
    let weight = |value: &Option<prost_types::Struct>| {
        format!("{value:?}").contains(r#""weight": Value { kind: Some(NumberValue(5.0))"#)
    };
    let edited = events.iter().find(|event| weight(&event.after)).unwrap();
    assert!(edited.action == "UpdateLoadBalancingConfigs" && !weight(&edited.before));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_no_event_and_pages_and_filters_hold() {
    let rota = Rota::shared().await;
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    let operator = rota.operator().await;
    let before = events(&operator, &scene.tenant).await;
    let bad = UpdateLoadBalancingConfigsRequest {
        key: Some(scene.key.clone()),
        revision: 999,
        configs: vec![config("a", "key-a")],
        ..Default::default()
    };
    let stale = scene.clients.config.update_load_balancing_configs(bad).await;
    refused(stale, Code::Aborted, "STALE_REVISION");
    assert_eq!(events(&operator, &scene.tenant).await, before);

    let mut paged = Vec::new();
    let mut page_token = String::new();
    loop {
        let tenant_id = scene.tenant.clone();
        let request = ListAuditEventsRequest { tenant_id, page_size: 2, page_token, ..Default::default() };
        let page = operator.admin.clone().list_audit_events(request).await.unwrap().into_inner();
        assert!(page.events.len() <= 2);
        paged.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, before);
    let request = ListAuditEventsRequest {
        tenant_id: scene.tenant.clone(),
        action: "PutModel".into(),
        ..Default::default()
    };
    let models = operator.admin.clone().list_audit_events(request).await.unwrap().into_inner().events;
    assert_eq!(models.len(), 1);
    assert_eq!(models[0].resource, "model upstream/chat (llm)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_secret_is_tried_on_record_and_a_new_one_is_nobodys() {
    let rota = Rota::shared().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let operator = rota.operator().await;
    let validate = async |config_id: &str| {
        let request = ValidateLoadBalancingCredentialsRequest {
            key: Some(scene.key.clone()),
            config_id: config_id.to_owned(),
            credentials: if config_id.is_empty() { api_key_field("sk-new-0001") } else { HashMap::new() },
            ..Default::default()
        };
        scene.clients.config.clone().validate_load_balancing_credentials(request).await.unwrap();
    };
    validate("").await;
    let tried = async || {
        let mut events = events(&operator, &scene.tenant).await;
        events.retain(|event| event.action == "ValidateLoadBalancingCredentials");
        events
    };
    assert_eq!(tried().await, []);
    for _ in 0..20 {
        validate(&scene.configs[0].id).await;
    }
    let told = tried().await;
    // One for each minute that it took.
    assert!((1..=2).contains(&told.len()), "{told:?}");
    assert!(told[0].resource.contains(&scene.configs[0].id) && told[0].resource.contains("upstream/chat"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_handed_out_on_record_or_not_at_all() {
    let mut postgres = Postgres::start().await;
    let rota = Rota::builder().database(postgres.fresh_database()).start().await;
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(&rota, &upstream, 2).await;
    let mut operator = rota.operator().await;
    let token = Token {
        tenant_id: scene.tenant.clone(),
        role: Role::Invoker.into(),
        name: "reader".into(),
        may_read_credentials: true,
        ..Token::default()
    };
    let made = operator.admin.create_token(CreateTokenRequest { token: Some(token) }).await.unwrap();
    scene.clients = rota.clients(&made.into_inner().secret).await;
    let acquire = async |exclude: &[&str]| {
        let request = AcquireRequest {
            key: Some(scene.key.clone()),
            exclude_config_ids: exclude.iter().map(ToString::to_string).collect(),
            ..AcquireRequest::default()
        };
        scene.clients.invoke.clone().acquire(request).await.map(tonic::Response::into_inner)
    };
    let lease = acquire(&[]).await.unwrap();
    assert!(!lease.credentials.is_empty());
    let told = events(&operator, &scene.tenant).await;
    assert_eq!(
        (told[0].action.as_str(), told[0].actor.as_ref().unwrap().name.as_str()),
        ("Acquire", "reader")
    );
    assert!(told[0].resource.contains(&lease.config_id), "{}", told[0].resource);
    // Without `may_read_credentials` nothing is read.
    let plain = create_token(&mut operator, &scene.tenant, Role::Invoker).await;
    let plain = Scene { clients: rota.clients(&plain).await, ..scene.clone() };
    let request = AcquireRequest { key: Some(plain.key.clone()), ..AcquireRequest::default() };
    plain.clients.invoke.clone().acquire(request.clone()).await.unwrap();
    let reads = events(&operator, &scene.tenant).await;
    assert_eq!(reads.iter().filter(|event| event.action == "Acquire").count(), 1);

    postgres.crash();
    // Reads of the other credential are on no record yet.
    let other = acquire(&[&lease.config_id]).await;
    refused(other, Code::Unavailable, "DATABASE_UNAVAILABLE");
    plain.clients.invoke.clone().acquire(request).await.expect("no credential, no record");
}
