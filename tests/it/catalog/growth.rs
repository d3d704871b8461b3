//! What growth costs: a million configs, ten thousand idle streams, changes under full load. `make growth` prints the
//! figures of docs/measurements/performance.md.

use std::{
    env,
    time::{Duration, Instant},
};

use rota::{
    api::pb::{AcquireRequest, ReleaseRequest},
    scripted::{Script, Upstream},
};
use tokio::task::JoinSet;

use crate::{
    catalog::scale::{add_model, add_tenant, key, tenant},
    support::{
        load::Load,
        rota::{Clients, Rota},
        world::{Scene, config},
    },
};

/// Configs of one model.
const CONFIGS: usize = 20;
/// Models of one tenant.
const MODELS: usize = 50;
/// Who writes at a time. They take turns in the database.
const WRITERS: usize = 4;
/// Pairs of `Acquire` and `Release` that are timed.
const PAIRS: usize = 20_000;
/// Streams on one connection.
const SHARED: usize = 500;

fn number(name: &str, usual: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Fills a service with so many configs, [`CONFIGS`] a model, each with a key of its own. How many models there are.
async fn fill(clients: &Clients, configs: usize) -> usize {
    let models = configs / CONFIGS;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let tenants = (writer..models.div_ceil(MODELS)).step_by(WRITERS);
        writers.spawn(fill_tenants(clients.clone(), tenants.collect(), models));
    }
    writers.join_all().await;
    models
}

async fn fill_tenants(mut clients: Clients, tenants: Vec<usize>, models: usize) {
    for model in tenants.into_iter().flat_map(|tenant| tenant * MODELS..(tenant + 1) * MODELS) {
        if model >= models {
            return;
        }
        let id = tenant(model / MODELS);
        if model % MODELS == 0 {
            add_tenant(&mut clients, &id, "http://127.0.0.1:9/v1").await;
        }
        let one = |index| config(&format!("config-{index}"), &format!("sk-{id}-{model}-{index}"));
        add_model(&mut clients, key(&id, model % MODELS), (0..CONFIGS).map(one).collect()).await;
    }
}

/// How long picks take, one after the other, each of another model: half of them, and 99 % of them.
async fn picks(clients: &Clients, models: usize) -> (Duration, Duration) {
    let mut invoke = clients.invoke.clone();
    let mut took = Vec::new();
    for turn in 0..PAIRS + PAIRS / 10 {
        let model = turn * 104_729 % models;
        let request =
            AcquireRequest { key: key(&tenant(model / MODELS), model % MODELS), ..Default::default() };
        let began = Instant::now();
        let lease = invoke.acquire(request).await.unwrap().into_inner().lease_id;
        // The first of them make the state of pools that nobody has called.
        if turn >= PAIRS / 10 {
            took.push(began.elapsed());
        }
        invoke.release(ReleaseRequest { lease_id: lease, ..Default::default() }).await.unwrap();
    }
    at(took)
}

fn at(mut took: Vec<Duration>) -> (Duration, Duration) {
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour: `make growth`"]
async fn growth_of_configs() {
    let configs = number("GROWTH_CONFIGS", 1_000_000);
    let builder = Rota::builder().patience(Duration::from_secs(300));
    let (mut few, mut many) = (builder.start().await, builder.start().await);
    let token = few.operator_token().await.to_owned();
    let models_of_few = fill(&few.clients(&token).await, 100).await;
    let token = many.operator_token().await.to_owned();
    let began = Instant::now();
    let models_of_many = fill(&many.clients(&token).await, configs).await;
    println!("{configs} configs in {models_of_many} models: written in {:.0?}", began.elapsed());
    // What writing has left behind is not what serving needs.
    few.restart().await;
    let began = Instant::now();
    many.restart().await;
    println!("start with all of them, until it serves: {:.2?}", began.elapsed());
    println!(
        "memory: {} MiB with {configs}, {} MiB with 100",
        many.resident().unwrap_or_default() >> 10,
        few.resident().unwrap_or_default() >> 10
    );
    for round in 1..=3 {
        for (rota, models, what) in [(&few, models_of_few, 100), (&many, models_of_many, configs)] {
            let clients = rota.operator().await;
            let (half, most) = picks(&clients, models).await;
            println!("round {round}, Acquire with {what}: p50 {half:.1?}, p99 {most:.1?}");
        }
    }
    println!("memory after the picks: {} MiB", many.resident().unwrap_or_default() >> 10);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs as many descriptors as streams, three times: `make growth`"]
async fn growth_of_idle_streams() {
    let count = number("GROWTH_STREAMS", 10_000);
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().arg("--max-calls").arg("100000").start().await;
    let idle = Scene::set(&rota, &upstream, 2).await;
    for key in &idle.keys {
        upstream.script(key, Script::StallAfter(1));
    }
    let busy = Scene::set(&rota, &upstream, 4).await;
    let latency = async || {
        let mut took = Vec::new();
        for _ in 0..2_000 {
            let began = Instant::now();
            busy.ask().await.unwrap();
            took.push(began.elapsed());
        }
        at(took)
    };
    let (before, alone) = (rota.resident().unwrap_or_default(), latency().await);
    let began = Instant::now();
    let mut opening = JoinSet::new();
    for begin in (0..count).step_by(SHARED) {
        // Each on a connection of its own.
        let scene = idle.through(&rota).await;
        for _ in begin..count.min(begin + SHARED) {
            let scene = scene.clone();
            opening.spawn(async move {
                let mut stream = scene.open_stream().await.unwrap();
                stream.message().await.unwrap().unwrap();
                stream
            });
        }
    }
    let streams = opening.join_all().await;
    println!("{count} streams: all had their first content after {:.1?}", began.elapsed());
    let beside = latency().await;
    let full = rota.resident().unwrap_or_default();
    println!("memory: {} MiB, {:.1} KiB a stream", full >> 10, (full - before) as f64 / count as f64);
    println!("a call alone: p50 {:.1?}, p99 {:.1?}", alone.0, alone.1);
    println!("a call beside them: p50 {:.1?}, p99 {:.1?}", beside.0, beside.1);
    drop(streams);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures: `make growth`"]
async fn changes_under_full_load() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let mut scene = Scene::set(&rota, &upstream, 4).await;
    for changes in [false, true] {
        let load = Load::on([&scene], 32);
        let (began, mut made) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_secs(5) {
            if changes {
                let at = Instant::now();
                let weight = 1 + made.len() as i32 % 9;
                scene.change_configs(|configs| configs[0].weight = Some(weight)).await;
                made.push(at.elapsed());
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let took = load.end().await;
        let calls = took.len();
        let (half, most) = at(took);
        println!("{calls} calls in 5 s with {} changes: p50 {half:.1?}, p99 {most:.1?}", made.len());
        if changes {
            let (half, most) = at(made);
            println!("a change: p50 {half:.1?}, p99 {most:.1?}");
        }
    }
}
