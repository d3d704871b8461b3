//! What a scrape of `/metrics` tells, and what it costs in labels.

use std::time::Duration;

use rota::{
    api::pb::ModelKey,
    scripted::{Script, Upstream},
};

use crate::support::{
    eventually, postgres::Postgres, prometheus::value, read, redis::Redis, rota::Rota, world::Scene,
};

/// One of its own: the one that tests share serves more models than have labels of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_of_calls_attempts_cooldowns_and_pools() {
    a_scrape_tells_what_happened(&Rota::builder().start().await, "memory").await;
    let settings = Rota::builder().redis(Redis::shared().await.url());
    a_scrape_tells_what_happened(&settings.start().await, "shared").await;
}

async fn a_scrape_tells_what_happened(rota: &Rota, mode: &str) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    for _ in 0..4 {
        scene.ask().await.unwrap();
    }
    read(scene.open_stream().await.unwrap()).await.1.unwrap();
    let text = rota.metrics().await;
    let own = [("rota_tenant", scene.tenant.as_str())];
    let with = |labels: &[(&'static str, &'static str)]| [own.as_slice(), labels].concat();
    let attempts = "gen_ai_client_operation_duration_seconds_count";
    assert_eq!(value(&text, attempts, &with(&[("error_type", "RATE_LIMITED")])), 1);
    assert_eq!(value(&text, attempts, &with(&[("error_type", "")])), 5);
    assert_eq!(value(&text, attempts, &with(&[("error_type", ""), ("gen_ai_operation_name", "chat")])), 5);
    assert_eq!(value(&text, "rota_cooldowns_total", &with(&[("error_type", "RATE_LIMITED")])), 1);
    assert_eq!(value(&text, "gen_ai_client_operation_time_to_first_chunk_seconds_count", &own), 1);
    let tokens = "gen_ai_client_token_usage_sum";
    assert_eq!(value(&text, tokens, &with(&[("gen_ai_token_type", "input")])), 50);
    assert_eq!(value(&text, tokens, &with(&[("gen_ai_token_type", "output")])), 15);
    assert_eq!(value(&text, "rota_pool_members", &with(&[("standing", "eligible")])), 2);
    assert_eq!(value(&text, "rota_pool_members", &with(&[("standing", "cooling")])), 1);
    let method = ("rpc_method", "rota.v1.InvokeService/InvokeLlm");
    let calls = "rpc_server_call_duration_seconds_count";
    assert!(value(&text, calls, &[method, ("rpc_response_status_code", "OK")]) >= 4);
    let stream = ("rpc_method", "rota.v1.InvokeService/StreamLlm");
    assert!(value(&text, calls, &[stream, ("rpc_response_status_code", "OK")]) >= 1);
    assert!(value(&text, "rota_pick_duration_seconds_count", &[("outcome", "granted")]) >= 5);
    let commands = "rota_state_store_command_duration_seconds_count";
    let acquired = value(&text, commands, &[("operation", "acquire"), ("outcome", "ok")]);
    assert!(if mode == "shared" { acquired >= 6 } else { acquired == 0 }, "{acquired} in {mode}");
    assert!(value(&text, "rota_config_revision", &[]) > 0);
    assert_eq!(value(&text, "rota_state_store", &[("mode", mode)]), 1);
    assert_eq!(value(&text, "rota_ready", &[]), 1);
    assert_eq!(value(&text, "rota_database_up", &[]), 1);
    assert_eq!(value(&text, "rota_build", &[("version", env!("CARGO_PKG_VERSION"))]), 1);
    assert!(!scene.keys.iter().any(|key| text.contains(key.as_str())));
    // What is refused is counted too, by its code.
    let unknown = Scene { key: ModelKey { model: "unknown".into(), ..scene.key.clone() }, ..scene.clone() };
    unknown.ask().await.unwrap_err();
    let text = rota.metrics().await;
    assert!(value(&text, calls, &[method, ("rpc_response_status_code", "NOT_FOUND")]) >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_beyond_the_bound_share_their_labels() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().arg("--metrics-models").arg("2").start().await;
    for _ in 0..4 {
        Scene::set(&rota, &upstream, 2).await.ask().await.unwrap();
    }
    let text = rota.metrics().await;
    let attempts = "gen_ai_client_operation_duration_seconds_count";
    let lines = text.lines().filter(|line| line.starts_with(attempts));
    assert_eq!(lines.count(), 3, "{text}");
    assert_eq!(value(&text, attempts, &[("rota_tenant", "other")]), 2);
    assert_eq!(value(&text, "rota_state_store", &[("mode", "memory")]), 1);
    assert_eq!(value(&text, "rota_calls_in_flight", &[]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_what_a_replica_lacks() {
    let (mut postgres, mut redis) = (Postgres::start().await, Redis::start().await);
    let settings = Rota::builder().database(postgres.fresh_database()).redis(redis.url());
    let rota = settings.arg("--redis-required").start().await;
    let told = async |ready: u64, database: u64| {
        eventually(Duration::from_secs(30), async || {
            let text = rota.metrics().await;
            let now = (value(&text, "rota_ready", &[]), value(&text, "rota_database_up", &[]));
            if now == (ready, database) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    };
    told(1, 1).await;
    postgres.crash();
    told(1, 0).await;
    redis.kill9();
    told(0, 0).await;
    postgres.restart().await;
    redis.restart().await;
    told(1, 1).await;
}
