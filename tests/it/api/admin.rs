//! Tenants, tokens and roles, through the API, on both databases.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use rota::{
    api::pb::{
        CreateTenantRequest, CreateTokenRequest, DeleteModelRequest, DeleteTenantRequest, GetModelRequest,
        GetTenantRequest, InvokeLlmRequest, Limits, ListModelsRequest, ListProvidersRequest,
        ListTenantsRequest, ListTokensRequest, Model, ModelKey, PutModelRequest, RevokeTokenRequest, Role,
        Tenant, Token, config_service_client::ConfigServiceClient,
    },
    scripted::{Script, Upstream},
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{
    eventually,
    raw::{Raw, rpcs},
    redis::Redis,
    refusal::{invalid_fields, refused},
    rota::{Clients, Rota, on_both_databases},
    world::{Scene, create_token, hi},
};

on_both_databases!(
    tenants_are_created_listed_and_deleted,
    a_deleted_tenant_leaves_nothing,
    each_role_reaches_what_it_is_for,
    a_wrong_token_opens_nothing,
    a_token_ends_when_it_expires_or_is_revoked,
    a_tokens_secret_is_shown_once,
    another_tenants_data_is_not_there,
    health_and_reflection_need_no_token,
);

async fn tenants_are_created_listed_and_deleted(rota: &'static Rota) {
    let mut admin = rota.operator().await.admin;
    let prefix = format!("z{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let mut ids: Vec<_> = (0..5).map(|index| format!("{prefix}.{index}")).collect();
    for id in ids.iter().rev() {
        let tenant = Tenant { id: id.clone(), name: "Größe".to_owned(), created_at: None };
        let created =
            admin.create_tenant(CreateTenantRequest { tenant: Some(tenant.clone()) }).await.unwrap();
        let created = created.into_inner().tenant.unwrap();
        let age = SystemTime::now().duration_since(created.created_at.unwrap().try_into().unwrap());
        assert!(age.unwrap_or_default() < Duration::from_mins(1));
        assert_eq!(Tenant { created_at: None, ..created.clone() }, tenant);
        let get = GetTenantRequest { tenant_id: id.clone() };
        assert_eq!(admin.get_tenant(get).await.unwrap().into_inner().tenant.unwrap(), created);
        let again = admin.create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await;
        let again = refused(again, Code::AlreadyExists, "ALREADY_EXISTS");
        assert_eq!(again.resource, Some(("tenant".to_owned(), id.clone())));
    }
    // Other tests have tenants here as well.
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let page =
            admin.list_tenants(ListTenantsRequest { page_size: 3, page_token }).await.unwrap().into_inner();
        assert!(page.tenants.len() <= 3);
        listed.extend(page.tenants.into_iter().map(|tenant| tenant.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(listed.is_sorted());
    listed.retain(|id| id.starts_with(&prefix));
    assert_eq!(listed, ids);
    let gone = ids.remove(0);
    let delete = DeleteTenantRequest { tenant_id: gone.clone() };
    admin.delete_tenant(delete.clone()).await.unwrap();
    let missing = refused(admin.delete_tenant(delete).await, Code::NotFound, "TENANT_NOT_FOUND");
    assert_eq!(missing.resource, Some(("tenant".to_owned(), gone.clone())));
    let get = GetTenantRequest { tenant_id: gone };
    refused(admin.get_tenant(get).await, Code::NotFound, "TENANT_NOT_FOUND");
}

async fn a_deleted_tenant_leaves_nothing(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    scene.create_credential("one", "key-one").await;
    scene.ask().await.unwrap();
    let mut operator = rota.operator().await;
    let invoker = create_token(&mut operator, &scene.tenant, Role::Invoker).await;
    let invoker = rota.clients(&invoker).await;
    operator.admin.delete_tenant(DeleteTenantRequest { tenant_id: scene.tenant.clone() }).await.unwrap();

    // Its tokens, known to this replica or not, are dead at once.
    refused(scene.ask().await, Code::Unauthenticated, "TOKEN_INVALID");
    let call = InvokeLlmRequest { key: Some(scene.key.clone()), messages: vec![hi()], ..Default::default() };
    let answer = invoker.invoke.clone().invoke_llm(call.clone()).await;
    refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
    refused(operator.invoke.invoke_llm(call.clone()).await, Code::NotFound, "TENANT_NOT_FOUND");
    let list = ListTokensRequest { tenant_id: scene.tenant.clone(), ..Default::default() };
    refused(operator.admin.list_tokens(list.clone()).await, Code::NotFound, "TENANT_NOT_FOUND");

    // Another one of that name starts with nothing, and the old tokens stay dead.
    let tenant = Tenant { id: scene.tenant.clone(), ..Tenant::default() };
    operator.admin.create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await.unwrap();
    assert_eq!(operator.admin.list_tokens(list).await.unwrap().into_inner().tokens, []);
    let renewed = Scene { clients: operator.clone(), ..scene.clone() };
    let listing = renewed.listing().await;
    assert!(listing.providers.is_empty() && listing.credentials.is_empty() && listing.models.is_empty());
    refused(operator.invoke.invoke_llm(call).await, Code::NotFound, "PROVIDER_NOT_FOUND");
    refused(scene.ask().await, Code::Unauthenticated, "TOKEN_INVALID");
    assert_eq!(upstream.total_hits(), 1);
}

/// Who may call an RPC, by the contract's words: AdminService is the operator's, InvokeService for all but viewers
/// (who may ask Explain),
/// reads of ConfigService for all but invokers, its writes for admins.
fn may_call(role: Role, rpc: &str) -> bool {
    let (service, method) = rpc.split_once('/').unwrap();
    let reads = ["Get", "List", "Watch"].iter().any(|verb| method.starts_with(verb));
    match (service, role) {
        (_, Role::Operator)
        | ("InvokeService", Role::Invoker | Role::TenantAdmin)
        | ("ConfigService", Role::TenantAdmin) => true,
        ("ConfigService", Role::Viewer) => reads,
        ("InvokeService", Role::Viewer) => method == "Explain",
        _ => false,
    }
}

async fn each_role_reaches_what_it_is_for(rota: &'static Rota) {
    let scene = Scene::tenant(rota).await;
    let mut operator = rota.operator().await;
    let rpcs = rpcs();
    assert!(rpcs.len() > 30, "{}", rpcs.len());
    let mut seen = BTreeSet::new();
    for role in [Role::Operator, Role::TenantAdmin, Role::Invoker, Role::Viewer] {
        let tenant = if role == Role::Operator { "" } else { &scene.tenant };
        let secret = create_token(&mut operator, tenant, role).await;
        let raw = Raw::new(&rota.clients(&secret).await);
        for (rpc, _) in &rpcs {
            let answer = raw.call(rpc, Vec::new()).await;
            let allowed = may_call(role, rpc);
            seen.insert(allowed);
            if !allowed {
                refused(answer, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
                continue;
            }
            let code = answer.err().map_or(Code::Ok, |status| status.code());
            let door = matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented);
            assert!(!door, "{role:?} {rpc}: {code:?}");
        }
    }
    assert_eq!(seen.len(), 2, "both sides of the table are met");
}

async fn a_wrong_token_opens_nothing(rota: &'static Rota) {
    let channel = rota.channel().await;
    let good = rota.operator_token().await.to_owned();
    let ask = async |header: Option<MetadataValue<Ascii>>| {
        let mut request =
            Request::new(ListProvidersRequest { tenant_id: "x".to_owned(), ..Default::default() });
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header);
        }
        ConfigServiceClient::new(channel.clone()).list_providers(request).await.map(|_| ())
    };
    let text = |text: &str| -> MetadataValue<Ascii> { text.parse().unwrap() };
    refused(ask(None).await, Code::Unauthenticated, "TOKEN_INVALID");
    let mut wrong = good.clone();
    wrong.replace_range(20..21, if &good[20..21] == "A" { "B" } else { "A" });
    let malformed = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        good.clone(),
        format!("Basic {good}"),
        format!("Bearer{good}"),
        format!("Bearer {wrong}"),
        format!("Bearer {good}x"),
        format!("Bearer {}", &good[..47]),
        format!("Bearer {}", good.to_uppercase()),
        format!("Bearer {good} {good}"),
        format!("Bearer {}", "x".repeat(4000)),
        "Bearer rota_".to_owned(),
        "Bearer ' OR 1=1 --".to_owned(),
    ];
    for header in malformed {
        refused(ask(Some(text(&header))).await, Code::Unauthenticated, "TOKEN_INVALID");
    }
    let bytes = MetadataValue::try_from(b"Bearer rota_\xff\xfe".as_slice()).unwrap();
    refused(ask(Some(bytes)).await, Code::Unauthenticated, "TOKEN_INVALID");
    // The good one gets to the question itself; the scheme is spelled as one likes (RFC 7235).
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let answer = ask(Some(text(&format!("{scheme} {good}")))).await;
        refused(answer, Code::NotFound, "TENANT_NOT_FOUND");
    }
}

async fn new_token(admin: &mut Clients, token: Token) -> Result<(Token, String), Status> {
    let answer = admin.admin.create_token(CreateTokenRequest { token: Some(token) }).await?.into_inner();
    Ok((answer.token.unwrap(), answer.secret))
}

fn in_seconds(seconds: i64) -> Option<prost_types::Timestamp> {
    let mut at = prost_types::Timestamp::from(SystemTime::now());
    at.seconds += seconds;
    // Whole milliseconds are stored.
    at.nanos -= at.nanos % 1_000_000;
    Some(at)
}

async fn a_token_ends_when_it_expires_or_is_revoked(rota: &'static Rota) {
    let scene = Scene::tenant(rota).await;
    let mut operator = rota.operator().await;
    let token = Token { tenant_id: scene.tenant.clone(), role: Role::Viewer.into(), ..Token::default() };
    let list = ListProvidersRequest::default;

    let expires_at = in_seconds(1);
    let (short, secret) = new_token(&mut operator, Token { expires_at, ..token.clone() }).await.unwrap();
    assert_eq!(short.expires_at, expires_at);
    let mut client = rota.clients(&secret).await.config;
    let at: SystemTime = expires_at.unwrap().try_into().unwrap();
    eventually(Duration::from_secs(5), async || match client.list_providers(list()).await {
        Err(status) => {
            refused(Err::<(), _>(status), Code::Unauthenticated, "TOKEN_INVALID");
            assert!(SystemTime::now() >= at, "before its time");
            Ok(())
        }
        Ok(_) => Err("it still opens".to_owned()),
    })
    .await;
    let past = new_token(&mut operator, Token { expires_at: in_seconds(-1), ..token.clone() }).await;
    assert_eq!(invalid_fields(past), ["token.expires_at"]);

    let (kept, secret) =
        new_token(&mut operator, Token { expires_at: in_seconds(60), ..token }).await.unwrap();
    let mut client = rota.clients(&secret).await.config;
    client.list_providers(list()).await.unwrap();
    let revoke = RevokeTokenRequest { id: kept.id };
    operator.admin.revoke_token(revoke.clone()).await.unwrap();
    refused(client.list_providers(list()).await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(operator.admin.revoke_token(revoke).await, Code::NotFound, "TOKEN_NOT_FOUND");
    scene.listing().await;
}

async fn a_tokens_secret_is_shown_once(rota: &'static Rota) {
    let scene = Scene::tenant(rota).await;
    let mut operator = rota.operator().await;
    let roles = [Role::TenantAdmin, Role::Invoker, Role::Viewer];
    let mut made = Vec::new();
    for (index, role) in roles.into_iter().enumerate() {
        let token = Token {
            tenant_id: scene.tenant.clone(),
            role: role.into(),
            name: format!("token {index}"),
            ..Token::default()
        };
        let (stored, secret) = new_token(&mut operator, token.clone()).await.unwrap();
        assert!(secret.starts_with("rota_") && secret.len() >= 45, "256 random bits");
        assert!(secret.starts_with(&stored.prefix) && stored.prefix.len() <= 12);
        let expected = Token {
            id: stored.id.clone(),
            prefix: stored.prefix.clone(),
            created_at: stored.created_at,
            ..token
        };
        assert_eq!(stored, expected);
        made.push((stored, secret));
    }
    let secrets: BTreeSet<_> = made.iter().map(|(_, secret)| secret.clone()).collect();
    assert_eq!(secrets.len(), 3);
    // The scene's own token came first.
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let list = ListTokensRequest { tenant_id: scene.tenant.clone(), page_size: 2, page_token };
        let page = operator.admin.list_tokens(list).await.unwrap().into_inner();
        listed.extend(page.tokens);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[1..], made.iter().map(|(token, _)| token.clone()).collect::<Vec<_>>());
    let text = format!("{listed:?}");
    assert!(!secrets.iter().any(|secret| text.contains(secret.as_str())));

    // Roles and tenants that do not fit.
    let unfit = [
        (Token::default(), "token.role"),
        (Token { role: 99, tenant_id: scene.tenant.clone(), ..Token::default() }, "token.role"),
        (Token { role: Role::Viewer.into(), ..Token::default() }, "token.tenant_id"),
        (
            Token { role: Role::Operator.into(), tenant_id: scene.tenant.clone(), ..Token::default() },
            "token.tenant_id",
        ),
    ];
    for (token, field) in unfit {
        assert_eq!(invalid_fields(new_token(&mut operator, token).await), [field]);
    }
    let nobody = Token { role: Role::Viewer.into(), tenant_id: "nobody".to_owned(), ..Token::default() };
    refused(new_token(&mut operator, nobody).await, Code::NotFound, "TENANT_NOT_FOUND");
}

async fn another_tenants_data_is_not_there(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let (mine, theirs) = (Scene::set(rota, &upstream, 2).await, Scene::set(rota, &upstream, 2).await);
    let mut client = mine.clients.clone();
    let list = ListModelsRequest { tenant_id: theirs.tenant.clone(), ..Default::default() };
    let missing = refused(client.config.list_models(list).await, Code::NotFound, "TENANT_NOT_FOUND");
    assert_eq!(missing.resource, Some(("tenant".to_owned(), theirs.tenant.clone())));
    let get = GetModelRequest { key: Some(theirs.key.clone()) };
    refused(client.config.get_model(get).await, Code::NotFound, "TENANT_NOT_FOUND");
    let call = InvokeLlmRequest { key: Some(theirs.key.clone()), messages: vec![hi()], ..Default::default() };
    let existing = refused(client.invoke.invoke_llm(call.clone()).await, Code::NotFound, "TENANT_NOT_FOUND");
    // One that exists and one that does not are told alike.
    let key = ModelKey { tenant_id: "nobody".to_owned(), ..theirs.key.clone() };
    let call = InvokeLlmRequest { key: Some(key), ..call };
    let missing = refused(client.invoke.invoke_llm(call).await, Code::NotFound, "TENANT_NOT_FOUND");
    assert_eq!(missing.fields, existing.fields);
    // Their ids do not help either.
    let foreign = rota::api::pb::GetLoadBalancingConfigRequest {
        key: Some(mine.key.clone()),
        id: theirs.configs[0].id.clone(),
    };
    refused(client.config.get_load_balancing_config(foreign).await, Code::NotFound, "CONFIG_NOT_FOUND");
    let saved = mine.save(vec![theirs.configs[0].clone()]).await;
    refused(saved, Code::NotFound, "CONFIG_NOT_FOUND");
    let credential = theirs.create_credential("theirs", "k").await;
    let get = rota::api::pb::GetCredentialRequest {
        tenant_id: String::new(),
        provider: mine.provider.clone(),
        id: credential.id,
    };
    refused(client.config.get_credential(get).await, Code::NotFound, "CREDENTIAL_NOT_FOUND");
    assert_eq!(upstream.total_hits(), 0);
}

async fn health_and_reflection_need_no_token(rota: &'static Rota) {
    for service in ["", "rota.v1.ConfigService", "rota.v1.InvokeService", "rota.v1.AdminService"] {
        assert_eq!(rota.health(service).await.unwrap(), ServingStatus::Serving, "{service}");
    }
    let ours = ["rota.v1.AdminService", "rota.v1.ConfigService", "rota.v1.InvokeService"];
    let channel = rota.channel().await;
    macro_rules! services {
        ($version:ident) => {{
            use $version::{
                server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let request = $version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(channel.clone());
            let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
            let answer = answers.into_inner().message().await.unwrap().unwrap().message_response;
            let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
            list.service.into_iter().map(|service| service.name).collect::<BTreeSet<_>>()
        }};
    }
    let (current, old) = (services!(v1), services!(v1alpha));
    assert!(ours.iter().all(|name| current.contains(*name) && old.contains(*name)), "{current:?} {old:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_token_is_seen_at_once_and_survives_a_restart() {
    let mut rota = Rota::builder().start().await;
    let scene = Scene::tenant(&rota).await;
    let idle = create_token(&mut rota.operator().await, &scene.tenant, Role::Viewer).await;
    let before = SystemTime::now() - Duration::from_millis(1);
    scene.listing().await;
    let used = async |rota: &Rota| {
        let list = ListTokensRequest { tenant_id: scene.tenant.clone(), ..Default::default() };
        let tokens = rota.operator().await.admin.list_tokens(list).await.unwrap().into_inner().tokens;
        let of = |secret: &str| tokens.iter().find(|token| secret.starts_with(&token.prefix)).unwrap();
        assert_eq!(of(&idle).last_used_at, None);
        SystemTime::try_from(of(&scene.token).last_used_at.unwrap()).unwrap()
    };
    let at = used(&rota).await;
    assert!(at >= before && at <= SystemTime::now(), "{at:?}");
    rota.sigterm();
    rota.wait_exit(Duration::from_secs(10)).await;
    rota.restart().await;
    assert_eq!(used(&rota).await, at);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_leaves_nothing_in_redis() {
    let redis = Redis::start().await;
    let rota = Rota::builder().redis(redis.url()).start().await;
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(&rota, &upstream, 2).await;
    let limits = Limits { requests_per_minute: 100, tokens_per_minute: 100_000, max_concurrency: 9 };
    scene.change_configs(|configs| configs.iter_mut().for_each(|config| config.limits = Some(limits))).await;
    let stored = async || {
        let keys = redis.command(&["KEYS", "rota:{*"]).await;
        keys.split_whitespace().filter(|word| word.contains("rota:{")).count()
    };
    let fill = async |scene: &Scene| {
        upstream.script(&scene.keys[0], Script::fail(401));
        upstream.script(&scene.keys[1], Script::fail_for(429, "60"));
        scene.ask().await.unwrap_err();
        eventually(Duration::from_secs(5), async || {
            let held: Vec<_> = scene.configs_now().await.iter().map(|config| config.in_flight).collect();
            if held == [0, 0] { Ok(()) } else { Err(format!("{held:?}")) }
        })
        .await;
    };
    fill(&scene).await;
    // The pool's, its counts, its windows; the tenant's credentials and holders.
    assert!(stored().await >= 4, "{}", redis.command(&["KEYS", "*"]).await);
    let delete = DeleteModelRequest { key: Some(scene.key.clone()) };
    scene.clients.config.delete_model(delete).await.unwrap();
    let left = redis.command(&["KEYS", "rota:{*"]).await;
    assert!(stored().await <= 2 && !left.contains("pool"), "{left}");

    let model = Model { key: Some(scene.key.clone()), ..Model::default() };
    scene.clients.config.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    scene.add_configs(2).await;
    scene.enable().await;
    fill(&scene).await;
    assert!(stored().await >= 3, "{}", redis.command(&["KEYS", "*"]).await);
    let delete = DeleteTenantRequest { tenant_id: scene.tenant.clone() };
    rota.operator().await.admin.delete_tenant(delete).await.unwrap();
    assert_eq!(stored().await, 0, "{}", redis.command(&["KEYS", "*"]).await);
}
