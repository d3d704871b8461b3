//! What the parts of the Redis store share: the connection, the scripts, and what this replica is and holds.

use super::{
    keys::{Key, LINE_CHANNEL, REPLICA_TTL},
    rosters::Rosters,
    script::script,
    writer::Writer,
};
use crate::{
    redis::{Args, ChangeFeed, Connection, Hearing, RedisOptions, Result, Run, Script},
    state::{Clock, Lease, Lines, STATE_TTL},
    tasks::{Task, Tasks},
};
use dashmap::DashMap;
use fred::prelude::FromValue;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

const HEARTBEAT: Duration = Duration::from_secs(5);

pub(super) struct Shared {
    pub(super) tasks: Tasks,
    pub(super) connection: Arc<Connection>,
    pub(super) clock: Arc<Clock>,
    pub(super) replica: String,
    pub(super) rosters: Rosters,
    pub(super) writer: Writer,
    pub(super) changes: ChangeFeed,
    /// Calls in flight of this replica, by tenant: those need a heartbeat.
    pub(super) busy: DashMap<Uuid, u32>,
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
        for tenant in tenants {
            let args = self.args().text(&self.replica).millis(REPLICA_TTL).millis(STATE_TTL);
            let beat = self.run::<i64>(script!("heartbeat"), [Key::Holders.of(tenant, Uuid::nil())], args);
            // A tenant whose heartbeat panics keeps no other from its own.
            if let Some(alive) = self.tasks.contain(Task::RedisHeartbeat, &tenant, beat).await {
                self.replicas.store(u32::try_from(alive?).unwrap_or(1).max(1), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    pub(super) fn release(&self, lease: &Lease, used: Option<u64>) {
        if let Some(mut busy) = self.busy.get_mut(&lease.tenant) {
            *busy = busy.saturating_sub(1);
        }
        self.writer.release(lease, used);
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
