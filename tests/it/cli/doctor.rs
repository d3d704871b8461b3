//! `rota doctor`: what it finds on real servers, well and broken.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use rota::{
    api::pb::{ErrorClass, SetCooldownRequest},
    scripted::{Script, Upstream},
};
use serde_json::Value;

use crate::support::{
    collector::Collector, pgbouncer::PgBouncer, postgres::Postgres, process::free_port, redis::Redis,
    redis_cluster::RedisCluster, redis_sentinel::RedisSentinel, redis_tls::RedisTls, rota::Rota,
    world::Scene,
};

/// The findings of a run: its exit status, and name, level, found and next of each.
struct Findings {
    status: Option<i32>,
    text: String,
    checks: Vec<Value>,
}

impl Findings {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{said}"));
        let checks = json["checks"].as_array().unwrap().clone();
        for check in &checks {
            assert!(check["name"].is_string() && check["found"].is_string(), "{check}");
            assert_eq!(check["next"].is_null(), check["level"] == "ok", "{check}");
        }
        Self { status: output.status.code(), text: text + &said, checks }
    }

    #[track_caller]
    fn has(&self, name: &str, level: &str, found: &str) -> &Value {
        let check = self.checks.iter().find(|check| {
            check["name"].as_str().unwrap().starts_with(name)
                && check["level"] == level
                && check["found"].as_str().unwrap().contains(found)
        });
        check.unwrap_or_else(|| panic!("no {level} {name} {found}: {}", self.text))
    }
}

fn examined(rota: &Rota, args: &[&str]) -> Findings {
    Findings::of(&rota.output(&[&["doctor", "--json", "--redis-timeout", "20s"], args].concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_on_sqlite_and_redis_for_people_and_machines() {
    let rota = Rota::shared_on_redis().await;
    // The folder of a test is open to others, that of a first start is not.
    fs::set_permissions(rota.data_dir(), Permissions::from_mode(0o700)).unwrap();
    let found = examined(rota, &[]);
    for name in ["settings", "data directory", "database", "migrations", "master key", "redis memory"] {
        found.has(name, "ok", "");
    }
    let text = String::from_utf8(rota.output(&["doctor", "--redis-timeout", "5s"]).stdout).unwrap();
    assert!(text.contains("ok       master key") && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_waits_for_its_migrations_is_left_alone() {
    let postgres = Postgres::shared().await;
    let url = postgres.fresh_database();
    let found = Findings::of(&Rota::builder().database(&url).output(&["doctor", "--json"]));
    assert_eq!(found.status, Some(0), "{}", found.text);
    found.has("migrations", "warning", "pending");
    found.has("database clock", "ok", "");
    assert_eq!(postgres.sql(&url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_recognized_and_told_what_to_set() {
    let postgres = Postgres::shared().await;
    let database = postgres.fresh_database();
    let doctor = |url: String| Findings::of(&Rota::builder().database(url).output(&["doctor", "--json"]));
    let pooler = PgBouncer::start(postgres, "transaction", 2).await;
    doctor(pooler.url(&database)).has("database", "ok", "behind a pooler in transaction mode");
    // PgBouncer before 1.20 knows no such parameter at all.
    let asks = doctor(pooler.url(&database) + "?options=-c%20search_path%3Dpublic");
    asks.has("database", "failure", "unsupported startup parameter: options");
    let pooler = PgBouncer::start(postgres, "statement", 2).await;
    let found = doctor(pooler.url(&database));
    found.has("database", "failure", "set its pool_mode to transaction or session");
    assert_eq!(found.status, Some(1));
    let direct = doctor(database);
    assert!(!direct.text.contains("pooler"), "{}", direct.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_found_at_an_ipv6_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        return println!("this machine has no IPv6");
    }
    let url = Postgres::shared().await.fresh_database().replace("127.0.0.1", "[::1]");
    Findings::of(&Rota::builder().database(url).output(&["doctor", "--json"])).has("database", "ok", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_redis_refuses_is_named() {
    let redis = Redis::start().await;
    let user = "ACL SETUSER narrow on >hunter2 ~rota:* &rota:* +@all -hset -zadd";
    redis.command(&user.split(' ').collect::<Vec<_>>()).await;
    let url = format!("redis://narrow:hunter2@127.0.0.1:{}", redis.port());
    let args = ["doctor", "--json", "--redis-timeout", "20s"];
    let found = Findings::of(&Rota::builder().redis(&url).output(&args));
    found.has("redis permissions", "failure", "hset, zadd");
    assert_eq!(found.status, Some(1));
    assert!(!found.text.contains("hunter2"), "{}", found.text);
    redis.command(&["ACL", "SETUSER", "narrow", "+hset", "+zadd", "-subscribe"]).await;
    let quick = ["doctor", "--json", "--redis-timeout", "1s"];
    let found = Findings::of(&Rota::builder().redis(&url).output(&quick));
    found.has("redis permissions", "failure", "subscribe");
    redis.command(&["ACL", "SETUSER", "narrow", "+subscribe"]).await;
    Findings::of(&Rota::builder().redis(&url).output(&args)).has("redis permissions", "ok", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_is_told_beside_the_rest_and_no_secret() {
    let postgres = Postgres::shared().await;
    let url = postgres.fresh_database();
    let built = Rota::builder().database(&url);
    assert!(built.output(&["migrate"]).status.success());
    // Another random key.
    let wrong = Rota::builder()
        .database(&url)
        .redis(format!("redis://:hunter2@127.0.0.1:{}", free_port()))
        .output(&["doctor", "--json", "--drain-limit", "soon"]);
    let found = Findings::of(&wrong);
    assert_eq!(found.status, Some(1));
    found.has("settings", "failure", "--drain-limit");
    found.has("database", "ok", "PostgreSQL");
    found.has("master key", "failure", "does not open");
    found.has("redis", "failure", "IO: Connection refused");
    assert!(!found.text.contains("hunter2"), "{}", found.text);

    let away = format!("postgres://rota:hunter2@127.0.0.1:{}/rota", free_port());
    let found = Findings::of(&Rota::builder().database(away).output(&["doctor", "--json"]));
    assert_eq!(found.status, Some(1));
    found.has("database", "failure", "");
    found.has("master key", "warning", "not tried");
    assert!(!found.text.contains("hunter2"), "{}", found.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgets_is_a_warning_and_a_cluster_is_whole() {
    let redis = Redis::start().await;
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let args = ["doctor", "--json", "--redis-timeout", "5s"];
    let found = Findings::of(&Rota::builder().redis(redis.url()).output(&args));
    found.has("redis memory", "warning", "allkeys-lru");
    assert_eq!(found.status, Some(0), "{}", found.text);
    let cluster = RedisCluster::start().await;
    let found = Findings::of(&Rota::builder().redis(cluster.url()).output(&args));
    found.has("redis slots", "ok", "3 primaries");
    found.has("redis latency", "ok", "60 pings");

    cluster.give_up_slots(2, 16000, 16383).await;
    let found = Findings::of(&Rota::builder().redis(cluster.url()).output(&args));
    found.has("redis slots", "failure", "384 slots");
    assert_eq!(found.status, Some(1), "{}", found.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_found_by_sentinels_and_behind_tls() {
    let args = ["doctor", "--json", "--redis-timeout", "5s"];
    let sentinel = RedisSentinel::start().await;
    let found = Findings::of(&Rota::builder().redis(sentinel.url()).output(&args));
    found.has("redis", "ok", "Redis");
    found.has("redis memory", "ok", "noeviction");

    let tls = RedisTls::start().await;
    let found = Findings::of(&Rota::builder().redis(tls.url()).output(&args));
    found.has("redis", "failure", "");
    assert_eq!(found.status, Some(1), "{}", found.text);
    let ca = tls.ca().to_string_lossy().into_owned();
    let with_ca = [&args[..], &["--redis-ca", &ca]].concat();
    let found = Findings::of(&Rota::builder().redis(tls.url()).output(&with_ca));
    found.has("redis", "ok", "Redis");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_not_there_or_forbidden_are_failures() {
    let rota = Rota::builder().start().await;
    let mut scene = Scene::tenant(&rota).await;
    scene.add_model(&format!("http://127.0.0.1:{}/v1", free_port())).await;
    let found = examined(&rota, &[]);
    assert_eq!(found.status, Some(1));
    found.has("provider http://127.0.0.1:", "failure", "takes no connection");
    let public = examined(&rota, &["--upstream-networks", "public"]);
    let forbidden = public.has("provider ", "failure", "loopback");
    assert!(forbidden["next"].as_str().unwrap().contains("--upstream-networks"), "{forbidden}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_walked_and_probed_and_nothing_changes() {
    let upstream = Upstream::start().await.unwrap();
    let redis = Redis::start().await;
    let rota = Rota::builder().redis(redis.url()).start().await;
    let mut scene = Scene::set(&rota, &upstream, 3).await;
    scene.change_configs(|configs| configs[0].enabled = Some(false)).await;
    let request = SetCooldownRequest {
        key: Some(scene.key.clone()),
        config_id: scene.configs[1].id.clone(),
        duration: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        reason: ErrorClass::Connection.into(),
    };
    scene.clients.config.clone().set_cooldown(request).await.unwrap();
    let args = ["--tenant", &scene.tenant, "--model", "chat"];
    let found = examined(&rota, &args);
    assert_eq!(found.status, Some(0), "{}", found.text);
    found.has("config config-0", "ok", "disabled");
    found.has("config config-1", "warning", "cooling for");
    found.has("next config", "ok", "config-2");
    assert_eq!(upstream.total_hits(), 0, "no probe was asked for");

    let probe = [&args[..], &["--probe"]].concat();
    examined(&rota, &probe).has("probe", "ok", "config-2");
    upstream.script(&scene.keys[2], Script::fail(401));
    let refused = examined(&rota, &probe);
    assert_eq!(refused.status, Some(1));
    refused.has("probe", "failure", "AUTHENTICATION");
    examined(&rota, &args).has("next config", "ok", "config-2");
    assert!(scene.keys.iter().all(|key| !refused.text.contains(key.as_str())), "{}", refused.text);
    assert_eq!(examined(&rota, &["--tenant", &scene.tenant, "--model", "no"]).status, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_traces_is_asked_where_there_is_one() {
    // Its own: what else is configured would be asked too.
    let rota = Rota::builder().start().await;
    let found = examined(&rota, &[]);
    assert!(!found.text.contains("collector"), "{}", found.text);
    let collector = Collector::start().await;
    examined(&rota, &["--otlp-endpoint", &collector.endpoint()]).has(
        "trace collector",
        "ok",
        "takes connections",
    );
    let gone = format!("http://127.0.0.1:{}", free_port());
    let found = examined(&rota, &["--otlp-endpoint", &gone]);
    found.has("trace collector", "warning", "takes no connection");
    assert_eq!(found.status, Some(0), "{}", found.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_no_command_unless_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let command = format!("touch {}; head -c 32 /dev/urandom | base64", ran.display());
    let doctor = |args: &[&str]| {
        let settings = ["doctor", "--json", "--master-key-command", command.as_str()];
        Findings::of(&Rota::builder().output(&[&settings, args].concat()))
    };
    doctor(&[]).has("master key", "warning", "was not run");
    assert!(!ran.exists());
    doctor(&["--run-command"]).has("master key", "warning", "not tried");
    assert!(ran.exists());
}

#[test]
fn it_reads_no_settings_that_somebody_else_may_have_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rota.toml");
    let ran = folder.path().join("ran");
    let settings = format!("master-key-command = \"touch {}\"\nlisten = \"nowhere\"\n", ran.display());
    fs::write(&file, settings).unwrap();
    let doctor = |of_folder: u32, of_file: u32| {
        fs::set_permissions(folder.path(), Permissions::from_mode(of_folder)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(of_file)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
        let data = folder.path().join("data");
        command.args(["doctor", "--json", "--run-command", "--data-dir"]).arg(data);
        Findings::of(&command.current_dir(folder.path()).output().unwrap())
    };
    for (of_folder, of_file) in
        [(0o777, 0o600), (0o1777, 0o600), (0o775, 0o600), (0o700, 0o666), (0o700, 0o620)]
    {
        let found = doctor(of_folder, of_file);
        found.has("settings file", "failure", "is not read");
        assert!(!ran.exists() && !found.text.contains("nowhere"), "{}", found.text);
        assert_eq!(found.status, Some(1));
    }
    doctor(0o755, 0o644).has("settings", "failure", "--listen");
    assert!(ran.exists());
}
