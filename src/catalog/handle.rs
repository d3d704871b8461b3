//! The handle of a catalog, and what its parts share.
//!
//! Each part adds the methods of its own purpose to [`Catalog`]: `compiled` serves from memory, `read` lists from the
//! database. Changes are made through a [`Writer`](crate::catalog::Writer).

use crate::{
    balance::Gone,
    catalog::{
        compiled::{cache::Cache, rounds::Rounds},
        secrets::key_ring::KeyRing,
        stored::{
            Db,
            entity::{tenants, tokens},
        },
        types::{Bounds, Error},
        write::{reads::Reads, turns::Turns},
    },
    provider::guard::Networks,
};
use parking_lot::Mutex;
use sea_orm::{DatabaseConnection, EntityTrait};
use std::{
    collections::{BTreeSet, HashSet},
    mem,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Notify;

/// What tenants configured. A clone is cheap and shares everything.
#[derive(Clone)]
pub struct Catalog {
    pub(super) inner: Arc<Inner>,
}

/// What all clones of a [`Catalog`] share.
pub(super) struct Inner {
    pub db: Db,
    ring: KeyRing,
    networks: Networks,
    cache: Cache,
    bounds: Bounds,
    turns: Arc<Turns>,
    reads: Reads,
    /// The tenants that have got audit events since their number was last held against its bound.
    audited: Mutex<HashSet<String>>,
    /// The numbers of changes that this replica has made and taken in.
    served: Mutex<BTreeSet<i64>>,
    /// Whether the last change failed because the database did not take it.
    refused: AtomicBool,
    /// Woken when this replica has changed something.
    committed: Notify,
    /// Woken when another replica may have changed something.
    hinted: Notify,
    rounds: Rounds,
    /// Called for each panic that was caught.
    panic_watch: OnceLock<PanicWatch>,
    /// Called with what has left the configuration.
    gone_watch: OnceLock<GoneWatch>,
}

/// Is told of each panic that the catalog has caught while it loaded configuration.
type PanicWatch = Box<dyn Fn() + Send + Sync>;

/// Is told what has left the configuration.
type GoneWatch = Box<dyn Fn(Gone) + Send + Sync>;

impl Catalog {
    /// A catalog on that SQLite, with its schema as it is. It has nothing in memory yet, and does not check that the ring is
    /// the right one: [`open`](Self::open) does.
    #[must_use]
    pub fn new(sqlite: DatabaseConnection, ring: KeyRing, networks: Networks) -> Self {
        Self::on(Db::Sqlite(sqlite), ring, networks, Bounds::default())
    }

    /// The same on any database.
    pub(super) fn on(db: Db, ring: KeyRing, networks: Networks, bounds: Bounds) -> Self {
        let inner = Inner {
            db,
            ring,
            networks,
            cache: Cache::default(),
            bounds,
            turns: Turns::new(bounds.waiting_changes),
            reads: Reads::default(),
            audited: Mutex::default(),
            served: Mutex::default(),
            refused: AtomicBool::new(false),
            committed: Notify::new(),
            hinted: Notify::new(),
            rounds: Rounds::default(),
            panic_watch: OnceLock::new(),
            gone_watch: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Notes how a change has ended.
    pub(super) fn note_change<T>(&self, ended: &Result<T, Error>) {
        match ended {
            Ok(_) => self.inner.refused.store(false, Ordering::Relaxed),
            Err(Error::DatabaseUnavailable) => self.inner.refused.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
    }

    /// Whether the database did not take the last change.
    pub(super) fn was_refused(&self) -> bool {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// Notes that an audit event of a tenant is written.
    pub(super) fn audited(&self, tenant: &str) {
        let mut audited = self.inner.audited.lock();
        if !audited.contains(tenant) {
            audited.insert(tenant.to_owned());
        }
    }

    /// The tenants that have got audit events since this was last asked.
    pub(super) fn take_audited(&self) -> HashSet<String> {
        mem::take(&mut *self.inner.audited.lock())
    }

    /// Notes that this replica serves its own change of that number.
    pub(super) fn served(&self, number: i64) {
        self.inner.served.lock().insert(number);
    }

    /// Those of its own changes up to that number that this replica serves. It forgets them.
    pub(super) fn take_served(&self, last: i64) -> BTreeSet<i64> {
        let mut served = self.inner.served.lock();
        let later = served.split_off(&last.saturating_add(1));
        mem::replace(&mut *served, later)
    }

    /// Whether there is no tenant and no token yet.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn is_empty(&self) -> Result<bool, Error> {
        let token = tokens::Entity::find().one(self.db()).await?;
        let tenant = tenants::Entity::find().one(self.db()).await?;
        Ok(token.is_none() && tenant.is_none())
    }

    /// Waits until this replica has changed something.
    pub async fn committed(&self) {
        self.inner.committed.notified().await;
    }

    /// Another replica may have changed something: [`follow`](Self::follow) reads the outbox at once.
    pub fn hint(&self) {
        self.inner.hinted.notify_one();
    }

    /// Changes when this replica has taken in a change of configuration, whoever's.
    #[must_use]
    pub fn version(&self) -> Option<i64> {
        self.cache().seen()
    }

    /// Wakes who waits for [`committed`](Self::committed).
    pub(super) fn announce(&self) {
        self.inner.committed.notify_one();
    }

    /// Tells `watch` of each panic that is caught while configuration is loaded. Only the first call has an effect.
    pub fn on_panic(&self, watch: impl Fn() + Send + Sync + 'static) {
        let _ = self.inner.panic_watch.set(Box::new(watch));
    }

    /// Tells `watch` what has left the configuration, whoever has changed it. Only the first call has an effect.
    pub fn on_gone(&self, watch: impl Fn(Gone) + Send + Sync + 'static) {
        let _ = self.inner.gone_watch.set(Box::new(watch));
    }

    /// Tells what has left the configuration.
    pub(super) fn gone(&self, gone: Gone) {
        if let Some(watch) = self.inner.gone_watch.get() {
            watch(gone);
        }
    }

    /// Counts a panic that was caught.
    pub(super) fn panicked(&self) {
        if let Some(watch) = self.inner.panic_watch.get() {
            watch();
        }
    }

    /// Marks bytes that leave this service and come back, such as a lease's.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.ring().sign(bytes)
    }

    /// Whether a replica with one of our master keys has made that mark.
    #[must_use]
    pub fn signed(&self, bytes: &[u8], mark: &[u8]) -> bool {
        self.ring().signed(bytes, mark)
    }

    /// Waits until [`hint`](Self::hint) is called.
    pub(super) async fn hinted(&self) {
        self.inner.hinted.notified().await;
    }

    pub(super) fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(super) fn ring(&self) -> &KeyRing {
        &self.inner.ring
    }

    pub(super) fn networks(&self) -> Networks {
        self.inner.networks
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.inner.bounds
    }

    pub(super) fn turns(&self) -> &Arc<Turns> {
        &self.inner.turns
    }

    pub(super) fn reads(&self) -> &Reads {
        &self.inner.reads
    }

    pub(super) fn rounds(&self) -> &Rounds {
        &self.inner.rounds
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.inner.cache
    }
}
