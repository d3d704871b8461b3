//! Starts real servers for the tests and sets scenes on them.
//!
//! Every server listens on a free port of 127.0.0.1, keeps its data in a temporary folder and dies with the test
//! process, however that ends. A program that is not installed fails the test with the line that installs it.
#![allow(dead_code, reason = "each test file uses some of these")]

pub mod authority;
pub mod by_provider;
pub mod callers;
pub mod chain;
pub mod collector;
pub mod door;
pub mod example;
pub mod failure;
pub mod fake_clock;
pub mod http;
pub mod kinds;
pub mod liar;
pub mod listing;
pub mod load;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod promql;
pub mod proxy;
pub mod python;
pub mod raw;
pub mod redis;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod redis_tls;
pub mod refusal;
pub mod rota;
pub mod sdk;
pub mod sealed;
pub mod secured;
pub mod siege;
pub mod small_disk;
pub mod sql;
pub mod stage;
pub mod store;
pub mod stored;
pub mod tools;
pub mod wire;
pub mod world;

/// Runs each test, a function of a [`rota::Rota`], on one that keeps its state in memory and on one that keeps it on
/// Redis.
macro_rules! on_both_states {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::support::rota::Rota::shared().await).await; })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::support::rota::Rota::shared_on_redis().await).await; })*
        }
    };
}
pub(crate) use on_both_states;

use std::{path::Path, time::Duration};

use tokio::time::Instant;

/// Asks until the answer is `Ok` and returns what is in it; fails with the last `Err` once `limit` is over.
pub async fn eventually<T>(limit: Duration, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < end, "not within {limit:?}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until that comes true; fails with `what` it was after 10 seconds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let ask = async || if condition().await { Ok(()) } else { Err(what.to_owned()) };
    eventually(Duration::from_secs(10), ask).await;
}

/// What came of a stream before its end, and how it ended.
pub async fn read<T>(mut stream: tonic::Streaming<T>) -> (Vec<T>, Result<(), tonic::Status>) {
    let mut messages = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(status) => return (messages, Err(status)),
        }
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
