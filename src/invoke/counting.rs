//! Counting tokens takes a processor for a while: a few count at once, and of each tenant one.

use crate::provider::{Countable, TokenCount, Vocabulary, count};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
};
use tokio::sync::{Mutex as Turns, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// However many processors there are.
const MOST: usize = 4;

/// From here on, queues that nobody stands in are looked for.
const FEW: usize = 64;

/// See the module's documentation.
pub(super) struct Counting {
    places: Arc<Semaphore>,
    /// Where a tenant's calls wait for each other. So each stands in line for a place once.
    tenants: Mutex<HashMap<Uuid, Weak<Turns<()>>>>,
}

/// The right to count.
pub(super) struct Place {
    _turn: OwnedMutexGuard<()>,
    _place: Option<OwnedSemaphorePermit>,
}

/// Ends the counting of a call that is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Counting {
    /// Half of the processors count at most.
    fn default() -> Self {
        let places = available_parallelism().map_or(1, usize::from).div_ceil(2).min(MOST);
        Self { places: Arc::new(Semaphore::new(places)), tenants: Mutex::default() }
    }
}

impl Counting {
    /// Waits for a place, by turns of the tenants.
    pub(super) async fn place(&self, tenant: Uuid) -> Place {
        let turns = self.turns(tenant);
        let turn = turns.lock_owned().await;
        // It is never closed.
        let place = self.places.clone().acquire_owned().await.ok();
        Place { _turn: turn, _place: place }
    }

    fn turns(&self, tenant: Uuid) -> Arc<Turns<()>> {
        let mut tenants = self.tenants.lock();
        if let Some(turns) = tenants.get(&tenant).and_then(Weak::upgrade) {
            return turns;
        }
        if tenants.len() >= FEW {
            tenants.retain(|_, turns| turns.strong_count() > 0);
        }
        let turns = Arc::default();
        tenants.insert(tenant, Arc::downgrade(&turns));
        turns
    }
}

/// Counts on a thread of its own, which keeps the place until it is done. Dropping the call ends it soon.
pub(super) async fn counted(
    place: Option<Place>,
    request: Arc<Countable>,
    vocabulary: Option<Vocabulary>,
) -> Option<TokenCount> {
    let stop = Stop(Arc::default());
    let stopped = stop.0.clone();
    let work = move || {
        let _until_done = place;
        count(&request, vocabulary, &stopped)
    };
    let done = tokio::task::spawn_blocking(work).await;
    drop(stop);
    done.ok()
}
