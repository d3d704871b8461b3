//! State in the process: for one replica, and for what goes on when Redis is away.
//!
//! It cannot fail. It is lost with the process: a restart forgets cooldowns and turns, never configuration.

mod held;

use super::{
    Acquire, Acquired, Answer, Clock, Gone, Inspection, Known, Lease, MemberInspection, Outcome, STATE_TTL,
    StateStore, Switch, clock::millis,
};
use crate::balance::{
    Cooldown, ErrorClass, Member, Pick, Pool, Record, Scope, Standing, Trial, Turn, Window, pick,
};
use async_trait::async_trait;
use dashmap::DashMap;
use held::Held;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// How often pools that nobody calls any more are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// Keeps everything behind one short lock a tenant: a pick touches its pool and the tenant's credentials together.
#[derive(Debug, Default)]
pub struct MemoryStore {
    clock: Clock,
    tenants: DashMap<Uuid, TenantState>,
    /// When it last looked for pools that nobody calls any more.
    swept: AtomicU64,
}

#[derive(Debug, Default)]
struct TenantState {
    pools: HashMap<Uuid, PoolState>,
    credentials: HashMap<Arc<str>, Record>,
}

#[derive(Debug, Default)]
struct PoolState {
    /// When it was last picked from.
    called: u64,
    turn: Turn,
    members: HashMap<Arc<str>, Record>,
    in_flight: HashMap<Arc<str>, u32>,
    requests: HashMap<Arc<str>, Window>,
    tokens: HashMap<Arc<str>, Window>,
    /// Until when the members' check is claimed.
    check: u64,
    held: Held,
}

impl MemoryStore {
    /// Its clock, for tests and simulations to move ahead.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Forgets pools that nobody has called for long, such as deleted ones. Looks once in a while.
    fn sweep(&self, now: u64) {
        let last = self.swept.load(Ordering::Relaxed);
        let due = now >= last.saturating_add(millis(SWEEP));
        let mine = || self.swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && mine() {
            self.tenants.retain(|_, tenant| {
                tenant.pools.retain(|_, pool| {
                    if pool.called == 0 {
                        // Known by an operator's hand alone; its time begins here.
                        pool.called = now;
                    }
                    !pool.in_flight.is_empty() || now < pool.called.saturating_add(millis(STATE_TTL))
                });
                !tenant.pools.is_empty()
            });
        }
    }

    /// Writes the failure that `ask` carries, picks, and counts the pick in flight.
    fn pick(&self, ask: &Acquire<'_>) -> Acquired {
        let now = self.clock.now();
        self.sweep(now);
        let mut tenant = self.tenants.entry(ask.pool.tenant).or_default();
        if let Some((lease, cooldown)) = ask.failed {
            tenant.fail(lease, cooldown, now);
        }
        tenant.forget_spent(ask.pool, now);
        let TenantState { pools, credentials } = &mut *tenant;
        let pool = pools.entry(ask.pool.id).or_default();
        pool.called = now;
        match pool.pick(ask, credentials, now) {
            Pick::Serve { index, trial } => {
                let Some(member) = ask.pool.members.get(index) else {
                    return Acquired::Exhausted { first_back: None };
                };
                match ask.hold {
                    Some(ttl) => pool.held.add(ask.lease, &member.key, now, ttl),
                    None => *pool.in_flight.entry(member.key.clone()).or_default() += 1,
                }
                if member.limits.requests_per_minute > 0 {
                    pool.requests.entry(member.key.clone()).or_default().add(now, 1);
                }
                if member.limits.tokens_per_minute > 0 {
                    pool.tokens.entry(member.key.clone()).or_default().add(now, ask.tokens);
                }
                let marked = pool.members.contains_key(member.record())
                    || credentials.contains_key(&member.credential);
                if marked {
                    let until = now.saturating_add(millis(ask.trial_ttl));
                    tenant.change(ask.pool.id, member, |record| {
                        record.begin(now, Trial { lease: ask.lease, until });
                    });
                }
                let lease = Lease {
                    id: ask.lease,
                    tenant: ask.pool.tenant,
                    pool: ask.pool.id,
                    member: member.clone(),
                    began: now,
                    trial,
                    marked,
                    tokens: ask.tokens,
                };
                Acquired::Granted { index, lease }
            }
            Pick::TrialRunning => Acquired::TrialRunning,
            Pick::Exhausted { first_back } => Acquired::Exhausted {
                first_back: first_back
                    .map(|(until, class)| (Duration::from_millis(until.saturating_sub(now)), class)),
            },
        }
    }
}

/// For the store that goes on here when Redis is away.
impl MemoryStore {
    /// Counts a lease that Redis has granted, and moves the turn on with it.
    pub(super) fn adopt(&self, lease: &Lease, hold: Option<Duration>) {
        let now = self.clock.now();
        let mut tenant = self.tenants.entry(lease.tenant).or_default();
        let pool = tenant.pools.entry(lease.pool).or_default();
        pool.called = now;
        pool.turn.last = Some(lease.member.ordinal);
        match hold {
            Some(ttl) => pool.held.add(lease.id, &lease.member.key, now, ttl),
            None => *pool.in_flight.entry(lease.member.key.clone()).or_default() += 1,
        }
    }

    /// Takes over a cooldown that Redis has reported. One that runs longer here stays.
    pub(super) fn learn(&self, pool: &Pool, member: &Member, left: Duration, class: ErrorClass) {
        let now = self.clock.now();
        let until = now.saturating_add(millis(left));
        let mut tenant = self.tenants.entry(pool.tenant).or_default();
        let records = &mut tenant.pools.entry(pool.id).or_default().members;
        let record = records.entry(member.record().into()).or_default();
        if record.until < until {
            record.set(now, until, class);
        }
    }

    /// The call under that lease has served: its member is well, whoever granted it the trial.
    pub(super) fn recover(&self, lease: &Lease) {
        if lease.marked
            && let Some(mut tenant) = self.tenants.get_mut(&lease.tenant)
        {
            let now = self.clock.now();
            tenant.change(lease.pool, &lease.member, |record| {
                if lease.trial {
                    record.recover(now);
                } else {
                    record.succeed(now, lease.id);
                }
            });
        }
    }

    /// What to bring to Redis when it is back.
    pub(super) fn known(&self) -> Vec<Known> {
        let now = self.clock.now();
        let mut all = Vec::new();
        for tenant in &self.tenants {
            let credentials = cooling(&tenant.credentials, Scope::Credential, now);
            for (id, pool) in &tenant.pools {
                let mut known = Known { tenant: *tenant.key(), pool: *id, ..Known::default() };
                known.cooling.extend(cooling(&pool.members, Scope::Member, now));
                known.cooling.extend(credentials.iter().cloned());
                known.in_flight.extend(pool.in_flight.iter().map(|(key, count)| (key.clone(), *count)));
                all.push(known);
            }
        }
        all
    }

    /// Calls in flight, by tenant.
    pub(super) fn busy(&self) -> Vec<(Uuid, u32)> {
        let count =
            |tenant: &TenantState| tenant.pools.values().flat_map(|pool| pool.in_flight.values()).sum();
        self.tenants.iter().map(|tenant| (*tenant.key(), count(tenant.value()))).collect()
    }
}

type Cooling = (Scope, Arc<str>, Duration, ErrorClass);

fn cooling(records: &HashMap<Arc<str>, Record>, scope: Scope, now: u64) -> Vec<Cooling> {
    let running = records.iter().filter_map(|(key, record)| match record.standing(now) {
        Standing::Cooling { until, class } => {
            Some((scope, key.clone(), Duration::from_millis(until.saturating_sub(now)), class))
        }
        _ => None,
    });
    running.collect()
}

impl PoolState {
    /// Picks and moves the turn on.
    fn pick(&mut self, ask: &Acquire<'_>, credentials: &HashMap<Arc<str>, Record>, now: u64) -> Pick {
        let nothing_is_known = self.members.is_empty() && credentials.is_empty() && ask.tried.is_empty();
        if nothing_is_known
            && let Some(index) = ask.pool.strategy.choose_of_all(&ask.pool.members, &mut self.turn)
        {
            return Pick::Serve { index, trial: false };
        }
        let candidates: Vec<_> = self
            .inspect(ask.pool, credentials, now)
            .zip(ask.pool.members.iter())
            .enumerate()
            .map(|(index, (seen, member))| {
                seen.candidate(member, now, ask.tried.contains(&index), ask.tokens)
            })
            .collect();
        pick(&candidates, ask.pool.strategy, &mut self.turn)
    }

    /// All that is known of a pool's members, in their order.
    fn inspect<'p>(
        &'p self,
        pool: &'p Pool,
        credentials: &'p HashMap<Arc<str>, Record>,
        now: u64,
    ) -> impl Iterator<Item = MemberInspection> + use<'p> {
        let held = self.held.counts(now);
        pool.members.iter().map(move |member| {
            let window = |windows: &HashMap<_, Window>, limit: u32| match limit {
                0 => Window::default(),
                _ => windows.get(&member.key).cloned().unwrap_or_default(),
            };
            let count = |counts: &HashMap<_, u32>| counts.get(&member.key).copied().unwrap_or_default();
            MemberInspection {
                own: self.members.get(member.record()).cloned(),
                credential: credentials.get(&member.credential).cloned(),
                in_flight: count(&self.in_flight).saturating_add(count(&held)),
                requests: window(&self.requests, member.limits.requests_per_minute),
                tokens: window(&self.tokens, member.limits.tokens_per_minute),
            }
        })
    }

    fn settle(&mut self, lease: &Lease, used: Option<u64>) {
        // One that reserved nothing has nothing to settle.
        let used = used.filter(|_| lease.member.limits.tokens_per_minute > 0);
        if let (Some(used), Some(window)) = (used, self.tokens.get_mut(&lease.member.key)) {
            window.settle(lease.began, lease.tokens, used);
        }
    }
}

impl TenantState {
    /// Changes the member's record and its credential's, where they exist.
    fn change(&mut self, pool: Uuid, member: &Member, change: impl Fn(&mut Record)) {
        let own = self.pools.get_mut(&pool).and_then(|pool| pool.members.get_mut(member.record()));
        for record in own.into_iter().chain(self.credentials.get_mut(&member.credential)) {
            change(record);
        }
    }

    fn fail(&mut self, lease: &Lease, cooldown: &Cooldown, now: u64) {
        let (records, key) = match cooldown.scope {
            Scope::Member => {
                (&mut self.pools.entry(lease.pool).or_default().members, lease.member.record().into())
            }
            Scope::Credential => (&mut self.credentials, lease.member.credential.clone()),
        };
        records.entry(key).or_default().fail(now, lease.began, lease.id, cooldown);
        // A trial that was taken on the other record as well has had its verdict.
        self.change(lease.pool, &lease.member, |record| record.hand_on(lease.id));
    }

    fn forget_spent(&mut self, pool: &Pool, now: u64) {
        if let Some(state) = self.pools.get_mut(&pool.id) {
            state.members.retain(|_, record| !record.is_spent(now));
        }
        if self.credentials.is_empty() {
            return;
        }
        for member in pool.members.iter() {
            if self.credentials.get(&member.credential).is_some_and(|record| record.is_spent(now)) {
                self.credentials.remove(&member.credential);
            }
        }
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn acquire(&self, ask: &Acquire<'_>) -> Answer {
        Answer { acquired: self.pick(ask), degraded: false }
    }

    async fn fail(&self, lease: &Lease, cooldown: &Cooldown) {
        let now = self.clock.now();
        self.tenants.entry(lease.tenant).or_default().fail(lease, cooldown, now);
    }

    fn succeed(&self, lease: &Lease) {
        if lease.marked
            && let Some(mut tenant) = self.tenants.get_mut(&lease.tenant)
        {
            let now = self.clock.now();
            tenant.change(lease.pool, &lease.member, |record| record.succeed(now, lease.id));
        }
    }

    fn release(&self, lease: &Lease, used: Option<u64>) {
        let Some(mut tenant) = self.tenants.get_mut(&lease.tenant) else { return };
        if let Some(pool) = tenant.pools.get_mut(&lease.pool) {
            pool.settle(lease, used);
            if let Some(count) = pool.in_flight.get_mut(&lease.member.key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    pool.in_flight.remove(&lease.member.key);
                }
            }
        }
        if lease.trial {
            tenant.change(lease.pool, &lease.member, |record| record.hand_on(lease.id));
        }
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> bool {
        let now = self.clock.now();
        let Some(mut tenant) = self.tenants.get_mut(&lease.tenant) else { return false };
        let held = tenant.pools.get_mut(&lease.pool).and_then(|pool| pool.held.by_id.get_mut(&lease.id));
        match held {
            Some((_, until)) if *until > now => {
                *until = now.saturating_add(millis(ttl));
                true
            }
            _ => false,
        }
    }

    async fn end(&self, lease: &Lease, used: Option<u64>, outcome: Outcome<'_>) -> bool {
        let now = self.clock.now();
        let Some(mut tenant) = self.tenants.get_mut(&lease.tenant) else { return false };
        let Some(pool) = tenant.pools.get_mut(&lease.pool) else { return false };
        let held = pool.held.by_id.remove(&lease.id).is_some_and(|(_, until)| until > now);
        if held {
            pool.settle(lease, used);
            match outcome {
                Outcome::Failed(cooldown) => tenant.fail(lease, cooldown, now),
                Outcome::Served => {
                    tenant.change(lease.pool, &lease.member, |record| record.succeed(now, lease.id));
                }
                Outcome::Unknown => {
                    tenant.change(lease.pool, &lease.member, |record| record.hand_on(lease.id));
                }
            }
        }
        held
    }

    async fn inspect(&self, pool: &Pool) -> Inspection {
        let now = self.clock.now();
        let Some(tenant) = self.tenants.get(&pool.tenant) else { return Inspection::blank(pool, now) };
        let blank = PoolState::default();
        let state = tenant.pools.get(&pool.id).unwrap_or(&blank);
        let members = state.inspect(pool, &tenant.credentials, now).collect();
        Inspection { now, turn: state.turn.clone(), members }
    }

    async fn switch(&self, pool: &Pool, member: &Member, switch: Switch) {
        let now = self.clock.now();
        let mut tenant = self.tenants.entry(pool.tenant).or_default();
        match switch {
            Switch::Set { duration, class } => {
                let until = now.saturating_add(millis(duration));
                let records = &mut tenant.pools.entry(pool.id).or_default().members;
                records.entry(member.record().into()).or_default().set(now, until, class);
            }
            Switch::Clear => {
                // A record of its own even where there is none: calls begun before must not cool it any more.
                let records = &mut tenant.pools.entry(pool.id).or_default().members;
                records.entry(member.record().into()).or_default();
                tenant.change(pool.id, member, |record| record.clear(now));
            }
            Switch::Recover => tenant.change(pool.id, member, |record| {
                if record.class.is_some_and(ErrorClass::health_check_ends) {
                    record.recover(now);
                }
            }),
        }
    }

    async fn claim_check(&self, pool: &Pool, ttl: Duration) -> bool {
        let now = self.clock.now();
        let mut tenant = self.tenants.entry(pool.tenant).or_default();
        let state = tenant.pools.entry(pool.id).or_default();
        let free = state.check <= now;
        if free {
            state.check = now.saturating_add(millis(ttl));
        }
        free
    }

    async fn forget(&self, gone: &Gone) {
        if gone.whole {
            self.tenants.remove(&gone.tenant);
        } else if let Some(mut tenant) = self.tenants.get_mut(&gone.tenant) {
            tenant.pools.retain(|id, _| !gone.pools.contains(id));
        }
    }

    async fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{LeaseId, Limits, Strategy};
    use futures::executor::block_on;
    use proptest::prelude::*;

    fn pool(members: u32, strategy: Strategy) -> Arc<Pool> {
        let member = |ordinal: u32| Member {
            ordinal,
            key: format!("{ordinal}.{ordinal}").into(),
            credential: format!("c{ordinal}").into(),
            priority: 0,
            weight: ordinal,
            limits: Limits::default(),
        };
        let members = (1..=members).map(member).collect();
        Arc::new(Pool { id: Uuid::new_v4(), tenant: Uuid::new_v4(), strategy, members })
    }

    proptest! {
        #[test]
        fn counts_are_of_what_is_held_and_never_negative(
            steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..80),
            strategy in proptest::sample::select(&Strategy::ALL[..]),
        ) {
            let (store, pool) = (MemoryStore::default(), pool(3, strategy));
            let (mut held, mut over) = (Vec::<(usize, Lease)>::new(), Vec::<Lease>::new());
            for (take, which) in steps {
                if take || held.is_empty() {
                    let ask = Acquire {
                        pool: &pool, tried: &[], failed: None, lease: LeaseId::random(),
                        trial_ttl: Duration::from_secs(1), tokens: 0, hold: None,
                    };
                    match block_on(store.acquire(&ask)).acquired {
                        Acquired::Granted { index, lease } => held.push((index, lease)),
                        other => prop_assert!(false, "{other:?}"),
                    }
                } else {
                    let (_, lease) = held.swap_remove(which.index(held.len()));
                    store.release(&lease, None);
                    over.push(lease);
                }
                let seen = block_on(store.inspect(&pool));
                for (index, member) in seen.members.iter().enumerate() {
                    let count = held.iter().filter(|(own, _)| *own == index).count();
                    prop_assert_eq!(member.in_flight as usize, count);
                }
            }
            for (_, lease) in &held {
                store.release(lease, None);
            }
            // Released once more, which no caller does: nothing wraps.
            for lease in &over {
                store.release(lease, None);
            }
            prop_assert!(block_on(store.inspect(&pool)).members.iter().all(|member| member.in_flight == 0));
        }
    }
}
