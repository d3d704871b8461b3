//! The names of a pool's keys. Row ids, never a caller's text; one hash tag a tenant, so that a script may touch a pool
//! and the tenant's credentials on a cluster too.

use crate::balance::LeaseId;
use std::time::Duration;
use uuid::Uuid;

/// A replica that has been silent for this long no longer counts as holding calls in flight.
pub(super) const REPLICA_TTL: Duration = Duration::from_secs(15);

pub(super) struct Keys {
    tag: uuid::fmt::Simple,
    pool: uuid::fmt::Simple,
}

impl Keys {
    pub(super) fn of(tenant: Uuid, pool: Uuid) -> Self {
        Self { tag: tenant.simple(), pool: pool.simple() }
    }

    /// The turn and the members' records.
    pub(super) fn pool(&self) -> String {
        format!("rota:{{{}}}:pool:{}", self.tag, self.pool)
    }

    /// The tenant's credential records.
    pub(super) fn credentials(&self) -> String {
        format!("rota:{{{}}}:credentials", self.tag)
    }

    /// Calls in flight, by member and holder.
    pub(super) fn counts(&self) -> String {
        format!("rota:{{{}}}:in-flight:{}", self.tag, self.pool)
    }

    /// The tenant's holders, by the time they are alive until.
    pub(super) fn holders(&self) -> String {
        holders(self.tag)
    }

    /// The windows of counts.
    pub(super) fn used(&self) -> String {
        format!("rota:{{{}}}:used:{}", self.tag, self.pool)
    }

    /// Who checks the members.
    pub(super) fn check(&self) -> String {
        format!("rota:{{{}}}:check:{}", self.tag, self.pool)
    }

    /// As `acquire.lua` and `inspect.lua` take them.
    pub(super) fn all(&self) -> Vec<String> {
        vec![self.pool(), self.credentials(), self.counts(), self.holders(), self.used()]
    }

    /// Those of the pool alone.
    pub(super) fn own(&self) -> [String; 4] {
        [self.pool(), self.counts(), self.used(), self.check()]
    }

    /// Where records are.
    pub(super) fn records(&self) -> Vec<String> {
        vec![self.pool(), self.credentials()]
    }
}

/// A tenant's keys beside those of its pools.
pub(super) fn of_tenant(tenant: Uuid) -> [String; 2] {
    [Keys::of(tenant, Uuid::nil()).credentials(), holders_of(tenant)]
}

/// A tenant's holders.
pub(super) fn holders_of(tenant: Uuid) -> String {
    holders(tenant.simple())
}

fn holders(tag: uuid::fmt::Simple) -> String {
    format!("rota:{{{tag}}}:holders")
}

/// The holder that a lease with an end of its own is.
pub(super) fn holder(lease: LeaseId) -> String {
    format!("lease:{lease}")
}
