//! Leases for clients that call the provider by themselves: the same pick and the same reports, but no call.

use super::{
    call::{Call, CallMode},
    engine::Engine,
    error::CallError,
    history::CallHistory,
    pick::{LeaseLifetime, PickRequest, Waits},
    trail::usable,
};
use crate::{
    balance::{Cooldown, ErrorClass, Failure},
    catalog::{Pool, PoolMember},
    state::{Hold, Lease, Outcome},
};
use std::{sync::Arc, time::Duration};

/// A lease that is not renewed ends by itself after this long.
pub const LEASE_TTL: Duration = Duration::from_secs(60);

/// A config for a client to call.
#[derive(Debug)]
pub struct ClientLease {
    /// The model's pool.
    pub pool: Arc<Pool>,
    /// The config's index among the pool's members.
    pub index: usize,
    /// The hold on it; none where the model is not balanced: then there is nothing to count.
    pub lease: Option<Lease>,
    /// Whether this replica decided alone.
    pub degraded: bool,
}

impl ClientLease {
    /// The config.
    #[must_use]
    pub fn member(&self) -> Option<&PoolMember> {
        self.pool.members.get(self.index)
    }
}

impl Engine {
    /// Picks a config of the call's model, none of those `excluded`, and holds it for [`LEASE_TTL`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn lease(&self, call: &Call, excluded: &[String]) -> Result<ClientLease, CallError> {
        let pool = call.chain.first().ok_or(CallError::NoCredentials)?;
        usable(pool)?;
        let is_excluded = |member: &PoolMember| excluded.iter().any(|id| **id == *member.id);
        let members = pool.members.iter().enumerate();
        let tried: Vec<_> =
            members.filter(|(_, member)| is_excluded(member)).map(|(index, _)| index).collect();
        let pick = PickRequest {
            pool,
            tried: &tried,
            tokens: call.tokens,
            arrived: call.began,
            deadline: call.deadline,
            lifetime: LeaseLifetime::Expiring(Hold { ttl: LEASE_TTL, most: self.max_leases }),
            is_last: true,
            waits: Waits::of(pool),
        };
        let picked = self.wait_for_member(&pick, &mut None, None).await;
        if let Some(first_ends) = picked.too_many_leases {
            return Err(CallError::TooManyLeases { most: self.max_leases, first_ends });
        }
        match picked.member {
            Ok((index, lease)) => {
                Ok(ClientLease { pool: pool.clone(), index, lease, degraded: picked.degraded })
            }
            Err(first_back) => Err(CallHistory::new(pool).fail(first_back, true)),
        }
    }

    /// Lets a lease last [`LEASE_TTL`] from now; false where it is over.
    pub async fn renew(&self, lease: &Lease) -> bool {
        self.state.renew(lease, LEASE_TTL).await
    }

    /// Ends a lease and counts what became of its call, by the policy of its pool as it is now; false where the lease is over.
    /// `pool` is none where the model is gone: then nobody cools.
    pub async fn end(&self, lease: &Lease, pool: Option<&Pool>, report: LeaseReport) -> bool {
        let (cooldown, used) = match report {
            LeaseReport::Unknown => (None, None),
            LeaseReport::Served { used, took } => {
                if let (Some(pool), Some(took)) = (pool, took) {
                    self.latencies.record(pool.roster.id, CallMode::Unary, &lease.member.key, took);
                }
                return self.state.end(lease, used, Outcome::Served).await;
            }
            LeaseReport::Failed { failure, used, took } => {
                // What is said of a member that is gone would come back as its state.
                let is_configured = |pool: &&Pool| {
                    pool.configured.iter().any(|(key, _)| key.record == lease.member.key.record)
                };
                let cooldown = match pool.filter(is_configured) {
                    Some(pool) if failure.class == ErrorClass::Cancelled => self.cut(lease, pool, took).await,
                    Some(pool) => pool.policy.cooldown(&failure, rand::random()),
                    None => None,
                };
                (cooldown, used.or(failure.is_refusal().then_some(0)))
            }
        };
        let outcome = cooldown.as_ref().map_or(Outcome::Unknown, Outcome::Failed);
        self.state.end(lease, used, outcome).await
    }
}

impl Engine {
    /// What a client's call asks for that it has cut off; see `Attempt::cut`. Where the client does not say how long it took,
    /// it is for as long as the lease was held.
    async fn cut(&self, lease: &Lease, pool: &Pool, took: Option<Duration>) -> Option<Cooldown> {
        let took = match took {
            Some(took) => took,
            None => self.state.inspect(&pool.roster).await.now.since(lease.began),
        };
        let hung = self.latencies.has_hung(pool.roster.id, CallMode::Unary, &lease.member.key, took);
        hung.then(|| pool.policy.cooldowns.decide_cut(rand::random())).flatten()
    }
}

/// What a client says of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseReport {
    /// Nothing: it may never have been made.
    Unknown,
    /// It was served.
    Served {
        /// Tokens used, where known.
        used: Option<u64>,
        /// How long it took, where known.
        took: Option<Duration>,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
        /// Tokens used, where known.
        used: Option<u64>,
        /// How long it took, where known.
        took: Option<Duration>,
    },
}
