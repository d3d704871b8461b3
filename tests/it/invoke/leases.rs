//! Acquire, RenewLease, Release: the balancing for clients that call the provider by themselves.

use std::time::Duration;

use rota::{
    api::pb::{
        AcquireRequest, AcquireResponse, CreateTokenRequest, DisableModelLoadBalancingRequest, ErrorClass,
        Limits, ListTokensRequest, Outcome, ReleaseRequest, RenewLeaseRequest, Role, Token, Usage,
    },
    scripted::Upstream,
};
use tonic::{Code, Status};

use crate::support::{
    eventually,
    failure::{error, retry_after, span, told},
    on_both_states,
    postgres::Postgres,
    redis::Redis,
    refusal::invalid_fields,
    rota::{Clients, Rota},
    world::{Scene, create_token},
};

on_both_states!(
    leases_take_turns_and_count_in_flight_until_they_are_released,
    a_failure_told_cools_and_a_success_told_ends_the_trial,
    an_outcome_counts_once,
    excluded_configs_are_passed_over,
    tokens_are_reserved_and_settled,
);

async fn acquire(scene: &Scene) -> Result<AcquireResponse, Status> {
    acquire_but(scene, &[]).await
}

async fn acquire_but(scene: &Scene, excluded: &[&str]) -> Result<AcquireResponse, Status> {
    let exclude_config_ids = excluded.iter().map(|&id| id.to_owned()).collect();
    let request = AcquireRequest { key: Some(scene.key.clone()), exclude_config_ids, ..Default::default() };
    Ok(scene.clients.invoke.clone().acquire(request).await?.into_inner())
}

async fn release(clients: &Clients, lease: &AcquireResponse, outcome: Option<Outcome>) -> Result<(), Status> {
    let request = ReleaseRequest { lease_id: lease.lease_id.clone(), outcome };
    clients.invoke.clone().release(request).await.map(drop)
}

async fn renew(clients: &Clients, lease_id: &str) -> Result<(), Status> {
    let request = RenewLeaseRequest { lease_id: lease_id.to_owned() };
    let expires = clients.invoke.clone().renew_lease(request).await?.into_inner().expires_at.unwrap();
    assert!(about_a_minute_away(expires), "{expires:?}");
    Ok(())
}

fn about_a_minute_away(time: prost_types::Timestamp) -> bool {
    (50..=60).contains(&(time.seconds - chrono::Utc::now().timestamp()))
}

fn failed(class: ErrorClass, retry_after: i64) -> Option<Outcome> {
    Some(Outcome {
        error_class: class.into(),
        http_status: 429,
        retry_after: Some(prost_types::Duration { seconds: retry_after, nanos: 0 }),
        ..Outcome::default()
    })
}

async fn leases_take_turns_and_count_in_flight_until_they_are_released(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    let mut leases = Vec::new();
    for index in [0, 1, 2, 0] {
        let lease = acquire(&scene).await.unwrap();
        assert_eq!(lease.config_id, scene.configs[index].id);
        assert_eq!(lease.config_name, format!("config-{index}"));
        assert_eq!((lease.base_url.as_str(), lease.upstream_model.as_str()), (&*upstream.base_url(), "chat"));
        assert!(about_a_minute_away(lease.expires_at.unwrap()));
        assert!(lease.credentials.is_empty() && !lease.degraded);
        leases.push(lease);
    }
    assert_eq!(scene.in_flight().await, [2, 1, 1]);
    // A call that is made here takes the next turn.
    assert_eq!(scene.ask().await.unwrap().route.unwrap().config_id, scene.configs[1].id);
    renew(&scene.clients, &leases[0].lease_id).await.unwrap();
    for lease in &leases {
        release(&scene.clients, lease, None).await.unwrap();
    }
    assert_eq!(scene.in_flight().await, [0, 0, 0]);
    let over = renew(&scene.clients, &leases[0].lease_id).await.unwrap_err();
    assert_eq!(told(&over), error(Code::NotFound, "LEASE_NOT_FOUND"));
    assert_eq!(upstream.total_hits(), 1);
}

async fn a_failure_told_cools_and_a_success_told_ends_the_trial(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let first = acquire(&scene).await.unwrap();
    release(&scene.clients, &first, failed(ErrorClass::RateLimited, 1)).await.unwrap();
    let cooling = &scene.configs_now().await[0];
    assert!(cooling.in_cooldown && span(cooling.ttl) <= Duration::from_secs(1));
    assert_eq!(cooling.cooldown_reason(), ErrorClass::RateLimited);
    assert_eq!(acquire(&scene).await.unwrap().config_id, scene.configs[1].id);

    let trial = eventually(Duration::from_secs(10), async || {
        let lease = acquire(&scene).await.unwrap();
        if lease.config_id == first.config_id { Ok(lease) } else { Err("still cooling".to_owned()) }
    })
    .await;
    // While its trial is on its way, the other one serves.
    for _ in 0..3 {
        assert_eq!(acquire(&scene).await.unwrap().config_id, scene.configs[1].id);
    }
    release(&scene.clients, &trial, Some(Outcome::default())).await.unwrap();
    let next = [acquire(&scene).await.unwrap().config_id, acquire(&scene).await.unwrap().config_id];
    assert!(next.contains(&first.config_id), "it is well again");

    for class in [ErrorClass::BadRequest, ErrorClass::Cancelled] {
        let lease = acquire(&scene).await.unwrap();
        release(&scene.clients, &lease, failed(class, 0)).await.unwrap();
    }
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
}

async fn an_outcome_counts_once(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let lease = acquire(&scene).await.unwrap();
    release(&scene.clients, &lease, Some(Outcome::default())).await.unwrap();
    // Said again, and otherwise: too late.
    release(&scene.clients, &lease, failed(ErrorClass::RateLimited, 60)).await.unwrap();
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
    assert_eq!(scene.in_flight().await, [0, 0]);
}

async fn excluded_configs_are_passed_over(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    let id = |index: usize| scene.configs[index].id.as_str();
    for _ in 0..3 {
        let lease = acquire_but(&scene, &[id(0), id(2), "unknown"]).await.unwrap();
        assert_eq!(lease.config_id, id(1));
    }
    let all = [id(0), id(1), id(2)];
    let status = acquire_but(&scene, &all).await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "ALL_CONFIGS_COOLING_DOWN"));

    let lease = acquire_but(&scene, &[id(0), id(1)]).await.unwrap();
    release(&scene.clients, &lease, failed(ErrorClass::QuotaExhausted, 40)).await.unwrap();
    let status = acquire_but(&scene, &[id(0), id(1)]).await.unwrap_err();
    assert_eq!(told(&status).1, "ALL_CONFIGS_COOLING_DOWN");
    // The other two could serve another call.
    assert!(retry_after(&status) < Duration::from_secs(1));
}

async fn tokens_are_reserved_and_settled(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    let limits = Limits { tokens_per_minute: 1000, ..Default::default() };
    scene.change_configs(|configs| configs.iter_mut().for_each(|config| config.limits = Some(limits))).await;
    let take = async || {
        let key = Some(scene.key.clone());
        let request = AcquireRequest { key, tokens: 900, ..AcquireRequest::default() };
        scene.clients.invoke.clone().acquire(request).await.map(tonic::Response::into_inner)
    };
    let leases = [take().await.unwrap(), take().await.unwrap()];
    let status = take().await.unwrap_err();
    assert_eq!(told(&status), error(Code::ResourceExhausted, "ALL_CONFIGS_COOLING_DOWN"));
    let usage = Some(Usage { total_tokens: 20, ..Usage::default() });
    release(&scene.clients, &leases[1], Some(Outcome { usage, ..Outcome::default() })).await.unwrap();
    assert_eq!(take().await.unwrap().config_id, leases[1].config_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_for_tokens_that_may_read_them_and_each_read_is_logged() {
    let rota = Rota::builder().start().await;
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(&rota, &upstream, 2).await;
    assert!(acquire(&scene).await.unwrap().credentials.is_empty());
    assert!(!rota.logs().contains("credentials were handed out"));

    scene.clients = rota.clients(&scene.reader(&rota).await).await;
    let lease = acquire(&scene).await.unwrap();
    assert_eq!(lease.credentials, [("api_key".to_owned(), scene.keys[1].clone())].into());
    assert!(!lease.lease_id.contains(&scene.keys[1]));
    let mut operator = rota.operator().await;
    let request = ListTokensRequest { tenant_id: scene.tenant.clone(), ..Default::default() };
    let tokens = operator.admin.list_tokens(request).await.unwrap().into_inner().tokens;
    let reader = tokens.iter().find(|token| token.may_read_credentials).unwrap();
    eventually(Duration::from_secs(5), async || {
        let logs = rota.logs();
        let line = logs.lines().find(|line| line.contains("credentials were handed out"));
        line.filter(|line| line.contains(&reader.id) && line.contains(&lease.config_id))
            .map(drop)
            .ok_or_else(|| logs.clone())
    })
    .await;
    assert!(scene.keys.iter().all(|key| !rota.logs().contains(key)));

    let viewer = Token {
        tenant_id: scene.tenant.clone(),
        role: Role::Viewer.into(),
        may_read_credentials: true,
        ..Token::default()
    };
    let refused = operator.admin.create_token(CreateTokenRequest { token: Some(viewer) }).await;
    assert_eq!(invalid_fields(refused), ["token.may_read_credentials"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_its_tenants_alone_and_cannot_be_made_up() {
    let rota = Rota::shared().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let stranger = Scene::tenant(rota).await;
    let lease = acquire(&scene).await.unwrap();
    for status in [
        renew(&stranger.clients, &lease.lease_id).await.unwrap_err(),
        release(&stranger.clients, &lease, failed(ErrorClass::RateLimited, 60)).await.unwrap_err(),
    ] {
        assert_eq!(told(&status), error(Code::NotFound, "LEASE_NOT_FOUND"));
    }
    let id = &lease.lease_id;
    let flip = |at: usize| {
        let mut bytes = id.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let forged =
        [String::new(), "x".into(), "é".into(), "A".repeat(100_000), flip(0), flip(50), flip(id.len() - 9)];
    for forged in forged {
        assert_eq!(invalid_fields(renew(&scene.clients, &forged).await), ["lease_id"], "{forged:.80}");
        let forged = AcquireResponse { lease_id: forged, ..AcquireResponse::default() };
        assert_eq!(invalid_fields(release(&scene.clients, &forged, None).await), ["lease_id"]);
    }
    assert_eq!(scene.in_flight().await, [1, 0]);
    release(&scene.clients, &lease, None).await.unwrap();

    // The operator may, as everywhere.
    let lease = acquire(&scene).await.unwrap();
    let operator = rota.operator().await;
    release(&operator, &lease, None).await.unwrap();
    assert_eq!(scene.in_flight().await, [0, 0]);

    let mut operator = operator;
    let viewer = create_token(&mut operator, &scene.tenant, Role::Viewer).await;
    let scene = Scene { clients: rota.clients(&viewer).await, ..scene };
    assert_eq!(told(&acquire(&scene).await.unwrap_err()), error(Code::PermissionDenied, "ROLE_NOT_ALLOWED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_outcomes_are_refused_and_the_lease_goes_on() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let lease = acquire(&scene).await.unwrap();
    let minus = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    for (field, outcome) in [
        ("outcome.error_class", Outcome { error_class: 99, ..Outcome::default() }),
        ("outcome.http_status", Outcome { http_status: 42, ..Outcome::default() }),
        ("outcome.http_status", Outcome { http_status: 70_000, ..Outcome::default() }),
        ("outcome.retry_after", Outcome { retry_after: minus, ..Outcome::default() }),
        ("outcome.latency", Outcome { latency: minus, ..Outcome::default() }),
    ] {
        assert_eq!(invalid_fields(release(&scene.clients, &lease, Some(outcome)).await), [field]);
    }
    renew(&scene.clients, &lease.lease_id).await.unwrap();
    let no_type = AcquireRequest { key: Some(scene.key.clone()), ..AcquireRequest::default() };
    let mut no_type = no_type;
    no_type.key.as_mut().unwrap().model_type = 0;
    assert_eq!(invalid_fields(scene.clients.invoke.clone().acquire(no_type).await), ["key.model_type"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_balancing_there_is_nothing_to_count() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    scene.add_credential("active", "active-key").await;
    let request = DisableModelLoadBalancingRequest { key: Some(scene.key.clone()) };
    scene.clients.config.disable_model_load_balancing(request).await.unwrap();
    let lease = acquire(&scene).await.unwrap();
    assert_eq!(lease.config_id, "__inherit__");
    renew(&scene.clients, &lease.lease_id).await.unwrap();
    release(&scene.clients, &lease, failed(ErrorClass::Authentication, 60)).await.unwrap();
    assert_eq!(acquire(&scene).await.unwrap().config_id, "__inherit__");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_ends_a_lease() {
    let database = Postgres::shared().await.fresh_database();
    let settings = Rota::builder().redis(Redis::shared().await.url()).database(database);
    let one = settings.start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&one, &upstream, 2).await;
    let other = settings.start().await;
    let there = scene.through(&other).await;
    let lease = acquire(&scene).await.unwrap();
    renew(&there.clients, &lease.lease_id).await.unwrap();
    release(&there.clients, &lease, failed(ErrorClass::RateLimited, 60)).await.unwrap();
    assert!(scene.configs_now().await[0].in_cooldown);
    assert_eq!(scene.in_flight().await, [0, 0]);
    release(&scene.clients, &lease, None).await.unwrap();
}
