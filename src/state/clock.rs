//! A store's clock: milliseconds that only go on, and that a test or a simulation may move ahead.

use crate::balance::{Time, millis};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// A clock does not begin near 0, so that every duration back from now is a time.
const BEGINNING: u64 = 1_000_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    offset: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), offset: AtomicU64::new(0) }
    }
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_millis(BEGINNING) + self.start.elapsed() + Duration::from_millis(self.offset())
    }

    /// Moves it ahead.
    pub fn advance(&self, by: Duration) {
        self.offset.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// How far it was moved ahead, in milliseconds.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }
}
