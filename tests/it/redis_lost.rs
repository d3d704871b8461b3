//! Redis killed, hung and back again, under load, through the real program.

use std::{process::Command, time::Duration};

use rota::scripted::{Script, Upstream};
use tokio::time::sleep;

use crate::support::{eventually, load::Load, postgres::Postgres, redis::Redis, rota::Rota, world::Scene};

const CALLERS: usize = 16;

async fn scene_on(redis: &Redis, members: usize) -> (Rota, Upstream, Scene) {
    let database = Postgres::shared().await.fresh_database();
    let builder = Rota::builder().redis(redis.url()).database(database);
    let rota = builder.arg("--redis-timeout").arg("250ms").start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, members).await;
    for key in &scene.keys {
        upstream.script(key, Script::Answer.after(Duration::from_millis(10)));
    }
    (rota, upstream, scene)
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
    let (rota, upstream, scene) = scene_on(&redis, 4).await;
    // One is cooling before the loss, by the provider's word.
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    for _ in 0..4 {
        scene.ask().await.unwrap();
    }
    assert_eq!(upstream.hits(&scene.keys[0]), 1);

    let load = Load::on([&scene], CALLERS);
    sleep(Duration::from_millis(300)).await;
    redis.kill9();
    degraded(&scene, true, Duration::from_secs(2)).await;
    let before = scene.hits(&upstream);
    sleep(Duration::from_secs(1)).await;
    let alone: Vec<_> = scene.hits(&upstream).iter().zip(&before).map(|(now, then)| now - then).collect();
    redis.restart().await;
    degraded(&scene, false, Duration::from_secs(2)).await;
    sleep(Duration::from_millis(300)).await;
    load.end().await;

    assert_eq!(upstream.hits(&scene.keys[0]), 1, "a cooldown that was known is kept, there and back");
    // Callers are somewhere within their calls when the counts are read.
    let spread = alone[1..].iter().max().unwrap() - alone[1..].iter().min().unwrap();
    assert!(spread <= 2 && alone[1] > 10, "{alone:?}");
    let now = scene.configs_now().await;
    assert!(now[0].in_cooldown, "the cooldown was brought to the empty Redis");
    assert!(now.iter().all(|config| config.in_flight == 0), "{now:?}");
    let logs = rota.logs();
    for line in ["Redis is away", "Redis is back"] {
        assert_eq!(logs.matches(line).count(), 1, "{line}: {logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_never_answers_costs_one_timeout_at_most() {
    let redis = Redis::start().await;
    let (_rota, _upstream, scene) = scene_on(&redis, 3).await;
    let load = Load::on([&scene], CALLERS);
    sleep(Duration::from_millis(300)).await;
    redis.hang();
    degraded(&scene, true, Duration::from_secs(2)).await;
    sleep(Duration::from_secs(1)).await;
    redis.resume();
    degraded(&scene, false, Duration::from_secs(3)).await;
    let took = load.end().await;
    let slow = took.iter().filter(|took| **took > Duration::from_millis(200)).count();
    // Those that were on their way to it when it hung, and those again when a probe went unanswered: none.
    assert!(slow <= CALLERS + 1, "{slow} of {} calls waited", took.len());
    assert!(took[took.len() - 1] < Duration::from_millis(900), "{:?}", took[took.len() - 1]);
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

impl Redis {
    /// Stops it in its tracks: it accepts, and never answers.
    fn hang(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let port = self.port().to_string();
        let status = Command::new("pkill")
            .args([&format!("-{name}"), "-f", &format!("redis-server.*{port}")])
            .status();
        assert!(status.unwrap().success(), "no redis-server on {port}");
    }
}
