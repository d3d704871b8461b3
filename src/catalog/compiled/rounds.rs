//! The rounds in which a replica takes in what was changed, for those who wait for one.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Counts rounds.
#[derive(Debug, Default)]
pub(in crate::catalog) struct Rounds {
    /// How many have begun.
    begun: AtomicU64,
    ended: watch::Sender<Ended>,
}

/// The last round that is over.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    round: u64,
    /// Whether all was taken in.
    complete: bool,
}

/// A round that has not ended yet.
pub(in crate::catalog) struct Awaited {
    round: u64,
    ended: watch::Receiver<Ended>,
}

impl Rounds {
    /// Begins a round.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Ends a round.
    pub fn end(&self, round: u64, complete: bool) {
        self.ended.send_replace(Ended { round, complete });
    }

    /// The first round that begins after this. `None` where nobody makes rounds.
    pub fn next(&self) -> Option<Awaited> {
        match self.begun.load(Ordering::SeqCst) {
            0 => None,
            begun => Some(Awaited { round: begun + 1, ended: self.ended.subscribe() }),
        }
    }
}

impl Awaited {
    /// Waits until it has ended. Returns whether all was taken in.
    pub async fn complete(mut self) -> bool {
        self.ended.wait_for(|ended| ended.round >= self.round).await.is_ok_and(|ended| ended.complete)
    }
}
