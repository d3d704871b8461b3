//! State that gives out no member whose address this replica cannot reach.
//!
//! Around a store that is memory's or the fleet's, it keeps what this replica sees of addresses ([`Addresses`]): failures of
//! [`Scope::is_of_address`] stay here, and the store is asked without the members at such an address. Replicas tell each other
//! through Redis; when it is away, each goes by what it sees itself.
//!
//! Where no address fails, every call goes straight to the store.
//!
//! [`Scope::is_of_address`]: crate::balance::Scope::is_of_address

use super::{
    Acquire, Acquired, Answer, Clock, FailedAttempt, Inspection, Lease, Lines, Outcome, Outlook, Override,
    StateStore,
    addresses::{Addresses, Ways, Word},
    redis::{Fleet, RedisStore},
};
use crate::{
    balance::{Cooldown, ErrorClass, Gone, Member, Roster},
    redis::RedisOptions,
};
use async_trait::async_trait;
use std::{pin::Pin, sync::Arc, time::Duration};
use uuid::Uuid;

/// See the module's documentation.
pub struct ReachableStore {
    store: Arc<dyn StateStore>,
    addresses: Arc<Addresses>,
    /// None where this replica is alone.
    fleet: Option<Fleet>,
}

impl ReachableStore {
    /// Around that store, of one replica alone.
    #[must_use]
    pub fn alone(store: Arc<dyn StateStore>) -> Self {
        Self { store, addresses: Arc::default(), fleet: None }
    }

    /// Around that store, of a fleet that shares this Redis.
    #[must_use]
    pub fn of_fleet(store: Arc<dyn StateStore>, redis: &RedisStore, options: &RedisOptions) -> Self {
        let addresses = Arc::<Addresses>::default();
        let (hearing, lines) = (addresses.clone(), store.lines().clone());
        let hear = move |tenant, address, word| {
            hearing.hear(tenant, address, word);
            if matches!(word, Word::Served | Word::Cleared) {
                lines.wake_all();
            }
        };
        Self { store, addresses, fleet: Some(redis.fleet(options, Arc::new(hear))) }
    }

    /// The clock of what it knows of addresses, for tests and simulations to move ahead.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.addresses.clock()
    }

    /// Asks for a member where something is known of addresses, or will be by what `ask` carries.
    async fn pick(&self, ask: &Acquire<'_>) -> Answer {
        let mut failed = ask.failed;
        if let Some((lease, cooldown)) = ask.failed
            && self.note(&lease.attempt(), cooldown)
        {
            failed = None;
        }
        let ask = &Acquire { failed, ..*ask };
        self.addresses.sweep();
        if self.addresses.knows_nothing_of(ask.pool.tenant) {
            return self.store.acquire(ask).await;
        }
        let mut ways = self.addresses.look(ask.pool, ask.tried, ask.lease);
        let mut answer = self.pick_reachable(ask, &ways.blocked).await;
        if !is_granted(&answer) && !ways.blocked.is_empty() {
            let ask = &Acquire { failed: None, ..*ask };
            // A client that calls the provider itself may have another way there.
            if ask.hold.is_some() {
                answer = self.store.acquire(ask).await;
            } else if self.addresses.open_last_resort(ask.pool, &mut ways, ask.lease) {
                answer = self.pick_reachable(ask, &ways.blocked).await;
            }
        }
        self.settled(ask, answer, &ways)
    }

    /// Asks the store for a member that is none of those.
    async fn pick_reachable(&self, ask: &Acquire<'_>, blocked: &[usize]) -> Answer {
        let mut tried = [ask.tried, blocked].concat();
        // Where nobody is left and nothing is to be written, there is nothing to ask.
        if tried.len() >= ask.pool.members.len() && ask.failed.is_none() {
            let acquired = Acquired::Exhausted { first_back: None };
            return Answer { acquired, degraded: self.degraded(), outlook: Outlook::default() };
        }
        let mut failed = ask.failed;
        loop {
            let answer = self.store.acquire(&Acquire { tried: &tried, failed: failed.take(), ..*ask }).await;
            match &answer.acquired {
                Acquired::Granted { index, lease } if lease.trial && self.leaves_trials() => {
                    self.store.release(lease, None);
                    tried.push(*index);
                }
                _ => return answer,
            }
        }
    }

    /// Notes whose address has its trial now; tells when the first is back where nobody serves.
    fn settled(&self, ask: &Acquire<'_>, answer: Answer, ways: &Ways) -> Answer {
        let Answer { acquired, degraded, mut outlook } = answer;
        // What one cannot reach who has tried nobody is of no use to others here.
        outlook.steps_aside &= ways.blocked.is_empty() || !ask.tried.is_empty();
        let acquired = match acquired {
            Acquired::Granted { index, mut lease } => {
                lease.trial |= self.addresses.settle(ask.pool, ways, Some(&lease.member), ask.lease);
                Acquired::Granted { index, lease }
            }
            acquired => {
                self.addresses.settle(ask.pool, ways, None, ask.lease);
                match acquired {
                    Acquired::Exhausted { .. } if ways.is_trial_running => Acquired::TrialRunning,
                    Acquired::Exhausted { first_back } => {
                        let now = self.addresses.now();
                        let by_address = ways.first_back.map(|back| (back.ends.since(now), back.class));
                        let first = first_back.into_iter().chain(by_address).min_by_key(|(after, _)| *after);
                        Acquired::Exhausted { first_back: first }
                    }
                    acquired => acquired,
                }
            }
        };
        Answer { acquired, degraded, outlook }
    }

    /// Whether trials of members are better taken by other replicas.
    fn leaves_trials(&self) -> bool {
        self.addresses.is_cut_off() && self.fleet().is_some_and(|fleet| fleet.replicas() > 1)
    }

    /// Takes in what a failure says of the member's address. Returns whether it says nothing else.
    fn note(&self, attempt: &FailedAttempt<'_>, cooldown: &Cooldown) -> bool {
        let FailedAttempt { tenant, pool, member, .. } = *attempt;
        if !cooldown.scope.is_of_address() {
            // One that broke or hung says nothing for certain.
            if !matches!(cooldown.class, ErrorClass::Connection | ErrorClass::Timeout) {
                self.served(tenant, pool, member);
            }
            return false;
        }
        if attempt.trial.is_some() {
            self.lines().wake(pool);
        }
        let was_cut_off = self.addresses.is_cut_off();
        let is_news = self.addresses.fail(tenant, pool, member, cooldown);
        if let Some(fleet) = self.fleet() {
            if !self.addresses.is_cut_off() {
                if is_news {
                    fleet.failed(tenant, &member.address, cooldown);
                }
            } else if !was_cut_off {
                for (tenant, address) in self.addresses.failing() {
                    fleet.withdraw(tenant, address);
                }
            }
        }
        true
    }

    /// The other replicas, while they can be told.
    fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref().filter(|_| !self.degraded())
    }

    /// Tells those who wait here that the trial of an address is over, which the store does not know.
    fn trial_ended(&self, lease: &Lease) {
        if lease.trial && !self.addresses.is_empty() {
            self.lines().wake(lease.pool);
        }
    }

    fn served(&self, tenant: Uuid, pool: Uuid, member: &Member) {
        if self.addresses.serve(tenant, pool, member) {
            // Every pool of the tenant may have members there.
            self.lines().wake_all();
            if let Some(fleet) = self.fleet() {
                fleet.served(tenant, &member.address);
            }
        }
    }
}

fn is_granted(answer: &Answer) -> bool {
    matches!(answer.acquired, Acquired::Granted { .. })
}

type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Written without `async` where calls pass through: they cost no future of their own while no address fails.
#[async_trait]
impl StateStore for ReachableStore {
    fn acquire<'s, 'a, 'l, 'f>(&'s self, ask: &'a Acquire<'l>) -> Asked<'f, Answer>
    where
        's: 'f,
        'a: 'f,
        'l: 'f,
        Self: 'f,
    {
        let of_address = ask.failed.is_some_and(|(_, cooldown)| cooldown.scope.is_of_address());
        if self.addresses.is_empty() && !of_address {
            return self.store.acquire(ask);
        }
        Box::pin(self.pick(ask))
    }

    async fn fail(&self, attempt: &FailedAttempt<'_>, cooldown: &Cooldown) {
        if !self.note(attempt, cooldown) {
            self.store.fail(attempt, cooldown).await;
        }
    }

    fn succeed(&self, lease: &Lease) {
        self.served(lease.tenant, lease.pool, &lease.member);
        self.store.succeed(lease);
        self.trial_ended(lease);
    }

    fn release(&self, lease: &Lease, used: Option<u64>) {
        if lease.trial && !self.addresses.is_empty() {
            self.addresses.hand_on(lease);
        }
        self.store.release(lease, used);
        self.trial_ended(lease);
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> bool {
        self.store.renew(lease, ttl).await
    }

    async fn end(&self, lease: &Lease, used: Option<u64>, outcome: Outcome<'_>) -> bool {
        self.store.end(lease, used, outcome).await
    }

    async fn inspect(&self, pool: &Roster) -> Inspection {
        let mut inspection = self.store.inspect(pool).await;
        if !self.addresses.knows_nothing_of(pool.tenant) {
            self.addresses.add_to(&mut inspection, pool);
        }
        inspection
    }

    async fn override_cooldown(&self, pool: &Roster, member: &Member, change: Override) {
        let ends_it = !matches!(change, Override::Set { .. });
        let is_known = ends_it && self.addresses.recover(pool.tenant, member);
        if is_known && let (Some(fleet), Override::Recover) = (self.fleet(), change) {
            fleet.served(pool.tenant, &member.address);
        }
        // Other replicas may know what this one does not.
        if let (Some(fleet), Override::Clear) = (self.fleet(), change) {
            fleet.cleared(pool.tenant, &member.address);
        }
        self.store.override_cooldown(pool, member, change).await;
        if is_known {
            self.lines().wake_all();
        }
    }

    fn lines(&self) -> &Arc<Lines> {
        self.store.lines()
    }

    fn leave(&self, pool: &Roster) {
        self.store.leave(pool);
    }

    async fn claim_check(&self, pool: &Roster, ttl: Duration) -> bool {
        !self.leaves_trials() && self.store.claim_check(pool, ttl).await
    }

    async fn forget(&self, gone: &Gone) {
        if gone.whole {
            self.addresses.forget(gone.tenant);
        }
        self.store.forget(gone).await;
    }

    async fn flush(&self) {
        self.store.flush().await;
    }

    fn degraded(&self) -> bool {
        self.store.degraded()
    }

    fn problem(&self) -> Option<String> {
        self.store.problem()
    }

    fn is_cut_off(&self) -> bool {
        self.addresses.is_cut_off()
    }
}
