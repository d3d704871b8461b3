//! Active health checks. Where the policy of a model asks for it, members that cool or are idle are probed.
//!
//! One replica checks a pool at a time: it claims the round in the state store. A probe is the driver's cheapest
//! authenticated call. A probe that succeeds ends a cooldown early, unless the cooldown says something of limits. A probe
//! that fails cools an idle member, as a failed call does. Members whose trial is due are left to calls. While Redis is
//! away, each replica checks for itself.
//!
//! Pools are checked independently of each other, and the members of a pool beside each other. What is asked at once is
//! bounded for each tenant and in all, and a round by its interval: a tenant whose providers do not answer slows no other.

use crate::{
    balance::{Cooldown, ErrorClass, Failure, HealthCheck, Member, Standing, Time},
    catalog::{Catalog, ModelKey, Pool, PoolMember},
    provider::{Driver, Registry},
    state::{FailedAttempt, MemberInspection, Override, StateStore},
    tasks::{Task, Tasks},
};
use futures::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use rand::seq::SliceRandom;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, MissedTickBehavior, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often pools are looked through for those that are due.
const TICK: Duration = Duration::from_millis(500);

/// The most that is asked at once of providers and the state store.
#[derive(Debug, Clone, Copy)]
pub struct CheckSlots {
    /// For one tenant.
    pub of_tenant: usize,
    /// For all of them.
    pub in_all: usize,
}

/// Checks until `stop`. A pool whose check panics is left out, and checked again when it is due.
pub async fn run(
    catalog: Catalog,
    state: Arc<dyn StateStore>,
    drivers: Registry,
    slots: CheckSlots,
    tasks: Tasks,
    stop: CancellationToken,
) {
    let (state, drivers, tasks) = (&*state, &drivers, &tasks);
    let all = Arc::new(Semaphore::new(slots.in_all));
    let mut tenants: HashMap<Uuid, Slots> = HashMap::new();
    let mut due: HashMap<Uuid, Instant> = HashMap::new();
    let mut checked: HashSet<Uuid> = HashSet::new();
    let mut checks = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(pool) = checks.next() => {
                checked.remove(&pool);
                continue;
            }
            _ = ticks.tick() => {}
        }
        let pools = catalog.pools(|pool| pool.enabled && pool.balanced && pool.policy.health_check.is_some());
        let known: HashSet<_> = pools.iter().flat_map(|pool| [pool.roster.id, pool.roster.tenant]).collect();
        due.retain(|id, _| known.contains(id));
        // Who asks for no checks any more and then again has no second share: what hangs still counts.
        tenants.retain(|id, slots| known.contains(id) || slots.are_taken());
        let now = Instant::now();
        for pool in pools {
            let Some(rule) = pool.policy.health_check else { continue };
            let id = pool.roster.id;
            if due.get(&id).is_some_and(|due| *due > now) || !checked.insert(id) {
                continue;
            }
            due.insert(id, now + rule.interval);
            let slots_of_tenant = tenants.entry(pool.roster.tenant);
            let slots = slots_of_tenant.or_insert_with(|| Slots::new(slots.of_tenant, all.clone())).clone();
            checks.push(async move {
                let ModelKey { tenant, provider, model, .. } = &pool.key;
                let name = format!("{tenant}/{provider}/{model}");
                let check = Check { pool: &pool, rule, slots, state };
                // Who was not asked in time may be the first of the next round.
                let check = timeout(rule.interval, check.run(drivers));
                let _ = tasks.contain(Task::HealthChecks, &name, check).await;
                id
            });
        }
    }
}

/// What may be asked at once.
#[derive(Clone)]
struct Slots {
    of_tenant: Arc<Semaphore>,
    in_all: Arc<Semaphore>,
    most: usize,
}

impl Slots {
    fn new(most: usize, in_all: Arc<Semaphore>) -> Self {
        Self { of_tenant: Arc::new(Semaphore::new(most)), in_all, most }
    }

    fn are_taken(&self) -> bool {
        self.of_tenant.available_permits() < self.most
    }

    /// Waits for a slot. It is free again when what is returned is dropped.
    async fn take(&self) -> [Option<SemaphorePermit<'_>>; 2] {
        // The tenant's first: who waits for one of those holds none of all. Neither is ever closed.
        [self.of_tenant.acquire().await.ok(), self.in_all.acquire().await.ok()]
    }
}

/// One round of one pool.
struct Check<'a> {
    pool: &'a Pool,
    rule: HealthCheck,
    slots: Slots,
    state: &'a dyn StateStore,
}

impl Check<'_> {
    async fn run(&self, drivers: &Registry) {
        let Some(driver) = drivers.get(self.pool.kind.name) else { return };
        let roster = &self.pool.roster;
        let asked = self.slots.take().await;
        // A little less than the interval: the next round must find it free.
        if !self.state.claim_check(roster, self.rule.interval.mul_f64(0.9)).await {
            return;
        }
        let seen = self.state.inspect(roster).await;
        drop(asked);
        let members = roster.members.iter().zip(&self.pool.members).zip(&seen.members);
        let mut members: Vec<_> =
            members.map(|((balanced, member), seen)| (balanced, member, seen)).collect();
        members.shuffle(&mut rand::rng());
        stream::iter(members)
            .for_each_concurrent(self.slots.most, |(balanced, member, inspection)| {
                self.member(driver, seen.now, balanced, member, inspection)
            })
            .await;
    }

    async fn member(
        &self,
        driver: &dyn Driver,
        now: Time,
        balanced: &Member,
        member: &PoolMember,
        seen: &MemberInspection,
    ) {
        let cooling = match seen.standing(now) {
            Standing::Cooling(cooling) if cooling.class.health_check_ends() => true,
            Standing::Available if seen.in_flight == 0 => false,
            _ => return,
        };
        let _slot = self.slots.take().await;
        let failure = match timeout(self.rule.timeout, driver.validate(&member.target)).await {
            Ok(outcome) => outcome.err(),
            Err(_) => Some(Failure::new(ErrorClass::Timeout, "no answer to a health check")),
        };
        let roster = &self.pool.roster;
        match failure {
            None if cooling => {
                self.state.override_cooldown(roster, balanced, Override::Recover).await;
                log(self.pool, member, "a health check ended a cooldown");
            }
            Some(failure) if !cooling => {
                let attempt = FailedAttempt {
                    tenant: roster.tenant,
                    pool: roster.id,
                    member: balanced,
                    began: now,
                    trial: None,
                };
                if let Some(cooldown) = asked_for(self.pool, &failure) {
                    self.state.fail(&attempt, &cooldown).await;
                    log(self.pool, member, "a health check failed");
                }
            }
            _ => {}
        }
    }
}

/// The cooldown for a failed probe. A server that has no list of models is not unwell.
fn asked_for(pool: &Pool, failure: &Failure) -> Option<Cooldown> {
    if !failure.class.health_check_ends() {
        return None;
    }
    pool.policy.cooldowns.decide(failure, rand::random())
}

fn log(pool: &Pool, member: &PoolMember, what: &str) {
    tracing::info!(
        tenant = pool.key.tenant,
        provider = pool.key.provider,
        model = pool.key.model,
        config = %member.id,
        "{what}"
    );
}
