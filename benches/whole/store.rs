//! Picks on one Redis from one process, beside what its client can do at all.

use super::support::store::ring;
use fred::{
    interfaces::{ClientLike, KeysInterface},
    prelude::{Builder, Config},
};
use rota::{
    balance::{LeaseId, Member, MemberKey, Roster},
    redis::RedisOptions,
    state::{Acquire, Acquired, RedisStore, Stand},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How many members the pools have.
pub const MEMBERS: [u32; 2] = [4, 16];

/// What is measured: the raw command, then our own.
pub const ROWS: [&str; 3] = ["INCR", "acquire", "acquire, report, release"];

/// How often a second a row is done by so many callers, in the order of [`ROWS`], for a pool of that size.
pub async fn rates(url: &str, callers: usize, members: u32, seconds: f64) -> Vec<f64> {
    let client = Builder::from_config(Config::from_url(url).unwrap()).build().unwrap();
    client.init().await.unwrap();
    let raw = {
        let client = client.clone();
        rate(callers, seconds, move || {
            let client = client.clone();
            async move {
                let _: i64 = client.incr("raw").await.unwrap();
            }
        })
        .await
    };
    let mut rates = vec![raw];
    for ends in [false, true] {
        let options = RedisOptions { command_timeout: Duration::from_secs(5), ..RedisOptions::new(url) };
        let store = RedisStore::connect(&options).await.unwrap();
        let pool = pool(members);
        rates.push(
            rate(callers, seconds, move || {
                let (store, pool) = (store.clone(), pool.clone());
                async move { pick(&store, &pool, ends).await }
            })
            .await,
        );
    }
    rates
}

/// With names as a catalog gives them.
fn pool(members: u32) -> Arc<Roster> {
    let pool = Arc::unwrap_or_clone(ring(1..=members));
    let named = |member: &Member| Member {
        key: MemberKey::new(member.key.ordinal, format!("{:016x}", member.key.ordinal)),
        credential: format!("{:032x}.1", member.key.ordinal).into(),
        ..member.clone()
    };
    Arc::new(Roster { members: pool.members.iter().map(named).collect(), ..pool })
}

async fn pick(store: &RedisStore, pool: &Arc<Roster>, ends: bool) {
    let ask = Acquire {
        pool,
        tried: &[],
        failed: None,
        lease: LeaseId::new(rand::random()),
        trial_ttl: Duration::from_secs(60),
        tokens: 0,
        hold: None,
        is_last: true,
        stand: Stand::default(),
    };
    match store.acquire(&ask).await.unwrap().0.acquired {
        Acquired::Granted { lease, .. } if ends => {
            store.succeed(&lease);
            store.release(&lease, None);
        }
        Acquired::Granted { .. } => {}
        other => panic!("{other:?}"),
    }
}

async fn rate<F: Future<Output = ()> + Send + 'static>(
    callers: usize,
    seconds: f64,
    one: impl Fn() -> F + Clone + Send + 'static,
) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (done, one) = (done.clone(), one.clone());
            tokio::spawn(async move {
                loop {
                    one().await;
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (before, began) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let rate = (done.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    for task in &tasks {
        task.abort();
    }
    for task in tasks {
        let _ = task.await;
    }
    rate
}
