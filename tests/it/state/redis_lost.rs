//! Redis killed, hung and back again, under load, through the real program.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rota::scripted::{Script, Upstream};
use tokio::time::{Instant, sleep_until};

use crate::support::{
    eventually, load::Load, postgres::Postgres, prometheus::value, redis::Redis, rota::Rota, world::Scene,
};

const CALLERS: usize = 16;

/// A machine that is busy with other tests must not look like a Redis that hangs.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long Redis is away.
const AWAY: Duration = Duration::from_secs(10);

/// Replicas on that Redis, and a scene through each.
async fn scenes_on(redis: &Redis, replicas: usize, members: usize) -> (Vec<Rota>, Upstream, Vec<Scene>) {
    let builder = Rota::builder()
        .redis(redis.url())
        .database(Postgres::shared().await.fresh_database())
        .arg("--redis-timeout")
        .arg(format!("{}ms", TIMEOUT.as_millis()));
    let mut rotas = vec![builder.start().await];
    let upstream = Upstream::start().await.unwrap();
    let mut scenes = vec![Scene::set(&rotas[0], &upstream, members).await];
    for key in &scenes[0].keys {
        upstream.script(key, Script::Answer.after(Duration::from_millis(20)));
    }
    for _ in 1..replicas {
        // One that starts now loads the whole set at once.
        let rota = builder.start().await;
        scenes.push(scenes[0].through(&rota).await);
        rotas.push(rota);
    }
    (rotas, upstream, scenes)
}

/// Waits until that many more calls have reached the upstream.
async fn busy(upstream: &Upstream, calls: u64) {
    let before = upstream.total_hits();
    eventually(Duration::from_secs(30), async || match upstream.total_hits() - before {
        now if now >= calls => Ok(()),
        now => Err(format!("{now} of {calls} calls")),
    })
    .await;
}

async fn degraded(scene: &Scene, wanted: bool, limit: Duration) {
    eventually(limit, async || match scene.ask().await.unwrap().route.unwrap().degraded {
        now if now == wanted => Ok(()),
        now => Err(format!("degraded is {now}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_die_under_load_and_come_back() {
    let mut redis = Redis::start().await;
    let (rotas, upstream, scenes) = scenes_on(&redis, 2, 4).await;
    let scene = &scenes[0];
    // One is cooling before the loss, by the provider's word, and each replica has heard of it.
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    for scene in &scenes {
        for _ in 0..4 {
            scene.ask().await.unwrap();
        }
    }
    assert_eq!(upstream.hits(&scene.keys[0]), 1);

    let load = Load::on(&scenes, CALLERS / 2);
    busy(&upstream, 50).await;
    redis.kill9();
    let killed = Instant::now();
    for scene in &scenes {
        degraded(scene, true, Duration::from_secs(5)).await;
    }
    let before = scene.hits(&upstream);
    // The time that it is away is what is tested.
    sleep_until(killed + AWAY).await;
    let alone: Vec<_> = scene.hits(&upstream).iter().zip(&before).map(|(now, then)| now - then).collect();
    redis.restart().await;
    let back = Utc::now();
    for scene in &scenes {
        degraded(scene, false, Duration::from_secs(10)).await;
    }
    busy(&upstream, 50).await;
    load.end().await;

    assert_eq!(upstream.hits(&scene.keys[0]), 1, "a cooldown that was known is kept, there and back");
    // Within 1 for each replica; and callers are somewhere within their calls when the counts are read.
    let spread = alone[1..].iter().max().unwrap() - alone[1..].iter().min().unwrap();
    assert!(spread <= 4 && alone[1] > 10, "{alone:?}");
    let now = scene.configs_now().await;
    assert!(now[0].in_cooldown, "the cooldown was brought to the empty Redis");
    assert!(now.iter().all(|config| config.in_flight == 0), "{now:?}");
    for rota in &rotas {
        let logs = rota.logs();
        for line in ["Redis is away", "Redis is back"] {
            assert_eq!(logs.matches(line).count(), 1, "{line}: {logs}");
        }
        let line = logs.lines().find(|line| line.contains("Redis is back")).unwrap();
        let at: DateTime<Utc> = line.split_whitespace().next().unwrap().parse().unwrap();
        assert!(at - back <= TimeDelta::seconds(2), "shared again at {at}, {} after", at - back);
    }
    // Common state again: turns go on over both.
    let hits = scene.hits(&upstream);
    for turn in 0..6 {
        scenes[turn % 2].ask().await.unwrap();
    }
    let turns: Vec<_> = scene.hits(&upstream).iter().zip(&hits).map(|(now, then)| now - then).collect();
    assert_eq!(turns, [0, 2, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_never_answers_costs_one_timeout_at_most() {
    let redis = Redis::start().await;
    let (rotas, upstream, scenes) = scenes_on(&redis, 1, 3).await;
    let scene = &scenes[0];
    let load = Load::on([scene], CALLERS);
    busy(&upstream, 50).await;
    redis.hang();
    degraded(scene, true, Duration::from_secs(5)).await;
    // Several probes go unanswered meanwhile, at nobody's cost.
    eventually(Duration::from_secs(30), async || {
        let labels = [("operation", "probe"), ("outcome", "failed")];
        match value(&rotas[0].metrics().await, "rota_state_store_command_duration_seconds_count", &labels) {
            2.. => Ok(()),
            failed => Err(format!("{failed} probes have failed")),
        }
    })
    .await;
    redis.resume();
    degraded(scene, false, Duration::from_secs(10)).await;
    let took = load.end().await;
    let waited = took.iter().filter(|took| **took >= TIMEOUT * 9 / 10).count();
    let slowest = took[took.len() - 1];
    println!("{waited} of {} calls waited; the slowest took {slowest:?}", took.len());
    // Those that were on their way to it when it hung, this test's own among them.
    assert!(waited <= CALLERS + 1, "{waited} of {} calls waited", took.len());
    assert!(slowest < 2 * TIMEOUT, "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_on_without_redis_unless_it_is_required() {
    let mut redis = Redis::start().await;
    redis.kill9();
    let alone = Rota::builder().redis(redis.url()).start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&alone, &upstream, 2).await;
    assert!(scene.ask().await.unwrap().route.unwrap().degraded);
    redis.restart().await;
    degraded(&scene, false, Duration::from_secs(5)).await;

    redis.kill9();
    let refused = Rota::builder().redis(redis.url()).arg("--redis-required").try_start().await;
    assert!(refused.is_err());
}
