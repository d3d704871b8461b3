//! What the parts of the Redis store share: the connection, the scripts, and what this replica is and holds.

use super::{
    keys::{Key, LINE_CHANNEL, REPLICA_TTL},
    rosters::Rosters,
    script::script,
    writer::Writer,
};
use crate::{
    balance::Roster,
    redis::{Args, ChangeFeed, Connection, Hearing, RedisOptions, Result, Run, Script},
    state::{Clock, Lease, Lines, STATE_TTL},
    tasks::{Task, Tasks},
};
use dashmap::DashMap;
use fred::prelude::FromValue;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

const HEARTBEAT: Duration = Duration::from_secs(5);
/// The heartbeats of so many tenants are on their way at once.
const BEATS_AT_ONCE: usize = 16;
/// Broken records are told no more often.
const BROKEN_TOLD: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    pub(super) tasks: Tasks,
    pub(super) connection: Arc<Connection>,
    pub(super) clock: Arc<Clock>,
    pub(super) replica: String,
    pub(super) rosters: Rosters,
    pub(super) writer: Writer,
    pub(super) changes: ChangeFeed,
    /// Calls in flight of this replica, by tenant: those need a heartbeat.
    busy: DashMap<Uuid, u32>,
    /// When it was last told that records are broken.
    told_of_broken: Mutex<Option<Instant>>,
    /// How many replicas were alive when last seen.
    pub(super) replicas: AtomicU32,
    /// The callers that wait on this replica.
    pub(super) lines: Arc<Lines>,
}

impl Shared {
    /// Begins to connect.
    pub(super) fn open(options: &RedisOptions, tasks: &Tasks) -> Result<Self> {
        let connection = Arc::new(Connection::open(options)?);
        let replica = Uuid::new_v4().simple().to_string();
        let lines = Arc::<Lines>::default();
        Ok(Self {
            writer: Writer::start(connection.clone(), replica.clone(), tasks),
            changes: ChangeFeed::start(connection.clone(), options, tasks, word_for(&lines, &replica)),
            tasks: tasks.clone(),
            connection,
            clock: Arc::default(),
            replica,
            rosters: Rosters::default(),
            busy: DashMap::new(),
            told_of_broken: Mutex::default(),
            replicas: AtomicU32::new(1),
            lines,
        })
    }

    pub(super) async fn run<T: FromValue>(
        &self,
        script: &Script,
        keys: impl IntoIterator<Item = String>,
        args: Args,
    ) -> Result<T> {
        self.connection.run(script, Run::new(keys, args)).await
    }

    /// Arguments begin with how far the clock is ahead.
    pub(super) fn args(&self) -> Args {
        Args::default().all([self.clock.ahead()])
    }

    pub(super) async fn heartbeat(&self) -> Result<()> {
        self.rosters.sweep();
        self.busy.retain(|_, count| *count > 0);
        let tenants: Vec<_> = self.busy.iter().map(|entry| *entry.key()).collect();
        let beats = tenants.into_iter().map(|tenant| async move {
            let args = self.args().text(&self.replica).millis(REPLICA_TTL).millis(STATE_TTL);
            let beat = self.run::<i64>(script!("heartbeat"), [Key::Holders.of(tenant, Uuid::nil())], args);
            // A tenant whose heartbeat fails or panics keeps no other from its own.
            self.tasks.contain(Task::RedisHeartbeat, &tenant, beat).await.transpose()
        });
        let beats: Vec<_> = stream::iter(beats).buffer_unordered(BEATS_AT_ONCE).collect().await;
        let mut failed = None;
        let mut alive = None;
        for beat in beats {
            match beat {
                Ok(seen) => alive = alive.max(seen),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(alive) = alive {
            self.replicas.store(u32::try_from(alive).unwrap_or(1).max(1), Ordering::Relaxed);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Notes that so many more calls of that tenant are in flight.
    pub(super) fn begun(&self, tenant: Uuid, calls: u32) {
        if calls > 0 {
            *self.busy.entry(tenant).or_default() += calls;
        }
    }

    /// Notes that one of them is over.
    pub(super) fn ended(&self, tenant: Uuid) {
        if let Some(mut busy) = self.busy.get_mut(&tenant) {
            *busy = busy.saturating_sub(1);
        }
    }

    pub(super) fn release(&self, lease: &Lease, used: Option<u64>) {
        self.ended(lease.tenant);
        self.writer.release(lease, used);
    }

    /// Tells once in a while that records of a pool cannot be read.
    pub(super) fn found_broken(&self, pool: &Roster, records: i64) {
        let mut told = self.told_of_broken.lock();
        if told.is_none_or(|at| at.elapsed() > BROKEN_TOLD) {
            *told = Some(Instant::now());
            tracing::warn!(
                pool = %pool.id,
                records,
                "Redis holds records of failures that cannot be read: their members count as well until they fail again"
            );
        }
    }
}

/// Hands on the words for those who wait on this replica.
fn word_for(lines: &Arc<Lines>, replica: &str) -> Hearing {
    let lines = Arc::downgrade(lines);
    Hearing {
        channel: format!("{LINE_CHANNEL}{replica}"),
        hear: Arc::new(move |word| {
            let Some(lines) = lines.upgrade() else { return };
            match word.and_then(|word| Uuid::try_parse(word).ok()) {
                Some(pool) => lines.wake(pool),
                None => lines.wake_all(),
            }
        }),
    }
}

/// Keeps this replica's in-flight counts alive while it has any.
pub(super) async fn beat(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = shared.heartbeat().await {
            tracing::debug!(%error, "heartbeat");
        }
    }
}
