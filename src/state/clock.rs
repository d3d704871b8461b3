//! A store's clock: milliseconds that only go on, and that a test or a simulation may move ahead.

use crate::balance::{Time, millis};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// A clock does not begin near 0, so that every duration back from now is a time.
const BEGINNING: u64 = 1_000_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// How far it was moved ahead, in milliseconds; where it stands still, at what it stands.
    offset: AtomicU64,
    stands: AtomicBool,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), offset: AtomicU64::new(0), stands: AtomicBool::new(false) }
    }
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        let offset = self.offset.load(Ordering::Relaxed);
        if self.stands.load(Ordering::Relaxed) {
            return Time::from_millis(offset);
        }
        Time::from_millis(BEGINNING) + self.start.elapsed() + Duration::from_millis(offset)
    }

    /// Lets it stand still at that time. From then on it goes ahead by [`advance`](Self::advance) alone.
    pub fn stop_at(&self, time: Time) {
        self.offset.store(time.millis(), Ordering::Relaxed);
        self.stands.store(true, Ordering::Relaxed);
    }

    /// Moves it ahead.
    pub fn advance(&self, by: Duration) {
        self.offset.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// How far it was moved ahead, in milliseconds; where it stands still, at what it stands, as a negative number. The
    /// scripts of the Redis store take it so.
    #[must_use]
    pub fn ahead(&self) -> i64 {
        let offset = i64::try_from(self.offset.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        if self.stands.load(Ordering::Relaxed) { -offset } else { offset }
    }
}
