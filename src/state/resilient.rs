//! State that goes on when Redis is away: the shared store while it answers, this replica's own when it does not.
//!
//! At the first failure, or when the connection breaks, everything is served from memory: turns, cooldowns, counts and
//! limits. The cooldowns known then are kept, since every answer of Redis says who cools. Nothing but a probe touches
//! Redis meanwhile, so a server that accepts and never answers costs the callers of that moment one command timeout, and
//! nobody else anything. Limits are divided by the replicas last seen.
//!
//! When the probe is answered again, this replica brings its cooldowns (the later end wins) and what it truly has in
//! flight, and goes back. Callers see none of it but [`Answer::degraded`]; the log says each change once.

use super::{
    Acquire, Acquired, Answer, FailedAttempt, Inspection, Lease, Lines, MemoryStore, Outcome, Override,
    RedisStore, StateStore,
};
use crate::{
    balance::{Cooldown, Gone, Member, Roster},
    redis::{RedisError, Result},
    tasks::Task,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, RwLock},
    time::sleep,
};
use uuid::Uuid;

/// How often a server that is away is asked whether it is back.
const PROBE: Duration = Duration::from_millis(200);

/// How often a server that is there is asked whether it still is.
const WATCH: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub struct ResilientStore {
    shared: RedisStore,
    local: MemoryStore,
    away: AtomicBool,
    /// Why it is away, as it last said.
    problem: Mutex<Option<RedisError>>,
    /// Held for writing while this replica goes back: then nothing is granted, so that its counts stand still.
    returning: RwLock<()>,
    /// Releases of that time, to be made after it.
    deferred: Mutex<Option<Vec<Release>>>,
    /// Wakes the task that brings this replica back.
    loss: Arc<Notify>,
}

/// A lease to be released, and the tokens it has used.
type Release = (Lease, Option<u64>);

impl ResilientStore {
    /// On that server, which may be away.
    #[must_use]
    pub fn new(shared: RedisStore) -> Arc<Self> {
        Arc::new(Self {
            shared,
            local: MemoryStore::default(),
            away: AtomicBool::new(false),
            problem: Mutex::default(),
            returning: RwLock::new(()),
            deferred: Mutex::new(None),
            loss: Arc::default(),
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
        self.loss.notify_one();
        // Those who wait go on waiting here.
        self.lines().wake_all();
    }

    /// Keeps why it is away. A refusal is told once: somebody has to change something.
    fn still_away(&self, error: RedisError) {
        let mut problem = self.problem.lock();
        if error.is_refusal() && problem.as_ref().is_none_or(|known| known.0 != error.0) {
            tracing::error!(%error, "Redis is there and refuses a command: its user needs those of deploy/redis/users.acl");
        }
        *problem = Some(error);
    }

    async fn go_back(&self) -> Result<()> {
        let _alone = self.returning.write().await;
        // Some are there where going back has panicked before.
        self.deferred.lock().get_or_insert_default();
        // What was noted before the loss must not be counted on top of the truth.
        self.shared.flush().await;
        let restored = self.shared.restore(&self.local.known()).await;
        if restored.is_ok() {
            self.away.store(false, Ordering::SeqCst);
            // Those who wait here take their place among all.
            self.lines().wake_all();
        }
        let deferred = self.deferred.lock().take().unwrap_or_default();
        for (lease, used) in deferred {
            self.release(&lease, used);
        }
        restored
    }

    /// Asks the server where it is there, and goes on without it where it fails.
    async fn shared<T>(&self, answer: impl Future<Output = Result<T>>) -> Option<T> {
        if self.degraded() {
            return None;
        }
        // What was dropped would count as in flight for ever: going back brings the truth.
        if self.shared.has_dropped_notes() {
            self.lost(&RedisError("successes and releases were dropped".into()));
            return None;
        }
        answer.await.inspect_err(|error| self.lost(error)).ok()
    }

    /// Tells those who wait that something may be free, where this replica decides alone and no word comes from Redis.
    fn word(&self, is_awaited: bool, pool: Uuid) {
        if is_awaited && self.degraded() {
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

/// Notices a loss while nobody calls, so that readiness tells it and the next caller does not pay for it; and brings the
/// replica back.
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
            match back {
                Ok(()) => tracing::info!("Redis is back: state is shared again"),
                Err(error) => store.still_away(error),
            }
            continue;
        }
        let mut broken = pin!(store.shared.broken());
        let loss = store.loss.clone();
        drop(store);
        let error = loop {
            tokio::select! {
                error = &mut broken => break error,
                () = loss.notified() => break None,
                () = sleep(WATCH) => {}
            }
            let Some(store) = this.upgrade() else { return };
            if let Err(error) = store.shared.probe().await {
                break Some(error);
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
        let _going = self.returning.read().await;
        if let Some((answer, cooling)) = self.shared(self.shared.acquire(ask)).await {
            if let Some((lease, cooldown)) = ask.failed {
                self.local.fail(&lease.attempt(), cooldown).await;
            }
            for &(index, left, class) in &*cooling {
                if let Some(member) = ask.pool.members.get(index) {
                    self.local.learn(ask.pool, member, left, class);
                }
            }
            if let Acquired::Granted { lease, .. } = &answer.acquired {
                self.local.adopt(lease, ask.hold);
            }
            return answer;
        }
        let pool = self.part_of(ask.pool);
        let answer = self.local.acquire(&Acquire { pool: &pool, ..*ask }).await;
        if ask.failed.is_some_and(|(lease, _)| lease.trial) {
            self.lines().wake(pool.id);
        }
        Answer { degraded: true, ..answer }
    }

    async fn fail(&self, attempt: &FailedAttempt<'_>, cooldown: &Cooldown) {
        self.local.fail(attempt, cooldown).await;
        self.shared(self.shared.fail(attempt, cooldown)).await;
        self.word(attempt.trial.is_some(), attempt.pool);
    }

    fn succeed(&self, lease: &Lease) {
        self.local.recover(lease);
        if self.degraded() {
            self.word(lease.trial, lease.pool);
        } else {
            self.shared.succeed(lease);
        }
    }

    fn release(&self, lease: &Lease, used: Option<u64>) {
        // Held to the end: going back begins between two releases, never within one.
        let mut deferred = self.deferred.lock();
        if let Some(deferred) = &mut *deferred {
            deferred.push((lease.clone(), used));
            return;
        }
        self.local.release(lease, used);
        if self.degraded() {
            self.word(lease.is_awaited(), lease.pool);
        } else {
            self.shared.release(lease, used);
        }
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> bool {
        let here = self.local.renew(lease, ttl).await;
        self.shared(self.shared.renew(lease, ttl)).await.unwrap_or(here)
    }

    async fn end(&self, lease: &Lease, used: Option<u64>, outcome: Outcome<'_>) -> bool {
        let here = self.local.end(lease, used, outcome).await;
        let ended = self.shared(self.shared.end(lease, used, outcome)).await.unwrap_or(here);
        self.word(lease.is_awaited(), lease.pool);
        ended
    }

    async fn inspect(&self, pool: &Roster) -> Inspection {
        match self.shared(self.shared.inspect(pool)).await {
            Some(inspection) => inspection,
            None => self.local.inspect(pool).await,
        }
    }

    async fn override_cooldown(&self, pool: &Roster, member: &Member, change: Override) {
        self.local.override_cooldown(pool, member, change).await;
        self.shared(self.shared.override_cooldown(pool, member, change)).await;
        self.word(true, pool.id);
    }

    fn lines(&self) -> &Arc<Lines> {
        self.shared.lines()
    }

    fn leave(&self, pool: &Roster) {
        // What it holds of this replica while it is away goes with its time to live.
        if !self.degraded() {
            self.shared.leave(pool);
        }
    }

    async fn claim_check(&self, pool: &Roster, ttl: Duration) -> bool {
        match self.shared(self.shared.claim_check(pool, ttl)).await {
            Some(claimed) => claimed,
            None => self.local.claim_check(pool, ttl).await,
        }
    }

    async fn forget(&self, gone: &Gone) {
        self.local.forget(gone).await;
        self.lines().forget(&gone.pools);
        // While Redis is away, what it holds of them goes with its time to live.
        self.shared(self.shared.forget(gone)).await;
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
