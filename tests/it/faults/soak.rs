//! Steady load over a long time, while configs are edited, providers fail, members cool and readers leave: no call may
//! fail, and nothing may grow. The suite runs it briefly; `make soak` for 30 minutes, or `SOAK_SECONDS`.

use std::{
    env, fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rota::scripted::Script;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Fleet, PATIENCE, all_served, served, table};
use crate::support::{
    callers::{Call, Count, Kind},
    eventually,
    postgres::Postgres,
    prometheus::value,
    redis::Redis,
    rota::{Builder, Rota},
    world::config,
};

const CALLERS: Count = Count { unary: 4, stream: 4, cancel: 2 };
/// What a provider takes for each piece of an answer.
const PIECE: Duration = Duration::from_millis(50);
/// Between two edits of the model's configs, and between two turns of a provider's mood.
const EDITS: Duration = Duration::from_millis(500);
/// A fit over noise has a slope of its own: what it may come to over the time that is measured.
const GROWTH_BRIEF: [f64; 4] = [32.0, 24.0, 24.0, 8.0];
const GROWTH: [f64; 4] = [16.0, 8.0, 8.0, 4.0];
const WHAT: [&str; 4] = ["MiB resident", "descriptors", "tasks", "threads"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows() {
    Box::pin(run(Duration::from_secs(20), GROWTH_BRIEF)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 30 minutes and writes docs/measurements/reliability.md: `make soak`"]
async fn nothing_grows_over_a_long_time() {
    let seconds = env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1800);
    let lines = Box::pin(run(Duration::from_secs(seconds), GROWTH)).await;
    let head = "| replicas | calls | streams | left midway | failed | moved on | edits | resident, MiB | descriptors | tasks | threads |\n\
                |---|---|---|---|---|---|---|---|---|---|---|\n";
    let minutes = format!(
        "\n{} minutes; two values: the mean of the first and of the last tenth after warming up.\n",
        seconds / 60
    );
    let text = head.to_owned() + &lines.concat() + &minutes;
    table::write("soak", &text);
    println!("{text}");
}

/// Embedded, and two replicas on Redis and PostgreSQL, at the same time. A line of the table each.
async fn run(time: Duration, growth: [f64; 4]) -> [String; 2] {
    // So that what a call has opened is closed soon after the end.
    let settings = Rota::builder().arg("--upstream-idle-time").arg("1s");
    let fleet = settings
        .clone()
        .redis(Redis::shared().await.url())
        .database(Postgres::shared().await.fresh_database());
    let (embedded, shared) = tokio::join!(
        soak("embedded", [settings], time, growth),
        soak("two on Redis", [fleet.clone(), fleet], time, growth)
    );
    [embedded, shared]
}

async fn soak(
    mode: &str,
    replicas: impl IntoIterator<Item = Builder>,
    time: Duration,
    growth: [f64; 4],
) -> String {
    let fleet = Fleet::start(replicas).await;
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
    let (edits, samples) = tokio::join!(edit(&fleet, &stop), measure(&fleet, time, &stop));
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
    let count = |kind| calls.iter().filter(|call: &&Call| call.kind == kind).count();
    let moved = calls.iter().filter(|call| call.attempts > 1).count();
    assert!(moved > 0 && edits > 0, "{moved} calls moved on, {edits} edits: nothing was tried");
    let [memory, descriptors, tasks, threads] = told.map(|replicas| replicas.join(", "));
    format!(
        "| {mode} | {} | {} | {} | 0 | {moved} | {edits} | {memory} | {descriptors} | {tasks} | {threads} |\n",
        count(Kind::Unary),
        count(Kind::Stream),
        count(Kind::Cancelled)
    )
}

/// Gives one config after the other a new key, and providers of two of the four a new mood. Returns how often.
async fn edit(fleet: &Fleet, stop: &AtomicBool) -> usize {
    let moods = [
        Script::fail_for(429, "1"),
        Script::Slow(PIECE),
        Script::fail(500),
        Script::Close,
        Script::BreakAfter(0),
        Script::Slow(PIECE),
    ];
    let key = || format!("key-{}", Uuid::new_v4().simple());
    let mut scene = fleet.scene.clone();
    let mut keys: [String; 4] = std::array::from_fn(|_| key());
    let mut edits = 0;
    while !stop.load(Ordering::Relaxed) {
        keys[edits % 4] = key();
        for (i, key) in keys.iter().enumerate() {
            let mood = if i < 2 { Script::Slow(PIECE) } else { moods[(edits / 4 + i) % moods.len()].clone() };
            fleet.upstream.script(key, mood);
        }
        let configs = keys.iter().enumerate().map(|(i, key)| config(&format!("config-{i}"), key)).collect();
        scene.put_configs(configs).await;
        edits += 1;
        sleep(EDITS).await;
    }
    edits
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
