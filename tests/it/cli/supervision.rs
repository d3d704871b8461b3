//! Tasks that panic are counted, logged and back; the process ends only where it cannot do without one.
//!
//! The panics are injected by `ROTA_INJECT_PANIC`, which only builds with debug assertions know: see `src/tasks.rs`.

use std::{collections::HashMap, time::Duration};

use rota::{
    api::pb::{ActiveHealthCheck, BalancingPolicy, ErrorClass, SetCooldownRequest},
    scripted::Upstream,
    tasks::Task,
};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    balance::policy::set_policy,
    support::{
        authority::Authority,
        collector::Collector,
        eventually,
        postgres::Postgres,
        redis::Redis,
        rota::{Clients, Rota},
        secured::Secured,
        world::Scene,
    },
};

const INJECT: &str = "ROTA_INJECT_PANIC";
const PATIENCE: Duration = Duration::from_secs(30);

/// A counter by task.
fn counts(metrics: &str, counter: &str) -> HashMap<String, u64> {
    let series = format!("{counter}{{task=\"");
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(&series));
    lines
        .map(|line| {
            let (task, value) = line.split_once("\"} ").unwrap();
            (task.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// How many lines of that log say that a task has panicked.
fn told(log: &str, task: Task) -> usize {
    let name = format!("task={task} ");
    log.lines().filter(|line| line.contains("a task has panicked") && line.contains(&name)).count()
}

/// Checks every second, which ends cooldowns that say nothing of limits.
async fn check_every_second(scene: &Scene) {
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let check = ActiveHealthCheck { interval: second, timeout: second };
    let policy = BalancingPolicy { active_health_check: Some(check), ..BalancingPolicy::default() };
    set_policy(scene, policy, &[]).await.unwrap();
}

async fn cool(scene: &Scene) {
    let request = SetCooldownRequest {
        key: Some(scene.key.clone()),
        config_id: scene.configs[0].id.clone(),
        duration: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        reason: ErrorClass::Authentication.into(),
    };
    scene.clients.config.clone().set_cooldown(request).await.unwrap();
}

async fn is_warm_again(scene: &Scene) {
    eventually(PATIENCE, async || {
        let now = scene.configs_now().await;
        if now[0].in_cooldown { Err(format!("{:?} left", now[0].ttl)) } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_task_that_panics_is_counted_logged_and_back() {
    let (upstream, redis) = (Upstream::start().await.unwrap(), Redis::start().await);
    let collector = Collector::start().await;
    // One that serves no TLS has no task for it.
    let tasks: Vec<_> = Task::ALL.into_iter().filter(|task| *task != Task::TlsReload).collect();
    let names: Vec<_> = tasks.iter().map(|task| task.name()).collect();
    let builder = Rota::builder().redis(redis.url()).database(Postgres::shared().await.fresh_database());
    let rota = builder
        .clone()
        .arg("--otlp-endpoint")
        .arg(collector.endpoint())
        .env(INJECT, names.join(","))
        .start()
        .await;
    let other = builder.start().await;

    let scene = Scene::set(&other, &upstream, 2).await;
    let here = Scene { clients: Clients::over(rota.channel().await, &scene.token), ..scene.clone() };
    // The server took the connection, and the follower has learnt of the model; the writer writes that calls are over.
    eventually(PATIENCE, async || here.ask().await.map(drop).map_err(|status| status.to_string())).await;
    eventually(PATIENCE, async || match scene.configs_now().await.iter().map(|one| one.in_flight).sum() {
        0 => Ok(()),
        count => Err(format!("{count} in flight")),
    })
    .await;
    assert_eq!(rota.health("").await.unwrap(), ServingStatus::Serving);
    eventually(PATIENCE, async || match collector.spans().len() {
        0 => Err("no span has come".to_owned()),
        _ => Ok(()),
    })
    .await;
    // Only this replica checks: the other is gone.
    drop(other);
    check_every_second(&here).await;
    cool(&here).await;
    is_warm_again(&here).await;

    let metrics = rota.metrics().await;
    let failures = counts(&metrics, "rota_task_failures_total");
    let expected: HashMap<_, _> = tasks.iter().map(|task| (task.to_string(), 1)).collect();
    assert_eq!(failures, expected, "{}", rota.logs());
    assert!(counts(&metrics, "rota_task_contained_panics_total").values().all(|count| *count == 0));
    let log = rota.logs();
    for task in tasks {
        assert_eq!(told(&log, task), 1, "{task}:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reload_of_tls_files_is_back_after_a_panic() {
    let (old, new) = (Authority::new(), Authority::new());
    let rota = Secured::start_with(&old, false, &[(INJECT, "tls_reload"), ("NO_COLOR", "1")]).await;
    rota.replace("key.pem", &new.key.serialize_pem());
    rota.replace("own.pem", &new.own.pem());
    eventually(PATIENCE, async || {
        let log = rota.log();
        if log.contains("new connections are served with them") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(told(&rota.log(), Task::TlsReload), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_panics_keeps_its_port() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().env(INJECT, "server:3").start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    scene.ask().await.unwrap();
    let failures = counts(&rota.metrics().await, "rota_task_failures_total");
    assert_eq!(failures["server"], 3, "{}", rota.logs());
    rota.sigterm();
    assert_eq!(rota.wait_exit(PATIENCE).await.code(), Some(0), "{}", rota.logs());
}

/// Runs until it ends by itself. Returns what it wrote.
fn gives_up(injected: &str) -> String {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let output = Rota::builder().env(INJECT, injected).output(&serve);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("draining") && log.contains("stopped"), "{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_critical_task_that_goes_on_panicking_ends_the_process() {
    for task in Task::ALL.into_iter().filter(|task| task.is_critical()) {
        let log = tokio::task::spawn_blocking(move || gives_up(&format!("{task}:1000"))).await.unwrap();
        assert!(told(&log, task) >= 5, "{log}");
        let last = log.lines().last().unwrap();
        assert_eq!(last, format!("rota: the task {task} failed five times within a minute"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_task_that_goes_on_panicking_does_not() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().env(INJECT, "health_checks:1000").start().await;
    eventually(PATIENCE, async || {
        let log = rota.logs();
        if told(&log, Task::HealthChecks) >= 6 { Ok(()) } else { Err(log) }
    })
    .await;
    Scene::set(&rota, &upstream, 2).await.ask().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_check_panics_stops_no_other() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().env(INJECT, "*/upstream/poison:1000").start().await;
    let well = Scene::set(&rota, &upstream, 2).await;
    let mut poison = Scene::tenant(&rota).await;
    poison.key.model = "poison".to_owned();
    poison.add_model(&upstream.base_url()).await;
    poison.add_configs(2).await;
    poison.enable().await;
    for scene in [&poison, &well] {
        check_every_second(scene).await;
    }
    let panics = async || counts(&rota.metrics().await, "rota_task_contained_panics_total")["health_checks"];
    eventually(PATIENCE, async || match panics().await {
        count if count > 1 => Ok(()),
        count => Err(format!("{count} panics")),
    })
    .await;
    for scene in [&poison, &well] {
        cool(scene).await;
    }
    is_warm_again(&well).await;
    assert!(poison.configs_now().await[0].in_cooldown, "its checks panic");
    // It serves all the same, and the task has not failed.
    poison.ask().await.unwrap();
    assert_eq!(counts(&rota.metrics().await, "rota_task_failures_total")["health_checks"], 0);
    let thing = format!("thing={}/upstream/poison", poison.tenant);
    assert!(rota.logs().contains(&thing), "{thing} is not in {}", rota.logs());
}
