//! Steady load over a long time, while configs are edited, providers fail and hang, their connections end early, members
//! cool, readers leave, and both stores fail at random: no call may fail, and nothing may grow. The suite runs it briefly;
//! `make soak` for 30 minutes, or `SOAK_SECONDS`.

use std::{
    env, fs,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rota::{
    api::pb::{BalancingPolicy, LoadBalancingConfig, UpdateLoadBalancingConfigsRequest},
    scripted::{Script, Upstream},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Fleet, PATIENCE, all_served, served, table, writer::AWAY};
use crate::support::{
    callers::{Call, Count, Kind},
    door::Door,
    eventually,
    failure::told,
    postgres::Postgres,
    prometheus::value,
    redis::Redis,
    rota::{Builder, Rota},
    sealed::{Allows, Sealed},
    world::config,
};

const CALLERS: Count = Count { unary: 4, stream: 4, cancel: 2 };
/// What a provider takes for each piece of an answer.
const PIECE: Duration = Duration::from_millis(50);
/// Between two edits of the model's configs, and between two turns of a provider's mood.
const EDITS: Duration = Duration::from_millis(500);
/// Of an attempt: a config that hangs is told by it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Whose key is replaced next. A call that has found one config of those that are well gone must find the other.
const TURNS: [usize; 10] = [2, 3, 2, 3, 0, 2, 3, 2, 3, 1];
/// Of a Redis command. A machine that is busy with other tests must not look like a Redis that hangs.
const REDIS_TIMEOUT: &str = "1s";
/// Between two faults of connections or stores, in milliseconds.
const PAUSE: Range<u64> = 300..3000;
/// How long a store hangs, in milliseconds.
const HANG: Range<u64> = 100..2500;
/// What is in Redis in the end, as lines of keys, fields and values, however many keys of configs were replaced.
const KEPT: usize = 100;
/// A fit over noise has a slope of its own: what it may come to over the time that is measured.
const GROWTH_BRIEF: [f64; 4] = [32.0, 24.0, 24.0, 8.0];
const GROWTH: [f64; 4] = [16.0, 8.0, 8.0, 4.0];
const WHAT: [&str; 4] = ["MiB resident", "descriptors", "tasks", "threads"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows() {
    let seed = rand::random();
    println!("faults by the seed {seed}");
    Box::pin(run(seed, Duration::from_secs(20), GROWTH_BRIEF)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 30 minutes and writes docs/measurements/reliability.md: `make soak`"]
async fn nothing_grows_over_a_long_time() {
    let seconds = env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1800);
    let seed = rand::random();
    println!("faults by the seed {seed}");
    let lines = Box::pin(run(seed, Duration::from_secs(seconds), GROWTH)).await;
    let head = "| replicas | calls | streams | left midway | failed | moved on | edits | faults | resident, MiB | descriptors | tasks | threads | Redis keys |\n\
                |---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    let minutes = format!(
        "\n{} minutes; two values: the mean of the first and of the last tenth after warming up.\n",
        seconds / 60
    );
    let text = head.to_owned() + &lines.concat() + &minutes;
    table::write("soak", &text);
    println!("{text}");
}

/// Embedded, and two replicas on Redis and PostgreSQL, at the same time. A line of the table each.
async fn run(seed: u64, time: Duration, growth: [f64; 4]) -> [String; 2] {
    let (redis, postgres) = (Redis::start().await, Postgres::start().await);
    // So that what a call has opened is closed soon after the end.
    let settings = Rota::builder().arg("--upstream-idle-time").arg("1s");
    let shared = settings
        .clone()
        .redis(redis.url())
        .arg("--redis-timeout")
        .arg(REDIS_TIMEOUT)
        .database(postgres.fresh_database());
    let (embedded, shared) = tokio::join!(
        soak("embedded", seed, &settings, 1, None, time, growth),
        soak("two on Redis", seed, &shared, 2, Some(Stores { redis, postgres }), time, growth)
    );
    [embedded, shared]
}

/// The stores of a fleet.
struct Stores {
    redis: Redis,
    postgres: Postgres,
}

async fn soak(
    mode: &str,
    seed: u64,
    settings: &Builder,
    replicas: usize,
    stores: Option<Stores>,
    time: Duration,
    growth: [f64; 4],
) -> String {
    let (upstream, folder) = (Upstream::start().await.unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("ca.pem");
    let door = Door::to(&upstream).await;
    let sealed = Sealed::to(&upstream, Allows { streams: Some(10), calls: Some(100) }, &file).await;
    let settings = settings.clone().arg("--upstream-ca").arg(file.to_string_lossy());
    let fleet = Fleet::of(upstream, vec![settings; replicas]).await;
    let timeout = Some(TIMEOUT.try_into().unwrap());
    let policy = BalancingPolicy {
        attempt_timeout: timeout,
        first_token_timeout: timeout,
        ..BalancingPolicy::default()
    };
    fleet.scene.set_policy(policy).await;
    for key in &fleet.scene.keys {
        fleet.upstream.script(key, Script::Slow(PIECE));
    }
    let mut idle = Vec::new();
    for rota in &fleet.rotas {
        idle.push(sample(rota).await);
    }
    let callers = fleet.callers(CALLERS).await;
    served(&callers, 10).await;
    let stop = AtomicBool::new(false);
    let ways = [door.base_url(), sealed.base_url()];
    let (edits, (faults, stores), samples) = tokio::join!(
        edit(&fleet, &ways, &stop),
        trouble(seed, &door, stores, &stop),
        measure(&fleet, time, &stop)
    );
    let calls = callers.end().await;
    all_served(mode, &calls);

    let mut told = [const { Vec::new() }; 4];
    for (rota, samples) in samples.iter().enumerate() {
        for (i, what) in WHAT.iter().enumerate() {
            let values: Vec<f64> = samples.iter().map(|sample| sample[i]).collect();
            let grown = slope(&values) * values.len() as f64;
            let tenth = (values.len() / 10).max(1);
            let (first, last) = (mean(&values[..tenth]), mean(&values[values.len() - tenth..]));
            assert!(
                grown < growth[i],
                "{mode}, replica {rota}: {grown:.1} more {what} by fit, {first:.1} to {last:.1}: {values:?}"
            );
            told[i].push(format!("{first:.0} → {last:.0}"));
        }
    }
    // All that calls have begun has ended.
    for (rota, idle) in fleet.rotas.iter().zip(idle) {
        eventually(PATIENCE, async || match sample(rota).await {
            // A connection of this test's own may be there, or not yet.
            [_, descriptors, tasks, _] if tasks <= idle[2] + 4.0 && descriptors <= idle[1] + 24.0 => Ok(()),
            now => Err(format!("{mode}: {now:?} after all calls, {idle:?} before: {WHAT:?}")),
        })
        .await;
    }
    eventually(PATIENCE, async || match fleet.scene.configs_now().await {
        configs if configs.iter().all(|config| config.in_flight == 0) => Ok(()),
        configs => Err(format!("{configs:#?}")),
    })
    .await;
    let mut kept = String::from("–");
    if let Some(Stores { redis, .. }) = &stores {
        eventually(PATIENCE, async || match redis.everything().await {
            all if all.lines().count() < KEPT => Ok(()),
            all => Err(format!("{mode}: in Redis there is\n{all}")),
        })
        .await;
        kept = redis.command(&["DBSIZE"]).await;
    }
    let count = |kind| calls.iter().filter(|call: &&Call| call.kind == kind).count();
    let moved = calls.iter().filter(|call| call.attempts > 1).count();
    assert!(
        moved > 0 && edits > 0 && faults > 0,
        "{moved} calls moved on, {edits} edits, {faults} faults: nothing was tried"
    );
    let [memory, descriptors, tasks, threads] = told.map(|replicas| replicas.join(", "));
    format!(
        "| {mode} | {} | {} | {} | 0 | {moved} | {edits} | {faults} | {memory} | {descriptors} | {tasks} | {threads} | {kept} |\n",
        count(Kind::Unary),
        count(Kind::Stream),
        count(Kind::Cancelled)
    )
}

/// Gives one config or another a new key, and providers of two of the four a new mood. The others are called over these
/// ways. Returns how often.
async fn edit(fleet: &Fleet, ways: &[String; 2], stop: &AtomicBool) -> usize {
    let moods = [
        Script::fail_for(429, "1"),
        Script::Slow(PIECE),
        Script::fail(500),
        Script::Close,
        Script::BreakAfter(0),
        Script::Hang,
        Script::Slow(PIECE),
    ];
    let key = || format!("key-{}", Uuid::new_v4().simple());
    let mut client = fleet.scene.clients.config.clone();
    let mut keys: [String; 4] = std::array::from_fn(|_| key());
    let mut edits = 0;
    while !stop.load(Ordering::Relaxed) {
        keys[TURNS[edits % TURNS.len()]] = key();
        for (i, key) in keys.iter().enumerate() {
            let mood = if i < 2 { Script::Slow(PIECE) } else { moods[(edits / 4 + i) % moods.len()].clone() };
            fleet.upstream.script(key, mood);
        }
        let configs = keys.iter().enumerate().map(|(i, key)| LoadBalancingConfig {
            base_url: ways.get(i).cloned().unwrap_or_default(),
            ..config(&format!("config-{i}"), key)
        });
        let request = UpdateLoadBalancingConfigsRequest {
            key: Some(fleet.scene.key.clone()),
            configs: configs.collect(),
            ..Default::default()
        };
        if let Err(status) = client.update_load_balancing_configs(request).await {
            assert_eq!(told(&status).1, AWAY, "{status:?}");
        }
        edits += 1;
        sleep(EDITS).await;
    }
    edits
}

/// Lets connections to a provider end, and stores hang or start again, at random. Returns how often, and the stores, which
/// are well then.
async fn trouble(
    seed: u64,
    door: &Door,
    mut stores: Option<Stores>,
    stop: &AtomicBool,
) -> (usize, Option<Stores>) {
    let (mut rng, mut faults) = (StdRng::seed_from_u64(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        let hang = Duration::from_millis(rng.random_range(HANG));
        match (rng.random_range(0..8), &mut stores) {
            (0, Some(stores)) => stores.redis.restart().await,
            (1, Some(stores)) => stores.postgres.restart().await,
            (2, Some(stores)) => {
                stores.redis.hang();
                sleep(hang).await;
                stores.redis.resume();
            }
            (3, Some(stores)) => {
                let hung = stores.postgres.hang();
                sleep(hang).await;
                drop(hung);
            }
            (other, _) => {
                door.resets(other % 2 == 0);
                door.forget();
            }
        }
        faults += 1;
        sleep(Duration::from_millis(rng.random_range(PAUSE))).await;
    }
    (faults, stores)
}

/// What each replica takes, every second or so, after a quarter of the time for warming up.
async fn measure(fleet: &Fleet, time: Duration, stop: &AtomicBool) -> Vec<Vec<[f64; 4]>> {
    sleep(time / 4).await;
    let end = Instant::now() + time * 3 / 4;
    let mut samples = vec![Vec::new(); fleet.rotas.len()];
    while Instant::now() < end {
        for (rota, samples) in fleet.rotas.iter().zip(&mut samples) {
            samples.push(sample(rota).await);
        }
        sleep(Duration::from_secs(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    samples
}

async fn sample(rota: &Rota) -> [f64; 4] {
    let tasks = value(&rota.metrics().await, "rota_runtime_tasks", &[]);
    assert!(tasks > 0, "rota_runtime_tasks is not told");
    let threads = fs::read_dir(format!("/proc/{}/task", rota.id())).unwrap().count();
    [
        rota.resident().unwrap() as f64 / 1024.0,
        rota.descriptors().unwrap() as f64,
        tasks as f64,
        threads as f64,
    ]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of the line of least squares, a sample.
fn slope(values: &[f64]) -> f64 {
    let (x, y) = ((values.len() - 1) as f64 / 2.0, mean(values));
    let (mut up, mut along) = (0.0, 0.0);
    for (i, value) in values.iter().enumerate() {
        up += (i as f64 - x) * (value - y);
        along += (i as f64 - x) * (i as f64 - x);
    }
    up / along
}

#[test]
fn a_slope_is_found_under_noise() {
    let noisy = |rise: f64| (0..100).map(|i| rise * f64::from(i) + f64::from(i * 7 % 5)).collect::<Vec<_>>();
    assert!((slope(&noisy(0.5)) - 0.5).abs() < 0.01 && slope(&noisy(0.0)).abs() < 0.01);
}
