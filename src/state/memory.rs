//! State in the process: for one replica, and for what goes on when Redis is away.
//!
//! It cannot fail. It is lost with the process: a restart forgets cooldowns and turns, never configuration.

use super::{
    Acquire, Acquired, Answer, Clock, CoolingRecord, FailedAttempt, Inspection, Known, Lease, Lines,
    MemberInspection, Outcome, Outlook, Override, Role, STATE_TTL, StateStore,
};
use crate::balance::{
    Candidate, Cooldown, Cooling, ErrorClass, Gone, LeaseId, Member, MemberKey, Pick, PickRules, Prospect,
    Record, Roster, Scope, Standing, Time, Turn, Window, pick, prospect,
};
use async_trait::async_trait;
use dashmap::DashMap;
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
/// So many leases are kept without a look at which of them are over.
const FEW: usize = 64;

/// Keeps everything behind one short lock a tenant: a pick touches its pool and the tenant's credentials together.
#[derive(Debug, Default)]
pub struct MemoryStore {
    clock: Clock,
    tenants: DashMap<Uuid, TenantState>,
    lines: Arc<Lines>,
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
    called: Option<Time>,
    turn: Turn,
    members: HashMap<Arc<str>, Record>,
    in_flight: HashMap<MemberKey, u32>,
    requests: HashMap<MemberKey, Window>,
    tokens: HashMap<MemberKey, Window>,
    /// Until when the members' check is claimed.
    check: Option<Time>,
    held: Held,
}

/// Leases that end by themselves: whom they hold, and until when.
#[derive(Debug, Default)]
struct Held {
    by_id: HashMap<LeaseId, (MemberKey, Time)>,
    /// How many there are when those that are over are swept out.
    sweep_at: usize,
}

impl MemoryStore {
    /// Its clock, for tests and simulations to move ahead.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Forgets pools that nobody has called for long, such as deleted ones. Looks once in a while.
    fn sweep(&self, now: Time) {
        let last = self.swept.load(Ordering::Relaxed);
        let due = now >= Time::from_millis(last) + SWEEP;
        // Of those who come at the same moment, one does.
        if due && self.swept.swap(now.millis(), Ordering::Relaxed) == last {
            self.tenants.retain(|_, tenant| {
                tenant.pools.retain(|_, pool| {
                    // Where it is known by an override alone, its time begins here.
                    let called = *pool.called.get_or_insert(now);
                    !pool.in_flight.is_empty() || now < called + STATE_TTL
                });
                !tenant.pools.is_empty()
            });
        }
    }

    /// Writes the failure that `ask` carries, picks, and counts the pick in flight.
    fn pick(&self, ask: &Acquire<'_>) -> (Acquired, Outlook) {
        let now = self.clock.now();
        self.sweep(now);
        let mut tenant = self.tenants.entry(ask.pool.tenant).or_default();
        if let Some((lease, cooldown)) = ask.failed {
            tenant.fail(&lease.attempt(), cooldown, now);
        }
        tenant.forget_spent(ask.pool, now);
        let TenantState { pools, credentials } = &mut *tenant;
        let pool = pools.entry(ask.pool.id).or_default();
        pool.called = Some(now);
        let picked = pool.pick(ask, credentials, now);
        let prospect = match picked {
            Pick::TrialRunning | Pick::Exhausted { .. } if ask.stand.role != Role::Passing => {
                pool.prospect(ask, credentials, now)
            }
            _ => Prospect::default(),
        };
        let opens = prospect.opens.filter(|_| picked == Pick::TrialRunning).map(|opens| opens.since(now));
        let outlook = Outlook { steps_aside: prospect.of_use_to_others, elsewhere: 0, opens };
        let acquired = match picked {
            Pick::Serve { index, .. } | Pick::LastResort { index } => {
                let Some(member) = ask.pool.members.get(index) else {
                    return (Acquired::Exhausted { first_back: None }, outlook);
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
                let marked = pool.members.contains_key(&member.key.record)
                    || credentials.contains_key(&member.credential);
                if marked {
                    let ends = now + ask.trial_ttl;
                    tenant.change(ask.pool.id, member, |record| {
                        record.begin(now, ask.lease, ends);
                    });
                }
                let last_resort = matches!(picked, Pick::LastResort { .. });
                let lease = Lease {
                    id: ask.lease,
                    tenant: ask.pool.tenant,
                    pool: ask.pool.id,
                    member: member.clone(),
                    began: now,
                    trial: last_resort || matches!(picked, Pick::Serve { trial: true, .. }),
                    last_resort,
                    marked,
                    tokens: ask.tokens,
                    awaited: ask.pool.waits,
                };
                Acquired::Granted { index, lease }
            }
            Pick::TrialRunning => Acquired::TrialRunning,
            Pick::Exhausted { first_back } => Acquired::Exhausted {
                first_back: first_back
                    .or(prospect.first_back.filter(|_| ask.pool.waits))
                    .map(|first| (first.ends.since(now), first.class)),
            },
        };
        (acquired, outlook)
    }
}

/// For the store that goes on here when Redis is away.
impl MemoryStore {
    /// Counts a lease that Redis has granted, and moves the turn on with it.
    pub(super) fn adopt(&self, lease: &Lease, hold: Option<Duration>) {
        let now = self.clock.now();
        let mut tenant = self.tenants.entry(lease.tenant).or_default();
        let pool = tenant.pools.entry(lease.pool).or_default();
        pool.called = Some(now);
        pool.turn.last = Some(lease.member.key.ordinal);
        match hold {
            Some(ttl) => pool.held.add(lease.id, &lease.member.key, now, ttl),
            None => *pool.in_flight.entry(lease.member.key.clone()).or_default() += 1,
        }
    }

    /// Takes over a cooldown that Redis has reported. One that runs longer here stays.
    pub(super) fn learn(&self, pool: &Roster, member: &Member, left: Duration, class: ErrorClass) {
        let now = self.clock.now();
        let ends = now + left;
        let mut tenant = self.tenants.entry(pool.tenant).or_default();
        let record = tenant.record(pool.id, member);
        if record.cooling.is_none_or(|cooling| cooling.ends < ends) {
            record.set(now, Cooling { ends, class });
        }
    }

    /// The call under that lease has served: its member is well, whoever granted it the trial.
    pub(super) fn recover(&self, lease: &Lease) {
        if lease.trial {
            self.change(lease, Record::recover);
        } else {
            // When it began is not of this store's clock.
            let before = Time::default();
            self.change(lease, |record, now| record.succeed(now, before, lease.id));
        }
    }

    /// Changes what is recorded of a lease's member now.
    fn change(&self, lease: &Lease, change: impl Fn(&mut Record, Time)) {
        if lease.marked
            && let Some(mut tenant) = self.tenants.get_mut(&lease.tenant)
        {
            let now = self.clock.now();
            tenant.change(lease.pool, &lease.member, |record| change(record, now));
        }
    }

    /// What to bring to Redis when it is back.
    pub(super) fn known(&self) -> Vec<Known> {
        let now = self.clock.now();
        let mut all = Vec::new();
        for tenant in &self.tenants {
            let credentials: Vec<_> = cooling(&tenant.credentials, Scope::Credential, now).collect();
            for (id, pool) in &tenant.pools {
                all.push(Known {
                    tenant: *tenant.key(),
                    pool: *id,
                    cooling: cooling(&pool.members, Scope::Member, now)
                        .chain(credentials.iter().cloned())
                        .collect(),
                    in_flight: pool.in_flight.iter().map(|(key, count)| (key.clone(), *count)).collect(),
                });
            }
        }
        all
    }
}

fn cooling(
    records: &HashMap<Arc<str>, Record>,
    scope: Scope,
    now: Time,
) -> impl Iterator<Item = CoolingRecord> {
    records.iter().filter_map(move |(key, record)| {
        let Cooling { ends, class } = record.standing(now).cooling()?;
        Some((scope, key.clone(), ends.since(now), class))
    })
}

/// By what a caller is picked for, who can go to no other pool or can.
const fn rules(pool: &Roster, is_last: bool, now: Time) -> PickRules {
    PickRules { strategy: pool.strategy, joins: is_last, last_resort: is_last && pool.last_resort, now }
}

impl PoolState {
    /// Picks and moves the turn on.
    fn pick(&mut self, ask: &Acquire<'_>, credentials: &HashMap<Arc<str>, Record>, now: Time) -> Pick {
        let nothing_is_known = self.members.is_empty() && credentials.is_empty() && ask.tried.is_empty();
        if nothing_is_known
            && let Some(index) = ask.pool.strategy.choose_of_all(&ask.pool.members, &mut self.turn)
        {
            return Pick::Serve { index, trial: false };
        }
        let candidates = self.candidates(ask.pool, credentials, now, ask.tried, ask.tokens);
        pick(&candidates, rules(ask.pool, ask.is_last, now), &mut self.turn)
    }

    /// What one may hope for who was not served.
    fn prospect(&self, ask: &Acquire<'_>, credentials: &HashMap<Arc<str>, Record>, now: Time) -> Prospect {
        let own = self.candidates(ask.pool, credentials, now, ask.tried, ask.tokens);
        let for_others = self.candidates(ask.pool, credentials, now, &[], 1);
        prospect(&own, rules(ask.pool, ask.is_last, now), &for_others, rules(ask.pool, true, now))
    }

    /// The members in the eyes of one who has tried those, and needs so many tokens.
    fn candidates<'p>(
        &self,
        pool: &'p Roster,
        credentials: &HashMap<Arc<str>, Record>,
        now: Time,
        tried: &[usize],
        tokens: u64,
    ) -> Vec<Candidate<'p>> {
        self.inspect(pool, credentials, now)
            .zip(pool.members.iter())
            .enumerate()
            .map(|(index, (seen, member))| seen.candidate(member, now, tried.contains(&index), tokens))
            .collect()
    }

    /// All that is known of a pool's members, in their order.
    fn inspect<'p>(
        &'p self,
        pool: &'p Roster,
        credentials: &'p HashMap<Arc<str>, Record>,
        now: Time,
    ) -> impl Iterator<Item = MemberInspection> + use<'p> {
        let held = self.held.counts(now);
        pool.members.iter().map(move |member| {
            let window = |windows: &HashMap<_, Window>, limit: u32| match limit {
                0 => Window::default(),
                _ => windows.get(&member.key).cloned().unwrap_or_default(),
            };
            let count = |counts: &HashMap<_, u32>| counts.get(&member.key).copied().unwrap_or_default();
            MemberInspection {
                own: self.members.get(&member.key.record).cloned(),
                credential: credentials.get(&member.credential).cloned(),
                address: Standing::Available,
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

impl Held {
    fn add(&mut self, lease: LeaseId, member: &MemberKey, now: Time, ttl: Duration) {
        // Done when as many again have come as stayed the last time: each that comes pays a constant share.
        if self.by_id.len() >= self.sweep_at {
            self.by_id.retain(|_, (_, until)| *until > now);
            self.sweep_at = FEW.max(self.by_id.len() * 2);
        }
        self.by_id.insert(lease, (member.clone(), now + ttl));
    }

    /// How many hold each member.
    fn counts(&self, now: Time) -> HashMap<MemberKey, u32> {
        let mut counts = HashMap::new();
        for (member, _) in self.by_id.values().filter(|(_, until)| *until > now) {
            *counts.entry(member.clone()).or_default() += 1;
        }
        counts
    }
}

impl TenantState {
    /// The member's record, made where there is none.
    fn record(&mut self, pool: Uuid, member: &Member) -> &mut Record {
        self.pools.entry(pool).or_default().members.entry(member.key.record.clone()).or_default()
    }

    /// Changes the member's record and its credential's, where they exist.
    fn change(&mut self, pool: Uuid, member: &Member, change: impl Fn(&mut Record)) {
        let own = self.pools.get_mut(&pool).and_then(|pool| pool.members.get_mut(&member.key.record));
        for record in own.into_iter().chain(self.credentials.get_mut(&member.credential)) {
            change(record);
        }
    }

    fn fail(&mut self, attempt: &FailedAttempt<'_>, cooldown: &Cooldown, now: Time) {
        let FailedAttempt { pool, member, began, trial, .. } = *attempt;
        let record = match cooldown.scope {
            Scope::Member | Scope::Address | Scope::AddressOfPool => self.record(pool, member),
            Scope::Credential => self.credentials.entry(member.credential.clone()).or_default(),
        };
        record.fail(now, began, trial, cooldown);
        if let Some(trial) = trial {
            // One that was taken on the other record as well has had its verdict.
            self.change(pool, member, |record| record.hand_on(trial));
        }
    }

    fn forget_spent(&mut self, pool: &Roster, now: Time) {
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
        let (acquired, outlook) = self.pick(ask);
        if ask.failed.is_some_and(|(lease, _)| lease.trial) {
            self.lines.wake(ask.pool.id);
        }
        Answer { acquired, degraded: false, outlook }
    }

    async fn fail(&self, attempt: &FailedAttempt<'_>, cooldown: &Cooldown) {
        let now = self.clock.now();
        self.tenants.entry(attempt.tenant).or_default().fail(attempt, cooldown, now);
        if attempt.trial.is_some() {
            self.lines.wake(attempt.pool);
        }
    }

    fn succeed(&self, lease: &Lease) {
        self.change(lease, |record, now| record.succeed(now, lease.began, lease.id));
        if lease.trial {
            self.lines.wake(lease.pool);
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
        drop(tenant);
        if lease.is_awaited() {
            self.lines.wake(lease.pool);
        }
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> bool {
        let now = self.clock.now();
        let Some(mut tenant) = self.tenants.get_mut(&lease.tenant) else { return false };
        let held = tenant.pools.get_mut(&lease.pool).and_then(|pool| pool.held.by_id.get_mut(&lease.id));
        match held {
            Some((_, until)) if *until > now => {
                *until = now + ttl;
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
            let (pool, member) = (lease.pool, &lease.member);
            match outcome {
                Outcome::Failed(cooldown) => tenant.fail(&lease.attempt(), cooldown, now),
                Outcome::Served => {
                    tenant.change(pool, member, |record| record.succeed(now, lease.began, lease.id));
                }
                Outcome::Unknown => tenant.change(pool, member, |record| record.hand_on(lease.id)),
            }
        }
        drop(tenant);
        if held && lease.is_awaited() {
            self.lines.wake(lease.pool);
        }
        held
    }

    async fn inspect(&self, pool: &Roster) -> Inspection {
        let now = self.clock.now();
        let Some(tenant) = self.tenants.get(&pool.tenant) else { return Inspection::blank(pool, now) };
        let blank = PoolState::default();
        let state = tenant.pools.get(&pool.id).unwrap_or(&blank);
        let members = state.inspect(pool, &tenant.credentials, now).collect();
        Inspection { now, turn: state.turn.clone(), members }
    }

    async fn override_cooldown(&self, pool: &Roster, member: &Member, change: Override) {
        let now = self.clock.now();
        let mut tenant = self.tenants.entry(pool.tenant).or_default();
        match change {
            Override::Set { duration, class } => {
                tenant.record(pool.id, member).set(now, Cooling { ends: now + duration, class });
            }
            Override::Clear => {
                // A record of its own even where there is none: calls begun before must not cool it any more.
                tenant.record(pool.id, member);
                tenant.change(pool.id, member, |record| record.clear(now));
            }
            Override::Recover => tenant.change(pool.id, member, |record| {
                if record.cooling.is_some_and(|cooling| cooling.class.health_check_ends()) {
                    record.recover(now);
                }
            }),
        }
        drop(tenant);
        self.lines.wake(pool.id);
    }

    fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }

    async fn claim_check(&self, pool: &Roster, ttl: Duration) -> bool {
        let now = self.clock.now();
        let mut tenant = self.tenants.entry(pool.tenant).or_default();
        let state = tenant.pools.entry(pool.id).or_default();
        let free = state.check.is_none_or(|claimed| claimed <= now);
        if free {
            state.check = Some(now + ttl);
        }
        free
    }

    async fn forget(&self, gone: &Gone) {
        self.lines.forget(&gone.pools);
        if gone.whole {
            self.tenants.remove(&gone.tenant);
        } else if let Some(mut tenant) = self.tenants.get_mut(&gone.tenant) {
            tenant.pools.retain(|id, _| !gone.pools.contains(id));
            for left in &gone.members {
                let Some(pool) = tenant.pools.get_mut(&left.pool) else { continue };
                pool.members.retain(|record, _| !left.records.contains(record));
                for windows in [&mut pool.requests, &mut pool.tokens] {
                    windows.retain(|key, _| !left.keys.contains(key));
                }
            }
            tenant.credentials.retain(|name, _| !gone.credentials.contains(name));
        }
    }
}
