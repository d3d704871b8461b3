//! State in the process: for one replica, and for what goes on when Redis is away.
//!
//! It cannot fail. It is lost with the process: a restart forgets cooldowns and turns, never configuration.

mod alone;
mod held;

use super::{
    Acquire, Acquired, Answer, Clock, FailedAttempt, Inspection, Lease, Lines, MemberInspection, Outcome,
    Outlook, Override, Role, STATE_TTL, StateStore,
};
use crate::balance::{
    Candidate, Cooldown, Cooling, Gone, Member, MemberKey, Pick, PickRules, Prospect, Record, Roster, Scope,
    Standing, Time, Turn, Window, pick, prospect,
};
use async_trait::async_trait;
use dashmap::DashMap;
use held::{Held, take_one};
use std::{
    collections::{HashMap, HashSet},
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
    /// Both as they were when Redis was last told.
    told: HashMap<(char, MemberKey), Window>,
    /// Until when the members' check is claimed.
    check: Option<Time>,
    held: Held,
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

    /// Changes what is recorded of a lease's member now.
    fn change(&self, lease: &Lease, change: impl Fn(&mut Record, Time)) {
        if lease.marked
            && let Some(mut tenant) = self.tenants.get_mut(&lease.tenant)
        {
            let now = self.clock.now();
            tenant.change(lease.pool, &lease.member, |record| change(record, now));
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
        let pool = tenant.pools.entry(ask.pool.id).or_default();
        pool.called = Some(now);
        pool.held.end_over(now);
        if let Some(first_ends) = ask.hold.and_then(|hold| pool.held.full(hold, now)) {
            return (Acquired::TooManyLeases { first_ends }, Outlook::default());
        }
        tenant.forget_spent(ask.pool, now);
        let TenantState { pools, credentials } = &mut *tenant;
        let pool = pools.entry(ask.pool.id).or_default();
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
                    Some(hold) => pool.held.add(ask.lease, &member.key, now + hold.ttl, true),
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

    /// All windows: "r" for requests or "t" for tokens, and whose it is.
    fn windows(&self) -> impl Iterator<Item = (char, &MemberKey, &Window)> {
        let requests = self.requests.iter().map(|(key, window)| ('r', key, window));
        requests.chain(self.tokens.iter().map(|(key, window)| ('t', key, window)))
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
            // Old ones that no member names go too.
            let mut named: Option<HashSet<&str>> = None;
            let mut is_named = |name: &str| {
                let names = || pool.members.iter().map(|member| &*member.key.record).collect();
                named.get_or_insert_with(names).contains(name)
            };
            state
                .members
                .retain(|name, record| !record.is_spent(now) && (!record.is_old(now) || is_named(name)));
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
            take_one(&mut pool.in_flight, &lease.member.key);
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
        let pool = tenant.pools.get_mut(&lease.pool);
        pool.is_some_and(|pool| pool.held.renew(lease.id, now + ttl, now))
    }

    async fn end(&self, lease: &Lease, used: Option<u64>, outcome: Outcome<'_>) -> bool {
        let now = self.clock.now();
        let Some(mut tenant) = self.tenants.get_mut(&lease.tenant) else { return false };
        let Some(pool) = tenant.pools.get_mut(&lease.pool) else { return false };
        let held = pool.held.end(lease.id, now);
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
                pool.told.retain(|(_, key), _| !left.keys.contains(key));
            }
            tenant.credentials.retain(|name, _| !gone.credentials.contains(name));
        }
    }
}
