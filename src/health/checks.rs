//! Active health checks. Where the policy of a model asks for it, members that cool or are idle are probed.
//!
//! One replica checks a pool at a time: it claims the round in the state store. A probe is the driver's cheapest
//! authenticated call. A probe that succeeds ends a cooldown early, unless the cooldown says something of limits. A probe
//! that fails cools an idle member, as a failed call does. Members whose trial is due are left to calls. While Redis is
//! away, each replica checks for itself.

use crate::{
    balance::{Cooldown, ErrorClass, Failure, HealthCheck, Standing},
    catalog::{Catalog, ModelKey, Pool, PoolMember},
    provider::Registry,
    state::{FailedAttempt, Override, StateStore},
    tasks::{Task, Tasks},
};
use futures::StreamExt;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often pools are looked through for those that are due.
const TICK: Duration = Duration::from_millis(500);
/// How many pools are checked at once.
const AT_ONCE: usize = 8;

/// Checks until `stop`. A pool whose check panics is left out, and checked again when it is due.
pub async fn run(
    catalog: Catalog,
    state: Arc<dyn StateStore>,
    drivers: Registry,
    tasks: Tasks,
    stop: CancellationToken,
) {
    let mut due: HashMap<Uuid, Instant> = HashMap::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let pools = catalog.pools(|pool| pool.enabled && pool.balanced && pool.policy.health_check.is_some());
        due.retain(|id, _| pools.iter().any(|pool| pool.roster.id == *id));
        let now = Instant::now();
        let ready: Vec<_> = pools
            .into_iter()
            .filter_map(|pool| Some((pool.policy.health_check?, pool)))
            .filter(|(_, pool)| due.get(&pool.roster.id).is_none_or(|due| *due <= now))
            .collect();
        for (rule, pool) in &ready {
            due.insert(pool.roster.id, now + rule.interval);
        }
        let round = futures::stream::iter(ready).for_each_concurrent(AT_ONCE, |(rule, pool)| {
            let (state, drivers, tasks) = (&state, &drivers, &tasks);
            async move {
                let ModelKey { tenant, provider, model, .. } = &pool.key;
                let name = format!("{tenant}/{provider}/{model}");
                let check = check_pool(&pool, rule, state.as_ref(), drivers);
                tasks.contain(Task::HealthChecks, &name, check).await;
            }
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
    }
}

async fn check_pool(pool: &Pool, rule: HealthCheck, state: &dyn StateStore, drivers: &Registry) {
    // A little less than the interval: the next round must find it free.
    if !state.claim_check(&pool.roster, rule.interval.mul_f64(0.9)).await {
        return;
    }
    let Some(driver) = drivers.get(pool.kind.name) else { return };
    let seen = state.inspect(&pool.roster).await;
    for ((balanced, member), inspection) in pool.roster.members.iter().zip(&pool.members).zip(&seen.members) {
        let cooling = match inspection.standing(seen.now) {
            Standing::Cooling(cooling) if cooling.class.health_check_ends() => true,
            Standing::Available if inspection.in_flight == 0 => false,
            _ => continue,
        };
        let failure = match timeout(rule.timeout, driver.validate(&member.target)).await {
            Ok(outcome) => outcome.err(),
            Err(_) => Some(Failure::new(ErrorClass::Timeout, "no answer to a health check")),
        };
        match failure {
            None if cooling => {
                state.override_cooldown(&pool.roster, balanced, Override::Recover).await;
                log(pool, member, "a health check ended a cooldown");
            }
            Some(failure) if !cooling => {
                let attempt = FailedAttempt {
                    tenant: pool.roster.tenant,
                    pool: pool.roster.id,
                    member: balanced,
                    began: seen.now,
                    trial: None,
                };
                if let Some(cooldown) = asked_for(pool, &failure) {
                    state.fail(&attempt, &cooldown).await;
                    log(pool, member, "a health check failed");
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
