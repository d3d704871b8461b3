//! The pools that are watched. Each is looked at by one task for all its watchers, which encodes a state once, when it has
//! changed.

use super::listed::listed;
use crate::{
    api::{pb, status, to_pb},
    catalog::{Catalog, ConfigFrom, ConfigSet, Error, ModelKey},
    gate::Refusal,
    state::StateStore,
};
use parking_lot::Mutex;
use prost::{Message, bytes::Bytes};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

/// How often the state is read. The state store pushes nothing, and configuration reaches other replicas this often, too.
const INTERVAL: Duration = Duration::from_millis(250);
/// A replica has room for so many times the watches of one tenant.
const TENANTS: usize = 4;
/// When to come again if a watch must end first. Nobody knows when one does.
const SOON: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(super) struct Watches {
    most_of_tenant: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    pools: HashMap<ModelKey, Watched>,
    by_tenant: HashMap<String, usize>,
    all: usize,
}

/// A pool that is watched.
struct Watched {
    watchers: usize,
    looks: watch::Receiver<Look>,
    asked: Arc<Asked>,
    _task: DropGuard,
}

/// How often watchers have asked for a look that begins after they came.
#[derive(Default)]
struct Asked {
    count: AtomicU64,
    woken: Notify,
}

/// What the last look has seen.
#[derive(Clone, Default)]
struct Look {
    /// How many had asked before it began.
    asked: u64,
    told: Option<Told>,
}

/// What watchers are told.
#[derive(Clone)]
pub(super) enum Told {
    /// The state, encoded.
    State(Bytes),
    /// That there is no more.
    Ended(Status),
}

impl Watches {
    pub(super) fn new(most_of_tenant: usize) -> Self {
        Self { most_of_tenant, open: Mutex::default() }
    }

    /// Watches a pool, until what is returned is dropped.
    pub(super) fn watch(
        self: &Arc<Self>,
        catalog: &Catalog,
        state: &Arc<dyn StateStore>,
        key: ModelKey,
    ) -> Result<Watching, Refusal> {
        let mut open = self.open.lock();
        if open.by_tenant.get(&key.tenant).is_some_and(|count| *count >= self.most_of_tenant) {
            return Err(Refusal::TenantWatches { retry_after: SOON });
        }
        if open.all >= self.most_of_tenant.saturating_mul(TENANTS) {
            return Err(Refusal::Overloaded);
        }
        open.all += 1;
        *open.by_tenant.entry(key.tenant.clone()).or_default() += 1;
        let watched = open.pools.entry(key.clone()).or_insert_with(|| {
            let (tell, looks) = watch::channel(Look::default());
            let (asked, over) = (Arc::<Asked>::default(), CancellationToken::new());
            let pool = Pool {
                catalog: catalog.clone(),
                state: state.clone(),
                key: key.clone(),
                asked: asked.clone(),
                known: None,
                last: None,
            };
            tokio::spawn(over.clone().run_until_cancelled_owned(pool.follow(tell)));
            Watched { watchers: 0, looks, asked, _task: over.drop_guard() }
        });
        watched.watchers += 1;
        let asked = watched.asked.count.fetch_add(1, SeqCst) + 1;
        watched.asked.woken.notify_one();
        Ok(Watching { looks: watched.looks.clone(), asked, key, all: Arc::clone(self) })
    }
}

/// A watch of a pool, until it is dropped.
pub(super) struct Watching {
    looks: watch::Receiver<Look>,
    /// The first look that counts is one that began after the watch.
    asked: u64,
    key: ModelKey,
    all: Arc<Watches>,
}

impl Watching {
    /// Waits for the next change; the first time for the state that there is. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Told {
        loop {
            if self.looks.changed().await.is_err() {
                // Its task has panicked.
                return Told::Ended(status::from_refusal(Refusal::Panicked));
            }
            let look = self.looks.borrow_and_update();
            if let Some(told) = look.told.clone().filter(|_| look.asked >= self.asked) {
                return told;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut open = self.all.open.lock();
        open.all -= 1;
        if let Some(count) = open.by_tenant.get_mut(&self.key.tenant) {
            *count -= 1;
            if *count == 0 {
                open.by_tenant.remove(&self.key.tenant);
            }
        }
        if let Some(watched) = open.pools.get_mut(&self.key) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                open.pools.remove(&self.key);
            }
        }
    }
}

/// What looks at a pool.
struct Pool {
    catalog: Catalog,
    state: Arc<dyn StateStore>,
    key: ModelKey,
    asked: Arc<Asked>,
    /// The configs, and the version of the catalog they were read at.
    known: Option<(Option<i64>, ConfigSet)>,
    last: Option<pb::PoolState>,
}

impl Pool {
    async fn follow(mut self, tell: watch::Sender<Look>) {
        loop {
            let asked = self.asked.count.load(SeqCst);
            match self.look().await {
                Ok(changed) => tell.send_if_modified(|look| {
                    let is_new = changed.is_some() || look.asked < asked;
                    look.asked = asked;
                    if let Some(state) = changed {
                        look.told = Some(Told::State(state));
                    }
                    is_new
                }),
                Err(status) => {
                    tell.send_replace(Look { asked: u64::MAX, told: Some(Told::Ended(status)) });
                    // Who comes meanwhile is told the same. The task ends with its last watcher.
                    return std::future::pending().await;
                }
            };
            let _ = timeout(INTERVAL, self.asked.woken.notified()).await;
        }
    }

    /// The state, encoded, where it differs from the last one.
    async fn look(&mut self) -> Result<Option<Bytes>, Status> {
        let set = self.configs().await?;
        let seen = self.state.inspect(&set.roster).await;
        let revision = set.revision;
        let configs = listed(set, seen);
        let state = pb::PoolState { key: Some(to_pb::key(self.key.clone())), revision, configs };
        let compared = without_clocks(state.clone());
        if self.last.as_ref() == Some(&compared) {
            return Ok(None);
        }
        self.last = Some(compared);
        let message = pb::WatchPoolResponse { state: Some(state), encoded: None };
        Ok(Some(message.encode_to_vec().into()))
    }

    /// Reads the configs. The database is asked only after a change; while it is away, the configs known last stand.
    async fn configs(&mut self) -> Result<ConfigSet, Status> {
        let version = self.catalog.version();
        if let Some((at, set)) = &self.known
            && *at == version
        {
            return Ok(set.clone());
        }
        match (self.catalog.configs(&self.key, ConfigFrom::Any).await, &self.known) {
            (Ok(set), _) => {
                self.known = Some((version, set.clone()));
                Ok(set)
            }
            (Err(Error::DatabaseUnavailable), Some((_, set))) => Ok(set.clone()),
            (Err(error), _) => Err(status::from_catalog(error)),
        }
    }
}

/// Removes the time that is left of cooldowns: a cooldown that runs on is no change.
fn without_clocks(mut state: pb::PoolState) -> pb::PoolState {
    for config in &mut state.configs {
        config.ttl = None;
    }
    state
}
