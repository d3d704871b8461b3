//! State that goes on when Redis is away: the shared store while it answers, this replica's own when it does not.
//!
//! A command that has no answer decides nothing but its own call, which this replica then decides alone. Its pool is in doubt
//! from then on ([`Doubts`]): this replica decides on it alone until it has told Redis what it knows of it. So what troubles
//! one pool, such as a command that takes too long or a key of a wrong type, is no trouble of the others.
//!
//! When the connection breaks, or two probes in a row fail, Redis is away, and everything is served from memory: turns,
//! cooldowns, counts and limits. The cooldowns known then are kept, since the answers of Redis say who cools. Nothing but a
//! probe touches Redis meanwhile, so a server that accepts and never answers costs a caller one command timeout at most.
//! Limits are divided by the replicas last seen.
//!
//! When the probe is answered again, every pool of which there is something to tell is in doubt. The others are shared again at
//! once, and these some at a time: this replica brings their cooldowns (the later end wins), what it truly has in flight, and
//! what it has granted and used alone. Callers see none of it but [`Answer::degraded`]; the log says each change once.

use super::{
    Acquire, Acquired, Answer, FailedAttempt, Inspection, Lease, Lines, MemoryStore, Outcome, Override,
    RedisStore, StateStore,
    doubts::{Doubts, Late, PoolOf},
};
use crate::{
    balance::{Cooldown, Gone, Member, Roster, Scope},
    redis::{RedisError, Result},
    tasks::Task,
};
use async_trait::async_trait;
use futures::{StreamExt, future::join_all, stream};
use parking_lot::Mutex;
use std::{
    mem,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use uuid::Uuid;

/// How often a server that is away is asked whether it is back.
const PROBE: Duration = Duration::from_millis(200);

/// How often a server that is there is asked whether it still is.
const WATCH: Duration = Duration::from_secs(1);

/// A server is away when so many probes in a row have failed.
const PROBES: usize = 2;

/// Pools of which Redis is told at once while their gate is closed, and gates that are closed at once.
const TOLD_AT_ONCE: usize = 16;
const CLOSED_AT_ONCE: usize = 8;

/// That a command had no answer is told no more often.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// So many deletions are kept for when Redis is back. What Redis holds of further ones goes with its time to live.
const MOST_UNFORGOTTEN: usize = 10_000;

/// See the module's documentation.
pub struct ResilientStore {
    shared: RedisStore,
    local: MemoryStore,
    away: AtomicBool,
    /// Why it is away, as it last said.
    problem: Mutex<Option<RedisError>>,
    doubts: Doubts,
    /// What was deleted while Redis could not be told.
    unforgotten: Mutex<Vec<Gone>>,
    /// When it was last told that a command had no answer.
    told: Mutex<Option<Instant>>,
    /// Wakes the task that watches: Redis is away, or may be.
    trouble: Arc<Notify>,
}

impl From<&Roster> for PoolOf {
    fn from(pool: &Roster) -> Self {
        Self { tenant: pool.tenant, pool: pool.id }
    }
}

impl From<&Lease> for PoolOf {
    fn from(lease: &Lease) -> Self {
        Self { tenant: lease.tenant, pool: lease.pool }
    }
}

impl ResilientStore {
    /// On that server, which may be away.
    #[must_use]
    pub fn new(shared: RedisStore) -> Arc<Self> {
        Arc::new(Self {
            shared,
            local: MemoryStore::default(),
            away: AtomicBool::new(false),
            problem: Mutex::default(),
            doubts: Doubts::default(),
            unforgotten: Mutex::default(),
            told: Mutex::default(),
            trouble: Arc::default(),
        })
    }

    /// Waits until the server answers, or goes on alone after `limit`.
    ///
    /// # Errors
    /// Why it did not answer.
    pub async fn wait(self: &Arc<Self>, limit: Duration) -> Result<()> {
        let answered = self.shared.wait(limit).await.inspect_err(|error| self.lost(error));
        let this = Arc::downgrade(self);
        self.shared.tasks().spawn_endless(Task::RedisWatch, move || watch(this.clone()));
        answered
    }

    /// Notes a failure of the server, and goes on alone from the first one.
    fn lost(&self, error: &RedisError) {
        if self.away.swap(true, Ordering::SeqCst) {
            return;
        }
        tracing::warn!(%error, "Redis is away: going on with what this replica knows");
        *self.problem.lock() = Some(error.clone());
        self.shared.reconnect();
        self.trouble.notify_one();
        // Those who wait go on waiting here.
        self.lines().wake_all();
    }

    /// Keeps why it is away. A refusal is told once: somebody has to change something.
    fn still_away(&self, error: RedisError) {
        let mut problem = self.problem.lock();
        if error.is_refusal() && problem.as_ref().is_none_or(|known| known != &error) {
            tracing::error!(%error, "Redis is there and refuses a command: its user needs those of deploy/redis/users.acl");
        }
        *problem = Some(error);
    }

    /// Notes that a command of that pool has no answer.
    fn failed(&self, of: PoolOf, error: &RedisError) {
        let is_new = self.doubts.add(of);
        if !error.is_of_command() {
            return self.lost(error);
        }
        let mut told = self.told.lock();
        if is_new && !self.degraded() && told.is_none_or(|at| at.elapsed() > TOLD_AGAIN) {
            *told = Some(Instant::now());
            let pool = of.pool;
            tracing::warn!(%error, %pool, "Redis has not answered: this replica decides on the pool alone for now");
        }
        self.lines().wake(of.pool);
        self.trouble.notify_one();
    }

    /// Why Redis is away, where it is.
    async fn probe(&self) -> Result<()> {
        let mut probed = Ok(());
        for _ in 0..PROBES {
            probed = self.shared.probe().await;
            match &probed {
                Err(error) if !error.is_refusal() => {}
                _ => break,
            }
        }
        probed
    }

    /// Redis is there again.
    async fn go_back(&self) -> Result<()> {
        // What was noted before the loss must not be counted on top of the truth.
        self.shared.flush().await;
        self.take_dropped();
        for (tenant, pool) in self.local.with_something_to_tell() {
            self.doubts.add(PoolOf { tenant, pool });
        }
        for tenant in self.local.with_cooling_credentials() {
            self.doubts.add_credentials(tenant);
        }
        self.tell_of_credentials().await?;
        self.away.store(false, Ordering::SeqCst);
        tracing::info!("Redis is back: state is shared again");
        // Those who wait here take their place among all.
        self.lines().wake_all();
        let unforgotten = mem::take(&mut *self.unforgotten.lock());
        for gone in unforgotten {
            self.forget(&gone).await;
        }
        self.tell().await;
        Ok(())
    }

    /// Tells Redis of the pools that are in doubt. Those that it cannot be told of stay so.
    async fn tell(&self) {
        if let Err(error) = self.tell_of_credentials().await
            && !error.is_of_command()
        {
            return self.lost(&error);
        }
        let by_gate = self.doubts.by_gate();
        let told = by_gate.into_iter().map(|pools| self.tell_at(pools));
        stream::iter(told).buffer_unordered(CLOSED_AT_ONCE).collect::<()>().await;
    }

    /// Tells Redis of pools of one gate.
    async fn tell_at(&self, pools: Vec<PoolOf>) {
        let Some(first) = pools.first() else { return };
        let gate = self.doubts.gate(first.pool);
        for some in pools.chunks(TOLD_AT_ONCE) {
            if self.degraded() {
                return;
            }
            let ((), late) = gate.closed(self.tell_of(some)).await;
            for one in late {
                match one {
                    Late::Served(lease) => self.succeed(&lease),
                    Late::Over(lease, used) => self.release(&lease, used),
                }
            }
        }
    }

    /// Tells Redis of these pools, whose gate is closed.
    async fn tell_of(&self, pools: &[PoolOf]) {
        self.shared.flush().await;
        let told = pools.iter().map(|of| async move {
            let known = self.local.known(of.tenant, of.pool);
            let told =
                self.shared.tasks().contain(Task::RedisWatch, &of.pool, self.shared.bring(&known)).await;
            (*of, told)
        });
        for (of, told) in join_all(told).await {
            match told {
                Some(Ok(())) => {
                    self.local.told(of.tenant, of.pool);
                    self.doubts.end(of.pool);
                    self.lines().wake(of.pool);
                }
                Some(Err(error)) if !error.is_of_command() => self.lost(&error),
                Some(Err(error)) => tracing::debug!(%error, pool = %of.pool, "it stays alone"),
                None => {}
            }
        }
    }

    /// Tells Redis which credentials have failed while this replica was alone.
    async fn tell_of_credentials(&self) -> Result<()> {
        let told = self.doubts.take_credentials().into_iter().map(|tenant| async move {
            let cooling = self.local.cooling_credentials(tenant);
            let told = self.shared.bring_cooling(tenant, Uuid::nil(), &cooling).await;
            told.inspect_err(|_| self.doubts.add_credentials(tenant))
        });
        let told: Vec<_> = stream::iter(told).buffer_unordered(TOLD_AT_ONCE).collect().await;
        // What one tenant's keys are is no trouble of the others.
        told.into_iter().find(|one| one.as_ref().is_err_and(|error| !error.is_of_command())).unwrap_or(Ok(()))
    }

    /// Whether this replica decides alone on that pool.
    fn is_alone(&self, pool: Uuid) -> bool {
        self.degraded() || self.doubts.hold(pool)
    }

    /// Doubts the pools whose notes were not written: what was dropped would count as in flight for ever.
    fn take_dropped(&self) {
        let Some(dropped) = self.shared.dropped_notes() else { return };
        for (tenant, pool) in dropped.pools {
            self.doubts.add(PoolOf { tenant, pool });
        }
        if dropped.unknown {
            for (tenant, pool) in self.local.with_something_to_tell() {
                self.doubts.add(PoolOf { tenant, pool });
            }
        }
        self.trouble.notify_one();
    }

    /// Asks the server of that pool, where it is there and the pool is not in doubt.
    async fn shared<T>(&self, of: PoolOf, answer: impl Future<Output = Result<T>>) -> Option<T> {
        self.take_dropped();
        if self.is_alone(of.pool) {
            return None;
        }
        answer.await.inspect_err(|error| self.failed(of, error)).ok()
    }

    /// The same for what changes nothing.
    async fn seen<T>(&self, of: PoolOf, answer: impl Future<Output = Result<T>>) -> Option<T> {
        if self.is_alone(of.pool) {
            return None;
        }
        let failed = |error: &RedisError| {
            if error.is_of_command() {
                self.trouble.notify_one();
            } else {
                self.lost(error);
            }
        };
        answer.await.inspect_err(failed).ok()
    }

    /// Notes that this replica decides on that pool alone, before it does.
    fn alone(&self, of: PoolOf, failure: Option<&Cooldown>) {
        self.doubts.add(of);
        if failure.is_some_and(|cooldown| cooldown.scope == Scope::Credential) {
            self.doubts.add_credentials(of.tenant);
        }
    }

    /// Tells those who wait that something may be free, where this replica decides alone and no word comes from Redis.
    fn word(&self, is_awaited: bool, pool: Uuid) {
        if is_awaited && self.is_alone(pool) {
            self.lines().wake(pool);
        }
    }

    /// The pool with this replica's part of its limits.
    fn part_of(&self, pool: &Arc<Roster>) -> Arc<Roster> {
        let replicas = self.shared.replicas();
        if replicas <= 1 || pool.members.iter().all(|member| member.limits.is_none()) {
            return pool.clone();
        }
        let part = |member: &Member| Member { limits: member.limits.part_of(replicas), ..member.clone() };
        Arc::new(Roster { members: pool.members.iter().map(part).collect(), ..**pool })
    }
}

/// Notices a loss while nobody calls, so that readiness tells it and the next caller does not pay for it; brings the replica
/// back; and tells Redis of the pools that are in doubt.
///
/// A connection that breaks is a loss even where the next serves at once: behind that may be a server that knows less, such
/// as a primary that was a replica, and going back brings what it does not know.
async fn watch(this: Weak<ResilientStore>) {
    while let Some(store) = this.upgrade() {
        if store.degraded() {
            drop(store);
            sleep(PROBE).await;
            let Some(store) = this.upgrade() else { return };
            let back = match store.shared.probe().await {
                Ok(()) => store.go_back().await,
                refused => refused,
            };
            if let Err(error) = back {
                store.still_away(error);
            }
            continue;
        }
        let mut broken = pin!(store.shared.broken());
        let trouble = store.trouble.clone();
        drop(store);
        let mut tell_at = Instant::now();
        let error = loop {
            let Some(store) = this.upgrade() else { return };
            store.take_dropped();
            let pause = if store.doubts.are_none() { WATCH } else { PROBE };
            drop(store);
            tokio::select! {
                error = &mut broken => break error,
                () = trouble.notified() => {}
                () = sleep(pause) => {}
            }
            let Some(store) = this.upgrade() else { return };
            if store.degraded() {
                break None;
            }
            if let Err(error) = store.probe().await {
                break Some(error);
            }
            // Right after an answer, since callers of these pools wait meanwhile.
            if tell_at <= Instant::now() && !store.doubts.are_none() {
                let before = store.doubts.len();
                store.tell().await;
                // Those of which Redis cannot be told cost little.
                let pause = if store.doubts.len() < before { PROBE } else { WATCH };
                tell_at = Instant::now() + pause;
            }
        };
        if let (Some(store), Some(error)) = (this.upgrade(), error) {
            store.lost(&error);
        }
    }
}

#[async_trait]
impl StateStore for ResilientStore {
    async fn acquire(&self, ask: &Acquire<'_>) -> Answer {
        let of = PoolOf::from(&**ask.pool);
        let _going = self.doubts.gate(of.pool).pass().await;
        if let Some((answer, cooling)) = self.shared(of, self.shared.acquire(ask)).await {
            self.local.follow(ask, &answer, &cooling);
            return answer;
        }
        self.alone(of, ask.failed.map(|(_, cooldown)| cooldown));
        let pool = self.part_of(ask.pool);
        let answer = self.local.acquire(&Acquire { pool: &pool, ..*ask }).await;
        if ask.hold.is_none() && matches!(answer.acquired, Acquired::Granted { .. }) {
            self.shared.begun_alone(of.tenant);
        }
        if ask.failed.is_some_and(|(lease, _)| lease.trial) {
            self.lines().wake(pool.id);
        }
        Answer { degraded: true, ..answer }
    }

    async fn fail(&self, attempt: &FailedAttempt<'_>, cooldown: &Cooldown) {
        let of = PoolOf { tenant: attempt.tenant, pool: attempt.pool };
        let _going = self.doubts.gate(of.pool).pass().await;
        self.local.fail(attempt, cooldown).await;
        if self.shared(of, self.shared.fail(attempt, cooldown)).await.is_none() {
            self.alone(of, Some(cooldown));
        }
        self.word(attempt.trial.is_some(), attempt.pool);
    }

    fn succeed(&self, lease: &Lease) {
        let now = || {
            self.local.recover(lease);
            if self.is_alone(lease.pool) {
                self.alone(lease.into(), None);
                self.word(lease.trial, lease.pool);
            } else {
                self.shared.succeed(lease);
            }
        };
        self.doubts.gate(lease.pool).now_or_later(|| Late::Served(lease.clone()), now);
    }

    fn release(&self, lease: &Lease, used: Option<u64>) {
        let now = || {
            self.local.release(lease, used);
            if self.is_alone(lease.pool) {
                self.shared.ended_alone(lease.tenant);
                self.alone(lease.into(), None);
                self.word(lease.is_awaited(), lease.pool);
            } else {
                self.shared.release(lease, used);
            }
        };
        self.doubts.gate(lease.pool).now_or_later(|| Late::Over(lease.clone(), used), now);
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> bool {
        let _going = self.doubts.gate(lease.pool).pass().await;
        let here = self.local.renew(lease, ttl).await;
        self.shared(lease.into(), self.shared.renew(lease, ttl)).await.unwrap_or(here)
    }

    async fn end(&self, lease: &Lease, used: Option<u64>, outcome: Outcome<'_>) -> bool {
        let _going = self.doubts.gate(lease.pool).pass().await;
        let here = self.local.end(lease, used, outcome).await;
        let ended = self.shared(lease.into(), self.shared.end(lease, used, outcome)).await;
        if ended.is_none() {
            let failure = if let Outcome::Failed(cooldown) = outcome { Some(cooldown) } else { None };
            self.alone(lease.into(), failure);
        }
        self.word(lease.is_awaited(), lease.pool);
        ended.unwrap_or(here)
    }

    async fn inspect(&self, pool: &Roster) -> Inspection {
        match self.seen(pool.into(), self.shared.inspect(pool)).await {
            Some(inspection) => inspection,
            None => self.local.inspect(pool).await,
        }
    }

    async fn override_cooldown(&self, pool: &Roster, member: &Member, change: Override) {
        let _going = self.doubts.gate(pool.id).pass().await;
        self.local.override_cooldown(pool, member, change).await;
        let written = self.shared.override_cooldown(pool, member, change);
        if self.shared(pool.into(), written).await.is_none() {
            self.alone(pool.into(), None);
        }
        self.word(true, pool.id);
    }

    fn lines(&self) -> &Arc<Lines> {
        self.shared.lines()
    }

    fn leave(&self, pool: &Roster) {
        // What it holds of this replica while it is away goes with its time to live.
        if !self.is_alone(pool.id) {
            self.shared.leave(pool);
        }
    }

    async fn claim_check(&self, pool: &Roster, ttl: Duration) -> bool {
        match self.seen(pool.into(), self.shared.claim_check(pool, ttl)).await {
            Some(claimed) => claimed,
            None => self.local.claim_check(pool, ttl).await,
        }
    }

    async fn forget(&self, gone: &Gone) {
        self.local.forget(gone).await;
        self.lines().forget(&gone.pools);
        for pool in &gone.pools {
            self.doubts.end(*pool);
        }
        let forgotten = if self.degraded() { None } else { self.shared.forget(gone).await.ok() };
        if forgotten.is_none() {
            // Where Redis is there and does not answer, the next return tells it.
            let mut unforgotten = self.unforgotten.lock();
            if unforgotten.len() < MOST_UNFORGOTTEN {
                unforgotten.push(gone.clone());
            }
        }
    }

    async fn flush(&self) {
        if !self.degraded() {
            self.shared.flush().await;
        }
    }

    fn degraded(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }

    fn problem(&self) -> Option<String> {
        self.degraded().then(|| self.problem.lock().as_ref().map(ToString::to_string)).flatten()
    }
}
