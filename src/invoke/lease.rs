//! Leases for clients that call the provider by themselves: the same pick, the same verdicts, no call.

use super::{
    Call, CallError, Engine,
    attempts::{granted, how, unusable},
    route::Trail,
};
use crate::{
    balance::{ErrorClass, Failure, LeaseId, WhenExhausted},
    catalog::{Pool, PoolMember},
    state::{Acquire, Acquired, Answer, Lease, Outcome},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// A lease that is not renewed ends by itself after this long.
pub const LEASE_TTL: Duration = Duration::from_secs(60);
/// How often a caller without an eligible config asks again while a trial is on its way.
const LOOK: Duration = Duration::from_millis(50);

/// A config for a client to call.
#[derive(Debug)]
pub struct Granted {
    /// The model's pool.
    pub pool: Arc<Pool>,
    /// The config's index among the pool's members.
    pub index: usize,
    /// The hold on it; none where the model is not balanced: then there is nothing to count.
    pub lease: Option<Lease>,
    /// Whether this replica decided alone.
    pub degraded: bool,
}

impl Granted {
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
    pub async fn hold(&self, call: &Call, excluded: &[String]) -> Result<Granted, CallError> {
        let pool = call.chain.first().ok_or(CallError::NoCredentials)?;
        if let Some(error) = unusable(pool) {
            return Err(error);
        }
        let tried: Vec<usize> = pool
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| excluded.iter().any(|id| **id == *member.id))
            .map(|(index, _)| index)
            .collect();
        let exhausted = |first_back| Trail::new(pool).exhausted(first_back);
        if !pool.balanced {
            let granted = Granted { pool: pool.clone(), index: 0, lease: None, degraded: false };
            return if tried.is_empty() { Ok(granted) } else { Err(exhausted(None)) };
        }
        let mut span = self.traces.pick();
        let waits = pool.policy.when_exhausted == WhenExhausted::Wait && tried.len() < pool.members.len();
        loop {
            let ask = Acquire {
                pool: &pool.roster,
                tried: &tried,
                failed: None,
                lease: LeaseId::random(),
                trial_ttl: LEASE_TTL,
                tokens: call.tokens,
                hold: Some(LEASE_TTL),
            };
            let Answer { acquired, degraded } = span.run(self.state.acquire(&ask)).await;
            span.decided(how(&acquired).name(), granted(pool, &acquired), degraded);
            let pause = match acquired {
                Acquired::Granted { index, lease } => {
                    return Ok(Granted { pool: pool.clone(), index, lease: Some(lease), degraded });
                }
                Acquired::TrialRunning if call.left() > LOOK => LOOK,
                Acquired::TrialRunning => return Err(exhausted(Some((LOOK, ErrorClass::Timeout)))),
                Acquired::Exhausted { first_back: Some((after, _)) } if waits && after < call.left() => {
                    after.max(LOOK)
                }
                Acquired::Exhausted { first_back } => return Err(exhausted(first_back)),
            };
            sleep(pause.min(call.deadline.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Lets a lease last [`LEASE_TTL`] from now; false where it is over.
    pub async fn renew(&self, lease: &Lease) -> bool {
        self.state.renew(lease, LEASE_TTL).await
    }

    /// Ends a lease, by the rules of its pool as they are now; false where it is over.
    pub async fn end(&self, lease: &Lease, pool: Option<&Pool>, report: Report) -> bool {
        let (cooldown, used) = match report {
            Report::Unknown => (None, None),
            Report::Served { used } => return self.state.end(lease, used, Outcome::Served).await,
            // Without the pool there is nobody to cool.
            Report::Failed { failure, used } => {
                (pool.and_then(|pool| pool.policy.cooldowns.decide(&failure, rand::random())), used)
            }
        };
        let outcome = cooldown.as_ref().map_or(Outcome::Unknown, Outcome::Failed);
        self.state.end(lease, used, outcome).await
    }
}

/// What a client says of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Nothing: it may never have been made.
    Unknown,
    /// It was served.
    Served {
        /// Tokens used, where known.
        used: Option<u64>,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
        /// Tokens used, where known.
        used: Option<u64>,
    },
}
