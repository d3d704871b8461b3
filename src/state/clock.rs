//! A store's clock: milliseconds that only go on, and that a test or a simulation may move ahead.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// A clock does not begin at 0, which means "never" in a record, nor near it: the windows of what never was are over.
const BEGINNING: u64 = 1_000_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    ahead: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now(), ahead: AtomicU64::new(0) }
    }
}

impl Clock {
    /// Milliseconds since some time long before the clock was made.
    #[must_use]
    pub fn now(&self) -> u64 {
        millis(self.start.elapsed()).saturating_add(BEGINNING).saturating_add(self.ahead())
    }

    /// Moves it ahead.
    pub fn advance(&self, by: Duration) {
        self.ahead.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// How far it was moved ahead, in milliseconds.
    #[must_use]
    pub fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
