//! State in Redis, shared by any number of replicas.
//!
//! One script a decision, so that no two replicas can see half of one. All keys of a tenant carry the hash tag
//! `{tenant row id}`: a script may touch a pool and the tenant's credentials on a cluster too. The scripts take
//! durations and read Redis's own clock, so replicas need not agree on the time.
//!
//! When Redis is gone, everything that is waited for returns an error at once, and what is noted off the path is dropped:
//! trials expire by themselves, and in-flight counts are those of live replicas only.

mod batch;
mod codec;
mod fleet;
mod keys;
mod rosters;
mod script;
mod shared;
mod writer;

pub use codec::CoolingMember;
pub(super) use fleet::{Fleet, Hear};
pub(super) use writer::DroppedNotes;

use super::{
    Acquire, Answer, Clock, CoolingRecord, FailedAttempt, Inspection, Known, Lease, Lines, Outcome, Override,
    STATE_TTL,
};
use crate::{
    balance::{Cooldown, ErrorClass, Gone, GoneMembers, Member, Roster, millis},
    redis::{Args, ChangeFeed, RedisError, RedisOptions, Result},
    tasks::{Task, Tasks},
};
use batch::Batches;
use codec::failure;
use fred::types::Value;
use futures::future::try_join_all;
use keys::{Key, REPLICA_TTL, holder, keys, lease_entry};
use script::script;
use shared::{Shared, beat};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::sleep;
use tokio_util::sync::DropGuard;
use uuid::Uuid;

/// Cooldowns one script brings.
const BROUGHT_AT_ONCE: usize = 200;
/// Keys one script removes.
const FORGOTTEN_AT_ONCE: usize = 1000;

/// State in Redis, shared by any number of replicas.
#[derive(Clone)]
pub struct RedisStore {
    /// Ends the tasks with the last clone. It stands first, so that they have ended before what they use is gone.
    _running: Arc<DropGuard>,
    shared: Arc<Shared>,
    batches: Arc<Batches>,
}

impl RedisStore {
    /// Connects, and waits for the first connection.
    ///
    /// # Errors
    /// Where the URL is malformed or the server does not answer. The text holds no password.
    pub async fn connect(options: &RedisOptions) -> Result<Self> {
        let store = Self::connect_later(options)?;
        store.wait(options.patience()).await?;
        Ok(store)
    }

    /// Connects in the background, again and again until the server is there.
    ///
    /// # Errors
    /// Where the URL is malformed. The text holds no password.
    pub fn connect_later(options: &RedisOptions) -> Result<Self> {
        let (tasks, running) = options.tasks.guarded();
        let shared = Arc::new(Shared::open(options, &tasks)?);
        let beating = Arc::downgrade(&shared);
        tasks.spawn_endless(Task::RedisHeartbeat, move || beat(beating.clone()));
        let batches = Arc::new(Batches::new(shared.clone()));
        Ok(Self { _running: Arc::new(running), shared, batches })
    }

    /// Says that this replica is alive, where it holds calls in flight. It does so by itself every 5 seconds; a test
    /// that has moved the clock calls it.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub async fn heartbeat(&self) -> Result<()> {
        self.shared.heartbeat().await
    }

    /// What this replica is called.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.shared.replica
    }

    /// The replicas that share this Redis: what they say of addresses is told to `hear`.
    pub(super) fn fleet(&self, options: &RedisOptions, hear: Arc<Hear>) -> Fleet {
        Fleet::join(self.shared.clone(), options, hear)
    }

    /// How far its clock is ahead of the server's, for tests and simulations to move.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }
}

impl RedisStore {
    /// Whether every primary takes writes and lets us run what we need: a store that goes back for the sake of one, or of one
    /// command, would be lost by the next call for another.
    ///
    /// # Errors
    /// What a primary says, or which commands its ACL refuses.
    pub async fn probe(&self) -> Result<()> {
        self.shared.connection.renew_if_ended();
        let name = |n| format!("rota:probe:{}:{n}", self.shared.replica);
        let keys = self.shared.connection.key_of_each_primary(name).into_iter();
        let probes = keys.map(|key| self.try_all(key));
        try_join_all(probes).await.map(drop)
    }

    /// Runs every command that the scripts use, on a key of its own.
    async fn try_all(&self, key: String) -> Result<()> {
        let args = Args::default().millis(Duration::from_secs(1));
        let refused: Vec<String> = self.shared.run(script!("probe"), [key], args).await?;
        if refused.is_empty() { Ok(()) } else { Err(RedisError::refused(&refused)) }
    }

    /// Waits until it answers.
    pub(super) async fn wait(&self, limit: Duration) -> Result<()> {
        let answered = async {
            loop {
                match self.probe().await {
                    // Waiting does not change that.
                    Err(error) if error.is_refusal() => return Err(error),
                    Err(_) => sleep(Duration::from_millis(20)).await,
                    Ok(()) => return Ok(()),
                }
            }
        };
        self.shared.connection.within(limit, answered).await?
    }

    /// Where its tasks run.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    /// Connects anew; see `Connection::renew`.
    pub(super) fn reconnect(&self) {
        self.shared.rosters.forget_refreshed();
        self.shared.connection.renew();
    }

    /// See `Connection::broken`.
    pub(super) fn broken(&self) -> impl Future<Output = Option<RedisError>> + use<> {
        self.shared.connection.broken()
    }

    /// Whose successes and releases were dropped since this was last asked: their counts are not the truth.
    pub(super) fn dropped_notes(&self) -> Option<DroppedNotes> {
        self.shared.writer.dropped()
    }

    /// Notes a call that this replica has granted alone: it says that it lives while it has any.
    pub(super) fn begun_alone(&self, tenant: Uuid) {
        self.shared.begun(tenant, 1);
    }

    /// Notes that a call is over of which Redis is not told now.
    pub(super) fn ended_alone(&self, tenant: Uuid) {
        self.shared.ended(tenant);
    }

    /// How many replicas were alive when last seen.
    pub(super) fn replicas(&self) -> u32 {
        self.shared.replicas.load(Ordering::Relaxed)
    }

    /// Brings what this replica knows of a pool: its cooldowns, its calls in flight, and what it has granted and used alone.
    /// It is the truth. No note of the pool may be on its way.
    pub(super) async fn bring(&self, known: &Known) -> Result<()> {
        let Known { tenant, pool, cooling, in_flight, leases, used } = known;
        self.bring_cooling(*tenant, *pool, cooling).await?;
        let calls: Vec<_> = in_flight.iter().map(|(member, calls)| (member.to_string(), calls)).collect();
        let leases: Vec<_> = leases
            .iter()
            .map(|(member, lease, left)| (member.to_string(), lease_entry(member, *lease), millis(*left)))
            .collect();
        let windows: Vec<_> = used
            .iter()
            .map(|(kind, member, used)| {
                let used: Vec<_> = used.iter().map(|(age, amount)| (millis(*age), amount)).collect();
                (format!("{kind}:{member}"), used)
            })
            .collect();
        let args = self.shared.args().text(&self.shared.replica).millis(REPLICA_TTL).millis(STATE_TTL);
        let args = args.bytes(codec::pack(&(calls, leases, windows))?);
        let keys = keys(Key::ALL, *tenant, *pool);
        self.shared.run(script!("register"), keys, args).await
    }

    /// Brings cooldowns of a pool's members or of the tenant's credentials: the later end wins.
    pub(super) async fn bring_cooling(
        &self,
        tenant: Uuid,
        pool: Uuid,
        cooling: &[CoolingRecord],
    ) -> Result<()> {
        for some in cooling.chunks(BROUGHT_AT_ONCE) {
            let mut args = self.shared.args().millis(STATE_TTL);
            for (scope, field, left, class) in some {
                args = args.text(scope.name()).text(field).millis(*left).text(class.name());
            }
            self.shared.run::<()>(script!("merge"), keys(Key::RECORDS, tenant, pool), args).await?;
        }
        Ok(())
    }
}

/// What [`StateStore`](crate::state::StateStore) asks for, under the same names.
impl RedisStore {
    /// See [`StateStore::acquire`](crate::state::StateStore::acquire). Says who of the pool cools as well.
    ///
    /// # Errors
    /// Where the server cannot be reached; then nothing is held and nothing is written.
    pub async fn acquire(&self, ask: &Acquire<'_>) -> Result<(Answer, Arc<[CoolingMember]>)> {
        self.batches.acquire(ask).await
    }

    pub(super) async fn fail(&self, attempt: &FailedAttempt<'_>, cooldown: &Cooldown) -> Result<()> {
        let args = self.shared.args().millis(STATE_TTL).all(failure(attempt, cooldown));
        let line = attempt.trial.map(|_| Key::Line);
        let keys = Key::RECORDS.into_iter().chain(line).map(|key| key.of(attempt.tenant, attempt.pool));
        self.shared.run(script!("fail"), keys, args).await
    }

    /// The lines of callers that wait on this replica.
    pub(super) fn lines(&self) -> &Arc<Lines> {
        &self.shared.lines
    }

    pub(super) fn leave(&self, pool: &Roster) {
        self.shared.writer.leave(pool.tenant, pool.id);
    }

    /// See [`StateStore::succeed`](crate::state::StateStore::succeed).
    pub fn succeed(&self, lease: &Lease) {
        if lease.marked {
            self.shared.writer.succeed(lease, self.shared.clock.ahead());
        }
    }

    /// See [`StateStore::release`](crate::state::StateStore::release).
    pub fn release(&self, lease: &Lease, used: Option<u64>) {
        self.shared.release(lease, used);
    }

    pub(super) async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool> {
        let entry = lease_entry(&lease.member.key, lease.id);
        let args = self.shared.args().text(&entry).text(&holder(lease.id)).millis(ttl);
        let keys = keys([Key::Leases, Key::Holders], lease.tenant, lease.pool);
        self.shared.run(script!("renew"), keys, args).await
    }

    pub(super) async fn end(&self, lease: &Lease, used: Option<u64>, outcome: Outcome<'_>) -> Result<bool> {
        let args = self
            .shared
            .args()
            .millis(STATE_TTL)
            .text(&holder(lease.id))
            .text(&lease.id.to_string())
            .text(&lease.member.key.to_string())
            .text(&lease.member.key.record)
            .text(&lease.member.credential)
            .number(lease.began.millis())
            .number(lease.tokens)
            .optional(used.filter(|_| lease.member.limits.tokens_per_minute > 0));
        let args = match outcome {
            Outcome::Failed(cooldown) => args.text("failed").all(failure(&lease.attempt(), cooldown)),
            Outcome::Served => args.text("served"),
            Outcome::Unknown => args.text("unknown"),
        };
        // The line comes last.
        let told = Key::ALL.len() - usize::from(!lease.is_awaited());
        let keys = keys(Key::ALL, lease.tenant, lease.pool).into_iter().take(told);
        self.shared.run(script!("end"), keys, args).await
    }

    /// See [`StateStore::inspect`](crate::state::StateStore::inspect).
    ///
    /// # Errors
    /// Where the server cannot be reached; then nothing is held and nothing is written.
    pub async fn inspect(&self, pool: &Roster) -> Result<Inspection> {
        // What this replica has in flight is told before.
        self.flush().await;
        let mut args = self.shared.args();
        for member in pool.members.iter() {
            args = args.text(&member.key.to_string()).text(&member.key.record).text(&member.credential);
        }
        let keys = keys(Key::ALL, pool.tenant, pool.id);
        let answer: Vec<Value> = self.shared.run(script!("inspect"), keys, args).await?;
        codec::inspection(&answer, pool)
    }

    pub(super) async fn override_cooldown(
        &self,
        pool: &Roster,
        member: &Member,
        change: Override,
    ) -> Result<()> {
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
        let keys = keys([Key::Pool, Key::Credentials, Key::Line], pool.tenant, pool.id);
        self.shared.run(script!("override"), keys, args).await
    }

    pub(super) async fn claim_check(&self, pool: &Roster, ttl: Duration) -> Result<bool> {
        self.claim(Key::Check.of(pool.tenant, pool.id), ttl).await
    }

    async fn claim(&self, key: String, ttl: Duration) -> Result<bool> {
        self.shared.run(script!("claim"), [key], Args::default().millis(ttl)).await
    }

    pub(super) async fn forget(&self, gone: &Gone) -> Result<()> {
        // What was noted of them before must not come after.
        self.flush().await;
        let of_pool = |pool: &Uuid| keys(Key::OF_POOL, gone.tenant, *pool);
        let mut all: Vec<_> = gone.pools.iter().flat_map(of_pool).collect();
        if gone.whole {
            all.extend(keys(Key::OF_TENANT, gone.tenant, Uuid::nil()));
        }
        for some in all.chunks(FORGOTTEN_AT_ONCE) {
            self.shared.run::<()>(script!("forget"), some.to_vec(), Args::default()).await?;
        }
        let mut fields: Vec<(Key, Uuid, String)> = Vec::new();
        for GoneMembers { pool, keys, records } in &gone.members {
            fields.extend(records.iter().map(|record| (Key::Pool, *pool, record.to_string())));
            let windows = keys.iter().flat_map(|key| [format!("r:{key}"), format!("t:{key}")]);
            fields.extend(windows.map(|field| (Key::Used, *pool, field)));
        }
        let names = gone.credentials.iter().map(|name| (Key::Credentials, Uuid::nil(), name.to_string()));
        fields.extend(names);
        for some in fields.chunks(FORGOTTEN_AT_ONCE) {
            let keys: Vec<_> = some.iter().map(|(key, pool, _)| key.of(gone.tenant, *pool)).collect();
            let args = Args::default().all(some.iter().map(|(_, _, field)| field.as_str()));
            self.shared.run::<()>(script!("forget"), keys, args).await?;
        }
        Ok(())
    }

    /// Word of changed configuration, from replica to replica.
    #[must_use]
    pub fn change_feed(&self) -> ChangeFeed {
        self.shared.changes.clone()
    }

    /// See [`StateStore::flush`](crate::state::StateStore::flush).
    pub async fn flush(&self) {
        self.shared.writer.flush().await;
    }
}
