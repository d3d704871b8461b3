//! State in Redis, shared by any number of replicas.
//!
//! One script a decision, so that no two replicas can see half of one. All keys of a tenant carry the hash tag
//! `{tenant row id}`: a script may touch a pool and the tenant's credentials on a cluster too. The scripts take
//! durations and read Redis's own clock, so replicas need not agree on the time.
//!
//! When Redis is gone, everything that is waited for returns [`StateError`] at once (no queue, no retry), and what is
//! noted off the path is dropped: trials expire by themselves, and in-flight counts are those of live replicas only.
//! The client reconnects for ever with a growing pause of up to 200 ms.

mod batch;
mod changes;
mod codec;
mod connect;
mod facts;
mod keys;
mod rosters;
mod script;
mod writer;

use super::{
    Acquire, Acquired, Clock, FailedAttempt, Gone, Inspection, Known, Lease, Outcome, Override, STATE_TTL,
    StateError,
};
use crate::balance::{Cooldown, ErrorClass, LeaseId, Member, Roster, Scope};
use crate::tasks::{Task, Tasks};
use batch::Waiting;
pub use changes::ChangeFeed;
use codec::Args;
use connect::Connection;
pub use connect::{CommandWatch, RedisOptions};
use dashmap::DashMap;
pub use facts::RedisFacts;
use fred::{
    interfaces::ClusterInterface,
    prelude::{Error as RedisError, FromValue},
    types::Value,
    util::redis_keyslot,
};
use futures::future::try_join_all;
use keys::{Keys, holders_of};
use rosters::Rosters;
use script::{Run, Script, script, shared_lua};
use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, sleep, timeout},
};
use tokio_util::sync::DropGuard;
use uuid::Uuid;
use writer::{Note, Writer};

/// A replica that has been silent for this long no longer counts as holding calls in flight.
const REPLICA_TTL: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Keys one script removes.
const FORGOTTEN_AT_ONCE: usize = 1000;
/// A key of a probe is looked for among this many names: enough for a primary that holds one slot of 16384.
const PROBE_NAMES: u32 = 200_000;

/// See the module's documentation.
#[derive(Clone)]
pub struct RedisStore {
    /// Ends the tasks with the last clone. It stands first, so that they have ended before what they use is gone.
    _running: Arc<DropGuard>,
    shared: Arc<Shared>,
}

struct Shared {
    tasks: Tasks,
    connection: Arc<Connection>,
    clock: Arc<Clock>,
    replica: String,
    rosters: Rosters,
    waiting: Waiting,
    acquire: Script,
    fail: Script,
    renew: Script,
    end: Script,
    inspect: Script,
    override_cooldown: Script,
    heartbeat: Script,
    claim: Script,
    merge: Script,
    register: Script,
    forget: Script,
    writer: Writer,
    /// Woken when another replica has changed configuration.
    announced: Arc<Notify>,
    /// Calls in flight of this replica, by tenant: those need a heartbeat.
    busy: DashMap<Uuid, u32>,
    /// How many replicas were alive when last seen.
    replicas: AtomicU32,
}

impl RedisStore {
    /// Connects, and waits for the first connection.
    ///
    /// # Errors
    /// Where the URL is malformed or the server does not answer. The text holds no password.
    pub async fn connect(options: &RedisOptions) -> Result<Self, StateError> {
        let store = Self::connect_later(options)?;
        store.wait(options.patience()).await?;
        Ok(store)
    }

    /// Connects in the background, again and again until the server is there.
    ///
    /// # Errors
    /// Where the URL is malformed. The text holds no password.
    pub fn connect_later(options: &RedisOptions) -> Result<Self, StateError> {
        let connection = Arc::new(Connection::open(options)?);
        let (tasks, running) = options.tasks.guarded();
        let replica = Uuid::new_v4().simple().to_string();
        let clock = Arc::new(Clock::default());
        let shared = Arc::new(Shared {
            writer: Writer::start(connection.clone(), replica.clone(), &tasks),
            tasks: tasks.clone(),
            connection,
            clock,
            replica,
            rosters: Rosters::default(),
            waiting: Waiting::default(),
            acquire: acquire_script(),
            fail: script!("fail"),
            renew: script!("renew"),
            end: script!("end"),
            inspect: script!("inspect"),
            override_cooldown: script!("override"),
            heartbeat: script!("heartbeat"),
            claim: script!("claim"),
            merge: script!("merge"),
            register: script!("register"),
            forget: script!("forget"),
            announced: Arc::default(),
            busy: DashMap::new(),
            replicas: AtomicU32::new(1),
        });
        let beating = Arc::downgrade(&shared);
        tasks.spawn_endless(Task::RedisHeartbeat, move || beat(beating.clone()));
        let (options, announced) = (options.clone(), Arc::downgrade(&shared.announced));
        tasks.spawn_endless(Task::RedisChanges, move || changes::listen(options.clone(), announced.clone()));
        Ok(Self { _running: Arc::new(running), shared })
    }

    /// Says that this replica is alive, where it holds calls in flight. It does so by itself every 5 seconds; a test
    /// that has moved the clock calls it.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub async fn heartbeat(&self) -> Result<(), StateError> {
        self.shared.heartbeat().await
    }

    /// What this replica is called.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.shared.replica
    }

    /// How far its clock is ahead of the server's, for tests and simulations to move.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }
}

impl Shared {
    async fn run<T: FromValue>(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Args,
    ) -> Result<T, StateError> {
        self.run_of(script, Run::new(keys, args.0)).await
    }

    async fn run_of<T: FromValue>(&self, script: &Script, run: Run) -> Result<T, StateError> {
        let client = self.connection.client();
        self.connection.watched(script.name, script.run(&client, run)).await
    }

    /// A key of each primary.
    fn probe_keys(&self) -> Vec<String> {
        let name = |n: u32| format!("rota:probe:{}:{n}", self.replica);
        let Some(cluster) = self.connection.client().cached_cluster_state() else { return vec![name(0)] };
        let mut primaries: HashSet<_> = cluster.unique_primary_nodes().into_iter().collect();
        let count = primaries.len();
        (0..PROBE_NAMES)
            .map(name)
            .filter(|key| {
                cluster
                    .get_server(redis_keyslot(key.as_bytes()))
                    .is_some_and(|server| primaries.remove(server))
            })
            .take(count)
            .collect()
    }

    /// Arguments begin with how far the clock is ahead.
    fn args(&self) -> Args {
        Args::default().number(self.clock.offset())
    }

    async fn heartbeat(&self) -> Result<(), StateError> {
        self.rosters.sweep();
        self.busy.retain(|_, count| *count > 0);
        let tenants: Vec<_> = self.busy.iter().map(|entry| *entry.key()).collect();
        for tenant in tenants {
            let args = self.args().text(&self.replica).millis(REPLICA_TTL).millis(STATE_TTL);
            let beat = self.run::<i64>(&self.heartbeat, vec![holders_of(tenant)], args);
            // A tenant whose heartbeat panics keeps no other from its own.
            if let Some(alive) = self.tasks.contain(Task::RedisHeartbeat, &tenant, beat).await {
                self.replicas.store(u32::try_from(alive?).unwrap_or(1).max(1), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn release(&self, lease: &Lease, used: Option<u64>) {
        if let Some(mut busy) = self.busy.get_mut(&lease.tenant) {
            *busy = busy.saturating_sub(1);
        }
        self.writer.note(Note::Release(lease.clone(), used));
    }

    fn count_up(&self, tenant: Uuid, calls: usize) {
        *self.busy.entry(tenant).or_default() += u32::try_from(calls).unwrap_or(u32::MAX);
    }
}

impl RedisStore {
    /// Whether every primary takes writes: a store that goes back for the sake of one would be lost by the next call
    /// for another.
    pub(super) async fn probe(&self) -> Result<(), StateError> {
        self.shared.connection.renew_if_ended();
        let probes = self.shared.probe_keys().into_iter().map(|key| {
            let args = Args::default().millis(Duration::from_secs(1));
            self.shared.run::<Value>(&self.shared.claim, vec![key], args)
        });
        try_join_all(probes).await.map(drop)
    }

    /// Waits until it answers.
    pub(super) async fn wait(&self, limit: Duration) -> Result<(), StateError> {
        let answered = timeout(limit, async {
            while self.probe().await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        answered.await.map_err(|_| {
            self.shared.connection.problem().unwrap_or_else(|| StateError("it does not answer".into()))
        })
    }

    /// Where its tasks run.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    /// Connects anew; see [`Connection::renew`].
    pub(super) fn reconnect(&self) {
        self.shared.rosters.forget_refreshed();
        self.shared.connection.renew();
    }

    /// See [`Connection::broken`].
    pub(super) fn broken(&self) -> impl Future<Output = Option<StateError>> + use<> {
        self.shared.connection.broken()
    }

    /// Whether successes and releases were dropped since this was last asked: then its counts are not the truth.
    pub(super) fn has_dropped_notes(&self) -> bool {
        self.shared.writer.has_dropped()
    }

    /// How many replicas were alive when last seen.
    pub(super) fn replicas(&self) -> u32 {
        self.shared.replicas.load(Ordering::Relaxed)
    }

    /// Brings a pool's cooldowns and this replica's in-flight counts as they are known here.
    pub(super) async fn restore(&self, known: &Known) -> Result<(), StateError> {
        let keys = Keys::of(known.tenant, known.pool);
        if !known.cooling.is_empty() {
            let mut args = self.shared.args().millis(STATE_TTL);
            for (scope, field, left, class) in &known.cooling {
                let place = match scope {
                    Scope::Member => "member",
                    Scope::Credential => "credential",
                };
                args = args.text(place).text(field).millis(*left).text(class.name());
            }
            self.shared.run::<Value>(&self.shared.merge, keys.records(), args).await?;
        }
        let mut args = self.shared.args().text(&self.shared.replica).millis(REPLICA_TTL).millis(STATE_TTL);
        for (member, count) in &known.in_flight {
            args = args.text(&member.to_string()).number((*count).into());
        }
        let keys = vec![keys.counts(), keys.holders()];
        self.shared.run::<Value>(&self.shared.register, keys, args).await.map(drop)
    }

    /// Sets how many calls this replica has in flight, by tenant.
    pub(super) fn set_busy(&self, busy: impl IntoIterator<Item = (Uuid, u32)>) {
        self.shared.busy.clear();
        for (tenant, count) in busy {
            if count > 0 {
                self.shared.busy.insert(tenant, count);
            }
        }
    }
}

/// What [`StateStore`](super::StateStore) asks for, under the same names. An error says that the server cannot be reached;
/// then nothing is held and nothing is written.
impl RedisStore {
    /// See [`StateStore::acquire`](super::StateStore::acquire).
    ///
    /// # Errors
    /// Where the server cannot be reached; then nothing is held and nothing is written.
    pub async fn acquire(&self, ask: &Acquire<'_>) -> Result<Acquired, StateError> {
        self.acquire_and_learn(ask).await.map(|(acquired, _)| acquired)
    }

    pub(super) async fn fail(
        &self,
        attempt: &FailedAttempt<'_>,
        cooldown: &Cooldown,
    ) -> Result<(), StateError> {
        let args = self.shared.args().millis(STATE_TTL).failure(attempt, cooldown);
        let keys = Keys::of(attempt.tenant, attempt.pool).records();
        self.shared.run::<Value>(&self.shared.fail, keys, args).await.map(drop)
    }

    /// See [`StateStore::succeed`](super::StateStore::succeed).
    pub fn succeed(&self, lease: &Lease) {
        if lease.marked {
            self.shared.writer.note(Note::Succeed(lease.clone(), self.shared.clock.offset()));
        }
    }

    /// See [`StateStore::release`](super::StateStore::release).
    pub fn release(&self, lease: &Lease, used: Option<u64>) {
        self.shared.release(lease, used);
    }

    pub(super) async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StateError> {
        let args = self.shared.args().text(&holder(lease.id)).millis(ttl);
        let keys = vec![holders_of(lease.tenant)];
        Ok(self.shared.run::<i64>(&self.shared.renew, keys, args).await? == 1)
    }

    pub(super) async fn end(
        &self,
        lease: &Lease,
        used: Option<u64>,
        outcome: Outcome<'_>,
    ) -> Result<bool, StateError> {
        let args = self
            .shared
            .args()
            .millis(STATE_TTL)
            .text(&holder(lease.id))
            .text(&lease.id.to_string())
            .text(&lease.member.key.to_string())
            .text(&lease.member.key.record)
            .text(&lease.member.credential)
            .time(lease.began)
            .number(lease.tokens)
            .optional(used.filter(|_| lease.member.limits.tokens_per_minute > 0));
        let args = match outcome {
            Outcome::Failed(cooldown) => args.text("failed").failure(&lease.attempt(), cooldown),
            Outcome::Served => args.text("served"),
            Outcome::Unknown => args.text("unknown"),
        };
        let keys = Keys::of(lease.tenant, lease.pool).all();
        Ok(self.shared.run::<i64>(&self.shared.end, keys, args).await? == 1)
    }

    /// See [`StateStore::inspect`](super::StateStore::inspect).
    ///
    /// # Errors
    /// Where the server cannot be reached; then nothing is held and nothing is written.
    pub async fn inspect(&self, pool: &Roster) -> Result<Inspection, StateError> {
        // What this replica has in flight is told before.
        self.flush().await;
        let mut args = self.shared.args();
        for member in pool.members.iter() {
            args = args.text(&member.key.to_string()).text(&member.key.record).text(&member.credential);
        }
        let keys = Keys::of(pool.tenant, pool.id).all();
        let answer: Vec<Value> = self.shared.run(&self.shared.inspect, keys, args).await?;
        codec::inspection(&answer, pool)
    }

    pub(super) async fn override_cooldown(
        &self,
        pool: &Roster,
        member: &Member,
        change: Override,
    ) -> Result<(), StateError> {
        let args = self.shared.args().millis(STATE_TTL).text(&member.key.record).text(&member.credential);
        let args = match change {
            Override::Set { duration, class } => args.text("set").millis(duration).text(class.name()),
            Override::Clear => args.text("clear"),
            Override::Recover => {
                let ended = ErrorClass::ALL.into_iter().filter(|class| class.health_check_ends());
                let names: Vec<_> = ended.map(ErrorClass::name).collect();
                args.text("recover").text(&format!(" {} ", names.join(" ")))
            }
        };
        let keys = Keys::of(pool.tenant, pool.id);
        self.shared.run::<Value>(&self.shared.override_cooldown, keys.records(), args).await.map(drop)
    }

    pub(super) async fn claim_check(&self, pool: &Roster, ttl: Duration) -> Result<bool, StateError> {
        let keys = vec![Keys::of(pool.tenant, pool.id).check()];
        let args = Args::default().millis(ttl);
        Ok(self.shared.run::<i64>(&self.shared.claim, keys, args).await? == 1)
    }

    pub(super) async fn forget(&self, gone: &Gone) -> Result<(), StateError> {
        // What was noted of them before must not come after.
        self.flush().await;
        let mut keys: Vec<_> =
            gone.pools.iter().flat_map(|pool| Keys::of(gone.tenant, *pool).own()).collect();
        if gone.whole {
            keys.extend(keys::of_tenant(gone.tenant));
        }
        for some in keys.chunks(FORGOTTEN_AT_ONCE) {
            self.shared.run::<Value>(&self.shared.forget, some.to_vec(), Args::default()).await?;
        }
        Ok(())
    }

    /// Word of changed configuration, from replica to replica.
    #[must_use]
    pub fn change_feed(&self) -> ChangeFeed {
        ChangeFeed::new(self.shared.connection.clone(), self.shared.announced.clone())
    }

    /// See [`StateStore::flush`](super::StateStore::flush).
    pub async fn flush(&self) {
        self.shared.writer.flush().await;
    }
}

/// Keeps this replica's in-flight counts alive while it has any.
async fn beat(shared: Weak<Shared>) {
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

fn acquire_script() -> Script {
    let parts = [
        include_str!("plain.lua"),
        &shared_lua(),
        include_str!("strategies.lua"),
        include_str!("acquire.lua"),
    ];
    Script::new("acquire", parts.concat())
}

/// The holder that a lease with an end of its own is.
fn holder(lease: LeaseId) -> String {
    format!("lease:{lease}")
}

fn state_error(error: RedisError) -> StateError {
    // Of what the system says fred keeps the form for programmers alone.
    let details = error.details();
    let said = details.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
    StateError(format!("{:?}: {}", error.kind(), said.map_or(details, |(message, _)| message)))
}
