//! Redis goes, hangs, is slow, is full. No call fails; `degraded` says where a replica decides alone.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Extent, Fleet, Row, all_served, felt, served, served_since};
use crate::support::{
    callers::{Call, Callers},
    postgres::Postgres,
    proxy::Proxy,
    redis::Redis,
    rota::Rota,
};

/// The command timeout. A machine that is busy with other tests must not look like a Redis that hangs.
const TIMEOUT: &str = "1s";

async fn two_replicas(url: String) -> Fleet {
    let database = Postgres::shared().await.fresh_database();
    let settings = Rota::builder().redis(url).database(database).arg("--redis-timeout").arg(TIMEOUT);
    Fleet::start([settings.clone(), settings]).await
}

/// Waits until replicas say that they decide alone.
async fn alone(callers: &Callers, since: Instant) {
    served_since(callers, since, 5, |call| call.degraded).await;
}

/// Waits until state has been shared again for so many calls, and ends them.
async fn shared_again(callers: Callers, over: Instant, calls: usize) -> Vec<Call> {
    served_since(&callers, over, calls, |call| !call.degraded).await;
    callers.end().await
}

fn row(fault: &'static str, calls: &[Call], over: Instant) -> Row {
    all_served(fault, calls);
    let alone = calls.iter().filter(|call| call.degraded).count();
    let slowest = calls.iter().map(|call| call.ended - call.began).max().unwrap_or_default();
    let beside = format!("{alone} decided without it; the slowest took {slowest:.1?}");
    Row::new(fault, calls, beside).after(over, calls, felt)
}

pub async fn killed(extent: Extent) -> Row {
    let mut redis = Redis::start().await;
    let fleet = two_replicas(redis.url()).await;
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    redis.kill9();
    let gone = Instant::now();
    alone(&callers, gone).await;
    sleep(extent.fault).await;
    redis.restart().await;
    let over = Instant::now();
    let calls = shared_again(callers, over, extent.calls).await;
    row("Redis, kill -9, back empty", &calls, over)
}

pub async fn hung(extent: Extent) -> Row {
    let redis = Redis::start().await;
    let fleet = two_replicas(redis.url()).await;
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    redis.hang();
    alone(&callers, Instant::now()).await;
    sleep(extent.fault).await;
    redis.resume();
    let over = Instant::now();
    let calls = shared_again(callers, over, extent.calls).await;
    row("Redis hangs (SIGSTOP, SIGCONT)", &calls, over)
}

pub async fn slow(extent: Extent) -> Row {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let fleet = two_replicas(format!("redis://127.0.0.1:{}", proxy.port())).await;
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    // Slow, but within the timeout: calls wait for it.
    proxy.delay(Duration::from_millis(50));
    served_since(&callers, Instant::now(), extent.calls, |call| {
        call.ended - call.began >= Duration::from_millis(100)
    })
    .await;
    // Too slow: from then on nobody waits.
    proxy.delay(Duration::from_millis(1500));
    alone(&callers, Instant::now()).await;
    sleep(extent.fault).await;
    proxy.delay(Duration::ZERO);
    let over = Instant::now();
    let calls = shared_again(callers, over, extent.calls).await;
    row("Redis is slow: 100 ms, then 3 s a command", &calls, over)
}

pub async fn full(extent: Extent) -> Row {
    let redis = Redis::start().await;
    let fleet = two_replicas(redis.url()).await;
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    alone(&callers, Instant::now()).await;
    sleep(extent.fault).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let over = Instant::now();
    let calls = shared_again(callers, over, extent.calls).await;
    row("Redis is out of memory (`noeviction`)", &calls, over)
}
