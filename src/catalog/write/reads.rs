//! Reads of secrets that are still to be counted in their audit events.
//!
//! The first read of a credential by a token in a minute writes an event, before the secret goes anywhere. The others of
//! that minute count in memory, and the event gets their number later. So a flood of reads writes little, and no secret goes
//! out without a record. A replica that dies loses the count of its last minute, never the event.

use dashmap::DashMap;
use std::sync::Arc;
use tokio::sync::Mutex;
use uuid::Uuid;

/// A minute, in milliseconds.
const MINUTE: i64 = 60_000;

/// What is counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::catalog) struct Read {
    /// The RPC.
    pub action: &'static str,
    /// Who reads; none for the command line.
    pub token: Option<Uuid>,
    /// What names the credential.
    pub credential: Arc<str>,
    /// The minute, counted from 1970.
    minute: i64,
}

impl Read {
    /// Of the minute of that time, in milliseconds since 1970.
    pub fn at(now: i64, action: &'static str, token: Option<Uuid>, credential: Arc<str>) -> Self {
        Self { action, token, credential, minute: now / MINUTE }
    }
}

/// How often that was read.
#[derive(Default)]
pub(in crate::catalog) struct Count {
    /// The event. `None` until it is written.
    pub event: Option<Uuid>,
    /// The reads.
    pub reads: u64,
    /// As many as the event tells.
    pub told: u64,
}

/// The counts of one replica.
#[derive(Default)]
pub(in crate::catalog) struct Reads(DashMap<Read, Arc<Mutex<Count>>>);

impl Reads {
    /// Where these reads are counted. Whoever holds it writes the event, and the others wait for that.
    pub fn of(&self, read: Read) -> Arc<Mutex<Count>> {
        Arc::clone(&self.0.entry(read).or_default())
    }

    /// Those that are counted: those of all minutes, or of the minutes that nobody counts in any more.
    pub fn counted(&self, now: i64, all: bool) -> Vec<(Read, Arc<Mutex<Count>>)> {
        // A read may still be on its way to the count of the minute before.
        let over = now / MINUTE - 1;
        let counted = self.0.iter().filter(|entry| all || entry.key().minute < over);
        counted.map(|entry| (entry.key().clone(), Arc::clone(entry.value()))).collect()
    }

    /// Forgets what has been told.
    pub fn forget(&self, read: &Read) {
        self.0.remove(read);
    }
}
