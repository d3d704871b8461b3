//! Four replicas, one Redis, 64 callers each, while members fail and recover.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rota::{
    api::pb::Limits,
    scripted::{Script, Upstream},
};
use tokio::task::JoinSet;

use crate::support::{
    eventually, postgres::Postgres, prometheus::value, redis::Redis, rota::Rota, world::Scene,
};

const REPLICAS: usize = 4;
const CALLERS: usize = 64;
const MEMBERS: usize = 6;
/// What the provider asks for with its 429.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Long enough for the other 255 callers to come by while a trial is on its way.
const TRIAL: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn four_replicas_share_fairly_while_members_fail_and_recover() {
    let redis = Redis::start().await;
    let builder = Rota::builder().redis(redis.url()).database(Postgres::shared().await.fresh_database());
    let first = builder.start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&first, &upstream, MEMBERS).await;
    for key in &scene.keys {
        upstream.script(key, usual());
    }
    let mut replicas = vec![first];
    for _ in 1..REPLICAS {
        // One that starts now loads the whole set at once.
        replicas.push(builder.start().await);
    }

    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for replica in &replicas {
        let scene = scene.through(replica).await;
        for _ in 0..CALLERS {
            let (scene, stop, made) = (scene.clone(), stop.clone(), made.clone());
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // No failed call, whatever happens to members: above all no false "all cooling down".
                    scene.ask().await.unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    let busy = async |calls: u64| {
        let before = made.load(Ordering::Relaxed);
        eventually(Duration::from_secs(60), async || match made.load(Ordering::Relaxed) - before {
            now if now >= calls => Ok(()),
            now => Err(format!("{now} of {calls} calls")),
        })
        .await;
    };

    busy(500).await;
    for broken in [0, 1] {
        let key = &scene.keys[broken];
        upstream.script(key, Script::fail_for(429, RETRY_AFTER.as_secs().to_string()));
        quiet(&scene, broken).await;

        // The first trial fails, the second serves. Each is one call, over all replicas.
        upstream.script(key, Script::fail_for(429, RETRY_AFTER.as_secs().to_string()).after(TRIAL));
        one_trial(&upstream, key, &scene.keys[MEMBERS - 1]).await;
        upstream.script(key, usual().after(TRIAL));
        one_trial(&upstream, key, &scene.keys[MEMBERS - 1]).await;
        upstream.script(key, usual());
        let back = upstream.hits(key);
        eventually(Duration::from_secs(10), async || match upstream.hits(key) - back {
            hits if hits > 20 => Ok(()),
            hits => Err(format!("{hits} calls since it is back")),
        })
        .await;
    }
    busy(500).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let hits = scene.hits(&upstream);
    let healthy = &hits[2..];
    assert!(healthy.iter().max().unwrap() - healthy.iter().min().unwrap() <= 1, "{hits:?}");
}

/// Slow enough that the machine can follow, fast enough that callers come by all the time.
fn usual() -> Script {
    Script::Answer.after(Duration::from_millis(60))
}

/// Waits until the config cools on all replicas and the calls that it had have ended.
async fn quiet(scene: &Scene, index: usize) {
    eventually(Duration::from_secs(10), async || {
        let config = scene.configs_now().await.swap_remove(index);
        if config.in_cooldown && config.in_flight == 0 { Ok(()) } else { Err(format!("{config:?}")) }
    })
    .await;
}

/// Waits for the trial after a cooldown and sees that it stays alone while others call a healthy key.
async fn one_trial(upstream: &Upstream, key: &str, healthy: &str) {
    let before = upstream.hits(key);
    eventually(Duration::from_secs(10), async || match upstream.hits(key) - before {
        0 => Err("no trial yet".into()),
        hits => Ok(hits),
    })
    .await;
    let others = upstream.hits(healthy);
    eventually(Duration::from_secs(10), async || match upstream.hits(healthy) - others {
        hits if hits >= 5 => Ok(()),
        hits => Err(format!("{hits} calls of others")),
    })
    .await;
    assert_eq!(upstream.hits(key) - before, 1, "one trial over all replicas");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_replica_had_in_flight_is_forgotten_within_15_seconds() {
    let redis = Redis::start().await;
    let builder = Rota::builder().redis(redis.url()).database(Postgres::shared().await.fresh_database());
    let (survivor, mut victim) = (builder.start().await, builder.start().await);
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(&survivor, &upstream, 2).await;
    let limits = Limits { max_concurrency: 3, ..Limits::default() };
    scene.change_configs(|configs| configs.iter_mut().for_each(|config| config.limits = Some(limits))).await;
    for key in &scene.keys {
        upstream.script(key, Script::Answer.after(Duration::from_secs(60)));
    }
    let there = scene.through(&victim).await;
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let there = there.clone();
        calls.spawn(async move { there.ask().await });
    }
    let becomes = async |wanted: [i32; 2], limit| {
        eventually(limit, async || match scene.in_flight().await {
            now if now == wanted => Ok(()),
            now => Err(format!("{now:?}")),
        })
        .await;
    };
    becomes([3, 3], Duration::from_secs(10)).await;
    // Heartbeats later they still count, though nothing has begun or ended since.
    let heartbeats = async || {
        let labels = [("operation", "heartbeat"), ("outcome", "ok")];
        value(&victim.metrics().await, "rota_state_store_command_duration_seconds_count", &labels)
    };
    let before = heartbeats().await;
    eventually(Duration::from_secs(20), async || match heartbeats().await - before {
        2.. => Ok(()),
        now => Err(format!("{now} heartbeats")),
    })
    .await;
    assert_eq!(scene.in_flight().await, [3, 3]);
    victim.kill9();
    becomes([0, 0], Duration::from_secs(16)).await;
    for key in &scene.keys {
        upstream.script(key, Script::Answer);
    }
    scene.ask().await.expect("room again");
}
