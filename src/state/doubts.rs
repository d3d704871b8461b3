//! The pools on which this replica decides alone although Redis is there: it must tell Redis first what it knows of them.
//!
//! Such a pool is in doubt: a command of it has had no answer, so Redis may believe what is not so, or this replica has decided
//! on it while Redis was away. It is told of at its gate. While a gate is closed, nothing of its pools is granted or given back,
//! so that their counts stand still. A gate is for a few of all pools, so closing one holds up few callers, and no longer than
//! it takes to tell some pools.

use super::Lease;
use dashmap::{DashMap, DashSet};
use parking_lot::Mutex;
use std::{
    array,
    collections::BTreeMap,
    mem,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{RwLock, RwLockReadGuard};
use uuid::Uuid;

const GATES: usize = 1024;

/// A pool and its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolOf {
    pub(super) tenant: Uuid,
    pub(super) pool: Uuid,
}

/// What comes while a gate is closed, to be done when it is open.
pub(super) enum Late {
    /// A call has served.
    Served(Lease),
    /// A lease is given back, and its call has used so many tokens.
    Over(Lease, Option<u64>),
}

/// See the module's documentation.
pub(super) struct Doubts {
    pools: DashMap<Uuid, Uuid>,
    /// How many there are. There are none nearly always, and then nothing else is looked at.
    count: AtomicUsize,
    /// Tenants whose credentials have failed while this replica was alone.
    credentials: DashSet<Uuid>,
    gates: Box<[Gate; GATES]>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Gate {
    going: RwLock<()>,
    /// There while it is closed.
    late: Mutex<Option<Vec<Late>>>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self {
            pools: DashMap::new(),
            count: AtomicUsize::new(0),
            credentials: DashSet::new(),
            gates: Box::new(array::from_fn(|_| Gate::default())),
        }
    }
}

impl Doubts {
    /// Whether that pool is in doubt.
    pub(super) fn hold(&self, pool: Uuid) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.pools.contains_key(&pool)
    }

    /// Whether no pool is in doubt.
    pub(super) fn are_none(&self) -> bool {
        self.len() == 0
    }

    /// How many pools are in doubt.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Takes up a doubt. Returns whether it is new.
    pub(super) fn add(&self, of: PoolOf) -> bool {
        let is_new = self.pools.insert(of.pool, of.tenant).is_none();
        if is_new {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        is_new
    }

    /// Ends a doubt: Redis knows all of that pool, or it is gone.
    pub(super) fn end(&self, pool: Uuid) {
        if self.pools.remove(&pool).is_some() {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A credential of that tenant has failed while this replica was alone.
    pub(super) fn add_credentials(&self, tenant: Uuid) {
        self.credentials.insert(tenant);
    }

    /// Takes the tenants of whose credentials Redis is to be told.
    pub(super) fn take_credentials(&self) -> Vec<Uuid> {
        let tenants: Vec<_> = self.credentials.iter().map(|tenant| *tenant).collect();
        tenants.into_iter().filter(|tenant| self.credentials.remove(tenant).is_some()).collect()
    }

    /// The pools that are in doubt: those of one gate after the other.
    pub(super) fn by_gate(&self) -> Vec<Vec<PoolOf>> {
        let mut by_gate = BTreeMap::<usize, Vec<PoolOf>>::new();
        for entry in &self.pools {
            let of = PoolOf { tenant: *entry.value(), pool: *entry.key() };
            by_gate.entry(place(of.pool)).or_default().push(of);
        }
        by_gate.into_values().collect()
    }

    /// The gate of that pool.
    pub(super) fn gate(&self, pool: Uuid) -> &Gate {
        let [first, ..] = &*self.gates;
        self.gates.get(place(pool)).unwrap_or(first)
    }
}

fn place(pool: Uuid) -> usize {
    // The end of a row id is random.
    let [.., high, low] = *pool.as_bytes();
    usize::from(u16::from_be_bytes([high, low])) % GATES
}

impl Gate {
    /// Waits until it is open, and holds it so.
    pub(super) async fn pass(&self) -> RwLockReadGuard<'_, ()> {
        self.going.read().await
    }

    /// Does it now, or notes it for later where the gate is closed. The gate is not closed meanwhile.
    pub(super) fn now_or_later(&self, what: impl FnOnce() -> Late, now: impl FnOnce()) {
        let mut late = self.late.lock();
        match &mut *late {
            Some(late) => late.push(what()),
            None => now(),
        }
    }

    /// Runs `work` while the gate is closed, and returns what has come meanwhile beside what it returns.
    pub(super) async fn closed<T>(&self, work: impl Future<Output = T>) -> (T, Vec<Late>) {
        let going = self.going.write().await;
        // Some are there where this has panicked before.
        self.late.lock().get_or_insert_default();
        let done = work.await;
        let late = mem::take(&mut *self.late.lock()).unwrap_or_default();
        drop(going);
        (done, late)
    }
}
