//! The fault matrix: what calls of a client in another language notice of each fault, and for how long.
//!
//! A row is one fault under load of whole and of streamed answers, by `tests/clients/python/callers.py`. It asserts that
//! nothing was lost that could be served, and measures the rest. The suite runs every row briefly; `make faults` runs each
//! for longer and by itself, and writes the table of docs/measurements/reliability.md.

mod addresses;
mod clock;
mod disk;
mod limits;
mod networks;
mod outage;
mod postgres;
mod redis;
mod replicas;
mod soak;
mod table;
mod upstream;
mod writer;

use std::{collections::BTreeMap, time::Duration};

use rota::scripted::{Script, Upstream};
use tokio::time::Instant;

use crate::support::{
    callers::{Call, Callers, Count, Kind},
    eventually,
    rota::{Builder, Rota},
    world::Scene,
};

/// What a provider takes for a whole answer, and for each piece of a stream.
const PIECE: Duration = Duration::from_millis(20);
/// A machine that is busy with other tests takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of a row.
#[derive(Clone, Copy)]
pub struct Extent {
    count: Count,
    /// How many calls are served before and after the fault, at least.
    calls: usize,
    /// How long a fault lasts whose length is free.
    fault: Duration,
}

/// For the suite.
const BRIEF: Extent =
    Extent { count: Count { unary: 3, stream: 3, cancel: 0 }, calls: 20, fault: Duration::from_secs(2) };
/// For the table.
const FULL: Extent =
    Extent { count: Count { unary: 8, stream: 8, cancel: 0 }, calls: 200, fault: Duration::from_secs(5) };

/// For the table: how long the only provider is out, and how.
const OUTAGES: [(Duration, [&str; 3]); 3] = [
    (
        Duration::from_secs(35),
        [
            "the only provider answers 500 for 35 s",
            "the only provider answers 503 for 35 s",
            "the only provider hangs for 35 s",
        ],
    ),
    (
        Duration::from_secs(180),
        [
            "the only provider answers 500 for 3 min",
            "the only provider answers 503 for 3 min",
            "the only provider hangs for 3 min",
        ],
    ),
    (
        Duration::from_secs(1200),
        [
            "the only provider answers 500 for 20 min",
            "the only provider answers 503 for 20 min",
            "the only provider hangs for 20 min",
        ],
    ),
];

/// What came of one fault.
pub struct Row {
    fault: &'static str,
    calls: usize,
    streams: usize,
    /// By reason, or by status where gRPC itself has given up.
    failed: BTreeMap<String, usize>,
    /// The longest time without the end of a call that was served.
    gap: Duration,
    /// From the end of the fault to the end of the last call that felt it; none where the fault does not end.
    normal: Option<Duration>,
    /// What else is to be said.
    beside: String,
}

impl Row {
    /// These are all that have ended, in that order.
    fn new(fault: &'static str, calls: &[Call], beside: String) -> Self {
        let cut: Vec<_> = calls.iter().filter(|call| call.silently_cut()).collect();
        assert!(cut.is_empty(), "{fault}: cut without a word: {cut:#?}");
        let mut failed = BTreeMap::new();
        for call in calls.iter().filter(|call| !call.served()) {
            *failed.entry(call.failure().to_owned()).or_default() += 1;
        }
        let count = |kind| calls.iter().filter(|call| call.kind == kind).count();
        let ends: Vec<_> = calls.iter().filter(|call| call.served()).map(|call| call.ended).collect();
        let gap = ends.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).max();
        Self {
            fault,
            calls: count(Kind::Unary),
            streams: count(Kind::Stream),
            failed,
            gap: gap.unwrap_or_default(),
            normal: None,
            beside,
        }
    }

    /// The fault was over at `over`; `felt` tells the calls that were not as always.
    fn after(self, over: Instant, calls: &[Call], felt: impl Fn(&Call) -> bool) -> Self {
        let last = calls.iter().filter(|call| felt(call)).map(|call| call.ended).max();
        Self {
            normal: Some(last.map(|last| last.saturating_duration_since(over)).unwrap_or_default()),
            ..self
        }
    }

    /// Something else has taken until then to be normal again.
    fn or_later(self, normal: Duration) -> Self {
        Self { normal: self.normal.max(Some(normal)), ..self }
    }
}

/// Replicas with the same settings but for their own, and a model whose three configs answer slowly.
struct Fleet {
    rotas: Vec<Rota>,
    upstream: Upstream,
    scene: Scene,
}

impl Fleet {
    async fn start(replicas: impl IntoIterator<Item = Builder>) -> Self {
        Self::of(Upstream::start().await.unwrap(), replicas).await
    }

    /// The same with that provider.
    async fn of(upstream: Upstream, replicas: impl IntoIterator<Item = Builder>) -> Self {
        let mut rotas = Vec::new();
        let mut set = None;
        for replica in replicas {
            rotas.push(replica.start().await);
            // Those that start after it load the whole set at once.
            if set.is_none() {
                set = Some(scene(&rotas[0], &upstream).await);
            }
        }
        Self { rotas, upstream, scene: set.expect("no replica") }
    }

    /// Callers through all replicas.
    async fn callers(&self, count: Count) -> Callers {
        Callers::start(&self.rotas.iter().collect::<Vec<_>>(), &self.scene, count).await
    }
}

async fn scene(rota: &Rota, upstream: &Upstream) -> Scene {
    scene_of(rota, &upstream.base_url(), upstream).await
}

/// The same where that address leads to the upstream.
async fn scene_of(rota: &Rota, base_url: &str, upstream: &Upstream) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(base_url).await;
    scene.add_configs(3).await;
    scene.enable().await;
    for key in &scene.keys {
        upstream.script(key, Script::Slow(PIECE));
    }
    scene
}

/// Waits until so many more calls have been served.
async fn served(callers: &Callers, more: usize) {
    served_since(callers, Instant::now(), more, |_| true).await;
}

/// Waits until so many calls that began after `since` have been served, and so that `well` holds.
async fn served_since(callers: &Callers, since: Instant, more: usize, well: impl Fn(&Call) -> bool) {
    eventually(PATIENCE, async || {
        match callers.count(|call| call.began >= since && call.served() && well(call)) {
            count if count >= more => Ok(()),
            count => Err(format!("{count} of {more} calls; the last: {:#?}", callers.so_far().last())),
        }
    })
    .await;
}

/// Every call has come to its end.
fn all_served(fault: &str, calls: &[Call]) {
    let failed: Vec<_> = calls.iter().filter(|call| !call.served()).collect();
    assert!(failed.is_empty(), "{fault}: {} of {} failed: {failed:#?}", failed.len(), calls.len());
}

/// It was not as always: it failed, moved on, or was served by a replica that decided alone.
fn felt(call: &Call) -> bool {
    !call.served() || call.degraded || call.attempts > 1
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_come_and_go() {
    tokio::join!(replicas::killed(BRIEF), replicas::drained(BRIEF));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_fails() {
    tokio::join!(redis::killed(BRIEF), redis::hung(BRIEF), redis::slow(BRIEF), redis::full(BRIEF));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_fails() {
    tokio::join!(postgres::stopped(BRIEF), postgres::restarted(BRIEF), postgres::hung(BRIEF));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_stands_behind_a_name_or_a_pooler() {
    tokio::join!(postgres::failed_over(BRIEF), postgres::pooled(BRIEF));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_full() {
    let (filled, _) = tokio::join!(disk::full(BRIEF), disk::limited(BRIEF));
    if filled.is_none() {
        println!("not as root, or without the right to mount: no disk was filled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upstream_of_three_lies() {
    upstream::lies(BRIEF).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_connections_end_early() {
    tokio::join!(networks::forgotten(BRIEF), networks::limited(BRIEF));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_name_leads_elsewhere() {
    let (dead, _) = tokio::join!(networks::dead_address(BRIEF), networks::moved(BRIEF));
    if dead.is_none() {
        println!("not as root, or without the right to mount: no name was changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_cannot_reach_a_provider() {
    let (name, route, _) = tokio::join!(
        addresses::no_resolver(BRIEF),
        addresses::no_route(BRIEF),
        addresses::expired_authority(BRIEF)
    );
    if name.is_none() || route.is_none() {
        println!("not as root, or without the right to mount: no replica saw another hosts file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_provider_is_out() {
    let faults = ["it answers 500", "it answers 503", "it hangs"];
    outage::of_the_only_provider(BRIEF, Duration::from_secs(6), faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_jump() {
    tokio::join!(clock::of_a_replica(BRIEF), clock::of_redis(BRIEF));
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_run_out() {
    limits::descriptors(BRIEF).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_ten_times_too_many() {
    limits::overload(BRIEF).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and writes docs/measurements/reliability.md: `make faults`"]
async fn the_whole_matrix() {
    let mut rows = vec![
        replicas::killed(FULL).await,
        replicas::drained(FULL).await,
        redis::killed(FULL).await,
        redis::hung(FULL).await,
        redis::slow(FULL).await,
        redis::full(FULL).await,
        postgres::stopped(FULL).await,
        postgres::restarted(FULL).await,
        postgres::hung(FULL).await,
        postgres::failed_over(FULL).await,
        postgres::pooled(FULL).await,
    ];
    rows.extend(disk::full(FULL).await);
    rows.push(disk::limited(FULL).await);
    rows.extend(upstream::lies(FULL).await);
    rows.push(networks::forgotten(FULL).await);
    rows.extend(networks::limited(FULL).await);
    rows.extend(networks::dead_address(FULL).await);
    rows.extend(networks::moved(FULL).await);
    rows.extend(addresses::no_resolver(FULL).await);
    rows.extend(addresses::no_route(FULL).await);
    rows.push(addresses::expired_authority(FULL).await);
    for (outage, faults) in OUTAGES {
        rows.extend(outage::of_the_only_provider(FULL, outage, faults).await);
    }
    rows.push(clock::of_a_replica(FULL).await);
    rows.push(clock::of_redis(FULL).await);
    rows.push(limits::descriptors(FULL).await);
    rows.push(limits::overload(FULL).await);
    let text = table::rows(&rows);
    table::write("faults", &text);
    println!("{text}");
}
