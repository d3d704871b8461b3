//! Several replicas as one service, and what a crash leaves behind.

use std::time::Duration;

use rota::{
    api::pb::{
        CreateTokenRequest, ErrorClass, GetLoadBalancingConfigsRequest, GetLoadBalancingConfigsResponse,
        LoadBalancingConfig, RevokeTokenRequest, Role, Token, UpdateLoadBalancingConfigsRequest,
    },
    scripted::{Script, Upstream},
};
use tokio::{
    sync::OnceCell,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    eventually,
    failure::{error, told},
    postgres::Postgres,
    redis::Redis,
    rota::{Builder, Rota},
    world::{Scene, config},
};

/// What another replica needs to learn of a change, at most.
const LEARNS_WITHIN: Duration = Duration::from_secs(1);

/// Two replicas on one Redis and one PostgreSQL.
async fn two_replicas() -> &'static (Rota, Rota) {
    static REPLICAS: OnceCell<(Rota, Rota)> = OnceCell::const_new();
    REPLICAS
        .get_or_init(async || {
            let database = Postgres::shared().await.fresh_database();
            let settings = Rota::builder().redis(Redis::shared().await.url()).database(database);
            (settings.start().await, settings.start().await)
        })
        .await
}

/// The scene through the other replica, once that one has learnt of it. Until then it may know the model without its
/// configs, and serves it without balancing.
async fn mirror(scene: &Scene, other: &Rota) -> Scene {
    let mirror = scene.through(other).await;
    eventually(LEARNS_WITHIN, async || match mirror.ask().await {
        Ok(reply) if reply.route.as_ref().is_some_and(|route| route.config_id != "__inherit__") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    mirror
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_one_rotation() {
    let (first, second) = two_replicas().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(first, &upstream, 7).await;
    let mirror = mirror(&scene, second).await;
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let scene = if caller % 2 == 0 { scene.clone() } else { mirror.clone() };
        callers.spawn(async move {
            for _ in 0..75 {
                scene.ask().await.unwrap();
            }
        });
    }
    callers.join_all().await;
    let hits = scene.hits(&upstream);
    assert_eq!(hits.iter().sum::<u64>(), 601);
    assert!(hits.iter().max().unwrap() - hits.iter().min().unwrap() <= 1, "{hits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooldown_seen_by_one_replica_holds_on_the_other() {
    let (first, second) = two_replicas().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(first, &upstream, 3).await;
    let mirror = mirror(&scene, second).await;
    let before = upstream.hits(&scene.keys[0]);
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    while upstream.hits(&scene.keys[0]) == before {
        scene.ask().await.unwrap();
    }
    for _ in 0..6 {
        let route = mirror.ask().await.unwrap().route.unwrap();
        assert_eq!(route.attempts.len(), 1, "{route:?}");
    }
    assert_eq!(upstream.hits(&scene.keys[0]), before + 1);
    let cooling = mirror.configs_now().await.remove(0);
    assert!(cooling.in_cooldown && cooling.cooldown_reason() == ErrorClass::RateLimited, "{cooling:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_config_serves_on_the_other_replica_within_a_second() {
    let (first, second) = two_replicas().await;
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(first, &upstream, 2).await;
    let mirror = mirror(&scene, second).await;
    for _ in 0..3 {
        scene.add_configs(2).await;
        let changed = Instant::now();
        // The replica that was told serves the change with its answer.
        let reply = scene.ask().await.unwrap().message.unwrap().content;
        assert!(scene.keys.iter().any(|key| reply.ends_with(key)), "{reply}");
        eventually(LEARNS_WITHIN, async || {
            let reply = mirror.ask().await.unwrap().message.unwrap().content;
            let new = scene.keys.iter().any(|key| reply.ends_with(key));
            if new { Ok(()) } else { Err(format!("still {reply} after {:?}", changed.elapsed())) }
        })
        .await;
        // For good.
        for _ in 0..4 {
            let reply = mirror.ask().await.unwrap().message.unwrap().content;
            assert!(scene.keys.iter().any(|key| reply.ends_with(key)), "{reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_by_every_replica_within_a_second() {
    let (first, second) = two_replicas().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(first, &upstream, 2).await;
    let mut operator = first.operator().await;
    let token = Token {
        tenant_id: scene.tenant.clone(),
        role: Role::Invoker.into(),
        name: "to be revoked".into(),
        ..Token::default()
    };
    let request = CreateTokenRequest { token: Some(token) };
    let created = operator.admin.create_token(request).await.unwrap().into_inner();
    let here = Scene { clients: first.clients(&created.secret).await, ..scene.clone() };
    let there = Scene { clients: second.clients(&created.secret).await, ..scene.clone() };
    here.ask().await.unwrap();
    eventually(LEARNS_WITHIN, async || there.ask().await.map_err(|status| format!("{status:?}"))).await;

    operator.admin.revoke_token(RevokeTokenRequest { id: created.token.unwrap().id }).await.unwrap();
    let refused = here.ask().await.unwrap_err();
    assert_eq!(told(&refused), error(Code::Unauthenticated, "TOKEN_INVALID"));
    let refused = eventually(LEARNS_WITHIN, async || match there.ask().await {
        Ok(_) => Err("the other replica still takes it".to_owned()),
        Err(status) => Ok(status),
    })
    .await;
    assert_eq!(told(&refused), error(Code::Unauthenticated, "TOKEN_INVALID"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_sqlite_keeps_everything() {
    a_restart_keeps_everything(Rota::builder()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_postgres_keeps_everything() {
    let database = Postgres::shared().await.fresh_database();
    a_restart_keeps_everything(Rota::builder().database(database)).await;
}

async fn a_restart_keeps_everything(settings: Builder) {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = settings.start().await;
    let scene = Scene::set(&rota, &upstream, 3).await;
    let request = GetLoadBalancingConfigsRequest { key: Some(scene.key.clone()), ..Default::default() };
    let listed = scene.clients.config.clone().get_load_balancing_configs(request.clone()).await.unwrap();
    rota.restart().await;
    // Tenant, token, provider, model, configs with their secrets, and the flag.
    let scene = scene.through(&rota).await;
    let again = scene.clients.config.clone().get_load_balancing_configs(request).await.unwrap();
    assert_eq!(again.get_ref(), listed.get_ref());
    assert!(again.get_ref().enabled && again.get_ref().configs.len() == 3);
    for _ in 0..6 {
        scene.ask().await.unwrap();
    }
    assert_eq!(scene.hits(&upstream), [2, 2, 2]);
    let operator = rota.operator().await;
    operator.admin.clone().list_tenants(rota::api::pb::ListTenantsRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_an_update_leaves_one_whole_set_on_sqlite() {
    kill_9_leaves_one_whole_set(Rota::builder()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_an_update_leaves_one_whole_set_on_postgres() {
    let database = Postgres::shared().await.fresh_database();
    kill_9_leaves_one_whole_set(Rota::builder().database(database)).await;
}

const SET: usize = 20;

/// One of two sets: each revision has the other one.
fn set_of(revision: i64) -> Vec<LoadBalancingConfig> {
    let letter = letter_of(revision);
    (0..SET).map(|i| config(&format!("{letter}-{i}"), &format!("key-of-{letter}-{i}"))).collect()
}

fn letter_of(revision: i64) -> char {
    if revision % 2 == 0 { 'a' } else { 'b' }
}

async fn kill_9_leaves_one_whole_set(settings: Builder) {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = settings.start().await;
    let mut scene = Scene::tenant(&rota).await;
    scene.add_model(&upstream.base_url()).await;
    // The revision tells which set it must be, so that a mixture of rows and revision shows as well.
    let first = stored_set(&scene).await.revision;
    let mut revision = first;
    for round in 0..8 {
        let writer = scene.through(&rota).await;
        let from = revision;
        let writing = tokio::spawn(async move {
            let mut revision = from;
            loop {
                let request = UpdateLoadBalancingConfigsRequest {
                    key: Some(writer.key.clone()),
                    configs: set_of(revision + 1),
                    revision,
                    ..UpdateLoadBalancingConfigsRequest::default()
                };
                match writer.clients.config.clone().update_load_balancing_configs(request).await {
                    Ok(response) => revision = response.into_inner().revision,
                    // A broken connection is what it waits for; a refusal of ours fails the test.
                    Err(status) if status.get_details_error_info().is_none() => return revision,
                    Err(status) => panic!("{status:?}"),
                }
            }
        });
        // At any moment of an update. This pause is what is tested, not a wait for something.
        sleep(Duration::from_millis(rand::random_range(50..250))).await;
        rota.kill9();
        let acknowledged = writing.await.unwrap();
        rota.restart().await;

        let stored = stored_set(&scene.through(&rota).await).await;
        if stored.revision > first {
            let names: Vec<_> = stored.configs.iter().map(|config| config.name.clone()).collect();
            let expected: Vec<_> = set_of(stored.revision).into_iter().map(|config| config.name).collect();
            assert_eq!(names, expected, "revision {} in round {round}", stored.revision);
        }
        // What was answered is there; of the one that was not, all or nothing.
        assert!(
            stored.revision == acknowledged || stored.revision == acknowledged + 1,
            "{} after {acknowledged} in round {round}",
            stored.revision
        );
        revision = stored.revision;
    }
    assert!(revision > first, "no update was ever stored: nothing was interrupted");
}

async fn stored_set(scene: &Scene) -> GetLoadBalancingConfigsResponse {
    let request = GetLoadBalancingConfigsRequest { key: Some(scene.key.clone()), ..Default::default() };
    scene.clients.config.clone().get_load_balancing_configs(request).await.unwrap().into_inner()
}
