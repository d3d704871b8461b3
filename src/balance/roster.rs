//! A pool, as the balancer sees it.

use super::{Members, Strategy};
use uuid::Uuid;

/// What the balancer knows of one model's pool: its members in ring order.
#[derive(Debug, Clone)]
pub struct Roster {
    /// The row id of the model, which names the pool in the state store.
    pub id: Uuid,
    /// The row id of the tenant.
    pub tenant: Uuid,
    /// How it chooses.
    pub strategy: Strategy,
    /// Whether it has a last resort.
    pub last_resort: bool,
    /// Those that may be picked.
    pub members: Members,
    /// Whether callers wait where nobody may serve, so that those who give something back say so.
    pub waits: bool,
}

impl Roster {
    /// Whether who serves depends on the calls that are in flight at that moment.
    #[must_use]
    pub fn counts_in_flight(&self) -> bool {
        self.strategy.counts_in_flight()
            || self.members.iter().any(|member| member.limits.max_concurrency > 0)
    }
}
