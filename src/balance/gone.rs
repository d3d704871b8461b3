//! What has left the configuration: its state goes with it.

use super::MemberKey;
use std::sync::Arc;
use uuid::Uuid;

/// What a tenant's edits have left behind, or what is left of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// The tenant's row id.
    pub tenant: Uuid,
    /// The row ids of pools that are no more.
    pub pools: Vec<Uuid>,
    /// Whether the tenant is gone as well.
    pub whole: bool,
    /// Members that have left pools that go on.
    pub members: Vec<GoneMembers>,
    /// The names of records of credentials that no pool uses any more.
    pub credentials: Vec<Arc<str>>,
}

/// Members that have left a pool that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneMembers {
    /// The pool's row id.
    pub pool: Uuid,
    /// Those whose place or key is no more.
    pub keys: Vec<MemberKey>,
    /// The names of records that no member of the pool shares any more.
    pub records: Vec<Arc<str>>,
}

impl Gone {
    /// Whether it is nothing.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        !self.whole && self.pools.is_empty() && self.members.is_empty() && self.credentials.is_empty()
    }
}
