//! Starts real servers for the tests and sets scenes on them.
//!
//! Every server listens on a free port of 127.0.0.1, keeps its data in a temporary folder and dies with the test
//! process, however that ends. A program that is not installed fails the test with the line that installs it.
#![allow(dead_code, reason = "each test file uses some of these")]

pub mod listing;
pub mod postgres;
pub mod process;
pub mod raw;
pub mod redis;
pub mod refusal;
pub mod rota;
pub mod stage;
pub mod world;

use std::time::Duration;

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
