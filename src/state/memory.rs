//! State in the process: for one replica, and for tests.
//!
//! It cannot fail. It is lost with the process: a restart forgets cooldowns and turns, never configuration.

use super::{Acquire, Acquired, Lease, MemberState, StateError, StateStore};
use crate::balance::{Candidate, Cooldown, Member, Pick, Pool, Record, Scope, Standing, Trial, pick};
use async_trait::async_trait;
use dashmap::DashMap;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// Keeps everything behind one short lock a tenant: a pick touches its pool and the tenant's credentials together.
#[derive(Debug)]
pub struct MemoryStore {
    start: Instant,
    tenants: DashMap<Uuid, TenantState>,
}

#[derive(Debug, Default)]
struct TenantState {
    pools: HashMap<Uuid, PoolState>,
    credentials: HashMap<Arc<str>, Record>,
}

#[derive(Debug, Default)]
struct PoolState {
    last: Option<u32>,
    members: HashMap<Arc<str>, Record>,
    in_flight: HashMap<Arc<str>, u32>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { start: Instant::now(), tenants: DashMap::new() }
    }
}

impl MemoryStore {
    /// Milliseconds since the store was made, plus one: 0 means "never" in a [`Record`].
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl TenantState {
    fn standing(&self, pool: Uuid, member: &Member, now: u64) -> Standing {
        let of = |record: Option<&Record>| record.map_or(Standing::Available, |record| record.standing(now));
        of(self.pools.get(&pool).and_then(|pool| pool.members.get(&member.key)))
            .and(of(self.credentials.get(&member.credential)))
    }

    /// Changes the member's record and its credential's, and forgets those that have become clear.
    fn change(&mut self, pool: Uuid, member: &Member, change: impl Fn(&mut Record)) {
        let records = [
            self.pools.get_mut(&pool).map(|pool| (&mut pool.members, &member.key)),
            Some((&mut self.credentials, &member.credential)),
        ];
        for (records, key) in records.into_iter().flatten() {
            if let Some(record) = records.get_mut(key) {
                change(record);
                if record.is_clear() {
                    records.remove(key);
                }
            }
        }
    }

    fn fail(&mut self, lease: &Lease, cooldown: &Cooldown, now: u64) {
        let (records, key) = match cooldown.scope {
            Scope::Member => (&mut self.pools.entry(lease.pool).or_default().members, &lease.member.key),
            Scope::Credential => (&mut self.credentials, &lease.member.credential),
        };
        records.entry(key.clone()).or_default().fail(now, lease.began, lease.id, cooldown);
        // A trial that was taken on the other record as well has had its verdict.
        self.change(lease.pool, &lease.member, |record| record.hand_on(lease.id));
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn acquire(&self, ask: &Acquire<'_>) -> Result<Acquired, StateError> {
        let now = self.now();
        let mut tenant = self.tenants.entry(ask.pool.tenant).or_default();
        if let Some((lease, cooldown)) = ask.failed {
            tenant.fail(lease, cooldown, now);
        }
        let candidates: Vec<_> = ask
            .pool
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| Candidate {
                ordinal: member.ordinal,
                priority: member.priority,
                tried: ask.tried.contains(&index),
                standing: tenant.standing(ask.pool.id, member, now),
            })
            .collect();
        let pool = tenant.pools.entry(ask.pool.id).or_default();
        match pick(&candidates, pool.last) {
            Pick::Serve { index, trial } => {
                let Some(member) = ask.pool.members.get(index) else {
                    return Ok(Acquired::Exhausted { first_back: None });
                };
                pool.last = Some(member.ordinal);
                *pool.in_flight.entry(member.key.clone()).or_default() += 1;
                let marked = pool.members.contains_key(&member.key)
                    || tenant.credentials.contains_key(&member.credential);
                if trial {
                    let until = now.saturating_add(millis(ask.trial_ttl));
                    tenant.change(ask.pool.id, member, |record| {
                        record.try_out(now, Trial { lease: ask.lease, until });
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
                };
                Ok(Acquired::Granted { index, lease })
            }
            Pick::TrialRunning => Ok(Acquired::TrialRunning),
            Pick::Exhausted { first_back } => Ok(Acquired::Exhausted {
                first_back: first_back
                    .map(|(until, class)| (Duration::from_millis(until.saturating_sub(now)), class)),
            }),
        }
    }

    async fn fail(&self, lease: &Lease, cooldown: &Cooldown) -> Result<(), StateError> {
        let now = self.now();
        self.tenants.entry(lease.tenant).or_default().fail(lease, cooldown, now);
        Ok(())
    }

    fn succeed(&self, lease: &Lease) {
        if !lease.marked {
            return;
        }
        if let Some(mut tenant) = self.tenants.get_mut(&lease.tenant) {
            tenant.change(lease.pool, &lease.member, |record| record.succeed(lease.id));
        }
    }

    fn release(&self, lease: &Lease) {
        let Some(mut tenant) = self.tenants.get_mut(&lease.tenant) else { return };
        if let Some(pool) = tenant.pools.get_mut(&lease.pool)
            && let Some(count) = pool.in_flight.get_mut(&lease.member.key)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                pool.in_flight.remove(&lease.member.key);
            }
        }
        if lease.trial {
            tenant.change(lease.pool, &lease.member, |record| record.hand_on(lease.id));
        }
    }

    async fn view(&self, pool: &Pool) -> Result<Vec<MemberState>, StateError> {
        let now = self.now();
        let Some(tenant) = self.tenants.get(&pool.tenant) else {
            return Ok(vec![MemberState::default(); pool.members.len()]);
        };
        let in_flight = tenant.pools.get(&pool.id).map(|pool| &pool.in_flight);
        let state = |member: &Member| MemberState {
            cooling: match tenant.standing(pool.id, member, now) {
                Standing::Cooling { until, class } => {
                    Some((Duration::from_millis(until.saturating_sub(now)), class))
                }
                _ => None,
            },
            in_flight: in_flight.and_then(|counts| counts.get(&member.key)).copied().unwrap_or(0),
        };
        Ok(pool.members.iter().map(state).collect())
    }

    async fn flush(&self) {}
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
