//! The Redis user of `deploy/redis/users.acl` may do all that Rota does, and no more.

use std::{fs, time::Duration};

use rota::{
    api::pb::{
        AcquireRequest, ActiveHealthCheck, BalancingPolicy, ClearCooldownRequest, DeleteTenantRequest,
        ErrorClass, GetLoadBalancingConfigsRequest, Limits, Outcome, ReleaseRequest, RenewLeaseRequest,
        SetCooldownRequest, Strategy, WhenExhausted,
    },
    scripted::{Script, Upstream},
};

use crate::{
    balance::policy::set_policy,
    support::{
        eventually,
        postgres::Postgres,
        process::Process,
        redis::{self, command},
        root,
        rota::Rota,
        world::Scene,
    },
};

/// A Redis with that user, and without a password for the tests' own hand.
struct Guarded {
    port: u16,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let users = fs::read_to_string(root().join("deploy/redis/users.acl")).unwrap();
        let users = users.replace("user default off", "user default on nopass ~* &* +@all");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.acl");
        fs::write(&file, users.replace("CHANGE-ME", "hunter2")).unwrap();
        let (port, process) = redis::start(folder.path(), &["--aclfile", &file.to_string_lossy()]).await;
        Self { port, _process: process, _folder: folder }
    }

    fn url(&self) -> String {
        format!("redis://rota:hunter2@127.0.0.1:{}", self.port)
    }

    async fn command(&self, words: &str) -> String {
        command(self.port, &words.split(' ').collect::<Vec<_>>()).await.unwrap()
    }
}

fn span(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_user_may_do_all_that_rota_does() {
    let redis = Guarded::start().await;
    let settings = Rota::builder().redis(redis.url()).database(Postgres::shared().await.fresh_database());
    let (one, other) = (settings.start().await, settings.start().await);
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(&one, &upstream, 3).await;
    let there = scene.through(&other).await;

    // Every strategy, failures and trials, limits, streams, and callers who wait.
    for strategy in [Strategy::RoundRobin, Strategy::WeightedRoundRobin, Strategy::LeastConnections] {
        let policy = BalancingPolicy {
            strategy: strategy.into(),
            when_exhausted: WhenExhausted::Wait.into(),
            active_health_check: Some(ActiveHealthCheck { interval: span(1, 0), timeout: span(1, 0) }),
            ..BalancingPolicy::default()
        };
        set_policy(&scene, policy, &[]).await.unwrap();
        let limits = Limits { requests_per_minute: 1000, tokens_per_minute: 100_000, max_concurrency: 50 };
        scene.change_configs(|configs| configs[0].limits = Some(limits)).await;
        for status in [429, 500, 401] {
            let fails = Script::fail_for(status, "1");
            upstream.script(&scene.keys[1], Script::sequence([fails, Script::Answer]));
            for scene in [&scene, &there] {
                scene.ask().await.unwrap();
                scene.ask_stream().await.unwrap();
                let served = scene.ask().await.unwrap();
                assert!(!served.route.unwrap().degraded, "{}", one.logs());
            }
        }
    }
    // Everybody cools, and a caller waits.
    let mut client = scene.clients.config.clone();
    for config in &scene.configs {
        let request = SetCooldownRequest {
            key: Some(scene.key.clone()),
            config_id: config.id.clone(),
            duration: span(0, 500_000_000),
            reason: ErrorClass::RateLimited.into(),
        };
        client.set_cooldown(request).await.unwrap();
    }
    there.ask().await.unwrap();
    let (key, config_id) = (Some(scene.key.clone()), scene.configs[0].id.clone());
    client.clear_cooldown(ClearCooldownRequest { key, config_id }).await.unwrap();

    // Leases, kept longer and ended both ways.
    let mut invoke = scene.clients.invoke.clone();
    for outcome in [None, Some(Outcome { error_class: ErrorClass::ServerError.into(), ..Default::default() })]
    {
        let request = AcquireRequest { key: Some(scene.key.clone()), ..Default::default() };
        let lease_id = invoke.acquire(request).await.unwrap().into_inner().lease_id;
        invoke.renew_lease(RenewLeaseRequest { lease_id: lease_id.clone() }).await.unwrap();
        invoke.release(ReleaseRequest { lease_id, outcome }).await.unwrap();
    }

    // Away and back, with calls in flight and cooldowns to bring.
    upstream.script(&scene.keys[2], Script::Slow(Duration::from_millis(200)));
    let stream = tokio::spawn({
        let scene = scene.clone();
        async move { scene.ask_stream().await }
    });
    redis.command("CLIENT KILL TYPE normal").await;
    redis.command("CLIENT KILL TYPE pubsub").await;
    stream.await.unwrap().unwrap();
    eventually(Duration::from_secs(20), async || {
        if scene.ask().await.unwrap().route.unwrap().degraded {
            Err("it does not come back".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    // Its heartbeat is every 5 s.
    upstream.script(&scene.keys[0], Script::Slow(Duration::from_secs(2)));
    scene.ask_stream().await.unwrap();
    let request = GetLoadBalancingConfigsRequest { key: Some(scene.key.clone()), ..Default::default() };
    client.get_load_balancing_configs(request).await.unwrap();
    let found = String::from_utf8(one.output(&["doctor", "--redis-timeout", "60s"]).stdout).unwrap();
    assert!(found.contains("all that is needed"), "{found}");
    let mut operator = one.operator().await;
    let request = DeleteTenantRequest { tenant_id: scene.tenant.clone() };
    operator.admin.delete_tenant(request).await.unwrap();

    let refused = redis.command("ACL LOG").await;
    let lines: Vec<_> = refused.lines().collect();
    let mut objects = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1]);
    // What the client library and the doctor ask for and go on without.
    assert!(objects.all(|object| ["info", "client|id"].contains(&object)), "{refused}");
    assert!(!one.logs().contains("refuses"), "{}", one.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_and_calls_go_on() {
    let redis = Guarded::start().await;
    redis.command("ACL SETUSER rota -zadd").await;
    let rota = Rota::builder().redis(redis.url()).start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    assert!(scene.ask().await.unwrap().route.unwrap().degraded);
    let ready = format!("http://{}/readyz?verbose", rota.probes().await);
    let told = reqwest::get(&ready).await.unwrap().text().await.unwrap();
    assert!(told.contains("[-] redis: away") && told.contains("zadd"), "{told}");
    assert!(rota.logs().contains("refuses zadd"), "{}", rota.logs());
    let times = |logs: &str| logs.lines().filter(|line| line.contains("Redis is away")).count();
    assert_eq!(times(&rota.logs()), 1, "{}", rota.logs());
    redis.command("ACL SETUSER rota +zadd").await;
    eventually(Duration::from_secs(10), async || {
        if scene.ask().await.unwrap().route.unwrap().degraded {
            Err("it does not come back".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    assert!(reqwest::get(&ready).await.unwrap().text().await.unwrap().contains("[+] redis"));
}
