//! For the store that goes on here when Redis is away: follows what Redis decides, and knows what to tell it later.

use super::{MemoryStore, PoolState, TenantState};
use crate::{
    balance::{Cooling, ErrorClass, Record, Scope, Time},
    state::{Acquire, Acquired, Answer, CoolingRecord, Known, Lease},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use uuid::Uuid;

impl MemoryStore {
    /// Follows an answer of Redis: writes the failure that `ask` has carried, takes over the cooldowns that were reported, and
    /// counts the lease that was granted. A cooldown that runs longer here stays.
    pub(in crate::state) fn follow(
        &self,
        ask: &Acquire<'_>,
        answer: &Answer,
        cooling: &[(usize, Duration, ErrorClass)],
    ) {
        let now = self.clock.now();
        let mut tenant = self.tenants.entry(ask.pool.tenant).or_default();
        if let Some((lease, cooldown)) = ask.failed {
            tenant.fail(&lease.attempt(), cooldown, now);
        }
        for &(index, left, class) in cooling {
            let Some(member) = ask.pool.members.get(index) else { continue };
            let record = tenant.record(ask.pool.id, member);
            let ends = now + left;
            if record.cooling.is_none_or(|cooling| cooling.ends < ends) {
                record.set(now, Cooling { ends, class });
            }
        }
        let pool = tenant.pools.entry(ask.pool.id).or_default();
        pool.called = Some(now);
        if let Acquired::Granted { lease, .. } = &answer.acquired {
            pool.turn.last = Some(lease.member.key.ordinal);
            pool.held.end_over(now);
            match ask.hold {
                Some(hold) => pool.held.add(lease.id, &lease.member.key, now + hold.ttl, false),
                None => *pool.in_flight.entry(lease.member.key.clone()).or_default() += 1,
            }
        }
    }

    /// The call under that lease has served: its member is well, whoever granted it the trial.
    pub(in crate::state) fn recover(&self, lease: &Lease) {
        if lease.trial {
            self.change(lease, Record::recover);
        } else {
            // When it began is not of this store's clock.
            let before = Time::default();
            self.change(lease, |record, now| record.succeed(now, before, lease.id));
        }
    }

    /// The pools of which Redis has to be told when it is back, with their tenants: those with calls in flight, or with members
    /// that cool.
    pub(in crate::state) fn with_something_to_tell(&self) -> Vec<(Uuid, Uuid)> {
        let now = self.clock.now();
        let mut all = Vec::new();
        for tenant in &self.tenants {
            let told = tenant.pools.iter().filter(|(_, pool)| {
                !pool.in_flight.is_empty() || cooling(&pool.members, Scope::Member, now).next().is_some()
            });
            all.extend(told.map(|(id, _)| (*tenant.key(), *id)));
        }
        all
    }

    /// What Redis has to be told of that pool.
    pub(in crate::state) fn known(&self, tenant: Uuid, pool: Uuid) -> Known {
        let (now, nothing) = (self.clock.now(), PoolState::default());
        let of_tenant = self.tenants.get(&tenant);
        let state = of_tenant.as_ref().and_then(|tenant| tenant.pools.get(&pool)).unwrap_or(&nothing);
        let used = state.windows().filter_map(|(kind, key, window)| {
            let told = state.told.get(&(kind, key.clone())).cloned().unwrap_or_default();
            Some((kind, key.clone(), window.since(&told, now))).filter(|(_, _, used)| !used.is_empty())
        });
        Known {
            tenant,
            pool,
            cooling: cooling(&state.members, Scope::Member, now).collect(),
            in_flight: state.in_flight.iter().map(|(key, count)| (key.clone(), *count)).collect(),
            leases: state.held.untold(now).collect(),
            used: used.collect(),
        }
    }

    /// Redis has been told all that is known of that pool.
    pub(in crate::state) fn told(&self, tenant: Uuid, pool: Uuid) {
        let Some(mut tenant) = self.tenants.get_mut(&tenant) else { return };
        let Some(state) = tenant.pools.get_mut(&pool) else { return };
        state.told =
            state.windows().map(|(kind, key, window)| ((kind, key.clone()), window.clone())).collect();
        state.held.told();
    }

    /// Tenants whose credentials cool.
    pub(in crate::state) fn with_cooling_credentials(&self) -> Vec<Uuid> {
        let now = self.clock.now();
        let cools =
            |tenant: &TenantState| cooling(&tenant.credentials, Scope::Credential, now).next().is_some();
        self.tenants.iter().filter(|tenant| cools(tenant)).map(|tenant| *tenant.key()).collect()
    }

    /// The credentials of that tenant that cool.
    pub(in crate::state) fn cooling_credentials(&self, tenant: Uuid) -> Vec<CoolingRecord> {
        let now = self.clock.now();
        let tenant = self.tenants.get(&tenant);
        tenant.map_or_else(Vec::new, |tenant| cooling(&tenant.credentials, Scope::Credential, now).collect())
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
