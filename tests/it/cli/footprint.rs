//! What the program takes before it does anything.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{
    postgres::Postgres,
    redis::Redis,
    rota::{Builder, Rota},
    tools::run_well,
};

/// An odd number, for the median.
const STARTS: usize = 11;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures of a release: `make footprint`"]
async fn footprint() {
    let program = env!("CARGO_BIN_EXE_rota");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("program: {:.1} MiB", mib(fs::metadata(program).unwrap().len()));
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("rota");
    if Command::new("strip").arg("-o").arg(&bare).arg(program).status().is_ok_and(|status| status.success()) {
        println!("program without symbols: {:.1} MiB", mib(fs::metadata(&bare).unwrap().len()));
    }
    let crates = run_well(
        env!("CARGO"),
        &["tree", "--locked", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}"],
    );
    let mut crates: Vec<_> = crates.lines().collect();
    crates.sort_unstable();
    crates.dedup();
    println!("crates compiled in: {}", crates.len() - 1);

    let (postgres, redis) = (Postgres::start().await, Redis::start().await);
    let shared = || Rota::builder().redis(redis.url()).database(postgres.fresh_database());
    println!("until it serves, the median of {STARTS}, and resident memory once it does:");
    for (what, builders) in [
        ("SQLite, new", every(Rota::builder)),
        ("SQLite, again", vec![used().await; STARTS]),
        ("PostgreSQL and Redis, new", every(shared)),
        (
            "PostgreSQL and Redis, again",
            vec![
                {
                    let one = shared();
                    one.start().await;
                    one
                };
                STARTS
            ],
        ),
    ] {
        let (mut took, mut resident) = (Vec::new(), Vec::new());
        for builder in builders {
            let began = Instant::now();
            let rota = builder.start().await;
            took.push(began.elapsed());
            resident.push(rota.resident().unwrap_or_default());
        }
        took.sort_unstable();
        resident.sort_unstable();
        let [fastest, median, slowest] = [0, STARTS / 2, STARTS - 1].map(|at| took[at]);
        // Of a debug build on a busy machine, too.
        assert!(median < Duration::from_secs(30), "{what}: {took:?}");
        println!("{what}: {median:.0?} ({fastest:.0?} to {slowest:.0?}), {} MiB", resident[STARTS / 2] >> 10);
    }
}

fn every(builder: impl Fn() -> Builder) -> Vec<Builder> {
    (0..STARTS).map(|_| builder()).collect()
}

/// One whose data directory has been served from.
async fn used() -> Builder {
    let builder = Rota::builder().data_dir(tempfile::tempdir().unwrap().into());
    builder.start().await;
    builder
}
