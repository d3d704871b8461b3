//! The names of a pool's keys. Row ids, never a caller's text; one hash tag a tenant, so that a script may touch a pool
//! and the tenant's credentials on a cluster too.

use crate::balance::{LeaseId, MemberKey};
use std::time::Duration;
use uuid::Uuid;

/// A replica that has been silent for this long no longer counts as holding calls in flight.
pub(super) const REPLICA_TTL: Duration = Duration::from_secs(15);

/// A key of a tenant or of one of its pools.
#[derive(Clone, Copy)]
pub(super) enum Key {
    /// The turn and the members' records.
    Pool,
    /// The tenant's credential records.
    Credentials,
    /// Calls in flight, by member and holder.
    Counts,
    /// The tenant's holders, by the time they are alive until.
    Holders,
    /// The windows of counts.
    Used,
    /// Who checks the members.
    Check,
    /// The pool's leases that end by themselves, by when they do. The number is that of its format, as in those below.
    Leases,
    /// Weighted turns of a large pool.
    Turn,
    /// The replicas whose callers wait.
    Line,
}

impl Key {
    /// As `acquire.lua`, `inspect.lua` and `end.lua` take them.
    pub(super) const ALL: [Self; 8] = [
        Self::Pool,
        Self::Credentials,
        Self::Counts,
        Self::Holders,
        Self::Used,
        Self::Leases,
        Self::Turn,
        Self::Line,
    ];
    /// Where records are.
    pub(super) const RECORDS: [Self; 2] = [Self::Pool, Self::Credentials];
    /// Those of a pool alone.
    pub(super) const OF_POOL: [Self; 7] =
        [Self::Pool, Self::Counts, Self::Used, Self::Check, Self::Leases, Self::Turn, Self::Line];
    /// A tenant's beside those of its pools.
    pub(super) const OF_TENANT: [Self; 2] = [Self::Credentials, Self::Holders];

    /// Its name. That of a tenant's key is the same for all pools.
    pub(super) fn of(self, tenant: Uuid, pool: Uuid) -> String {
        let (tenant, pool) = (tenant.simple(), pool.simple());
        match self {
            Self::Pool => format!("rota:{{{tenant}}}:pool:{pool}"),
            Self::Credentials => format!("rota:{{{tenant}}}:credentials"),
            Self::Counts => format!("rota:{{{tenant}}}:in-flight:{pool}"),
            Self::Holders => format!("rota:{{{tenant}}}:holders"),
            Self::Used => format!("rota:{{{tenant}}}:used:{pool}"),
            Self::Check => format!("rota:{{{tenant}}}:check:{pool}"),
            Self::Leases => format!("rota:{{{tenant}}}:leases:{pool}:1"),
            Self::Turn => format!("rota:{{{tenant}}}:turn:{pool}:1"),
            Self::Line => format!("rota:{{{tenant}}}:line:{pool}:1"),
        }
    }
}

/// What replicas have seen of an address of the tenant. The number goes with the format.
pub(super) fn address_key(tenant: Uuid, address: &str) -> String {
    format!("rota:{{{}}}:address:{address}:1", tenant.simple())
}

/// The names of these keys.
pub(super) fn keys<const N: usize>(which: [Key; N], tenant: Uuid, pool: Uuid) -> [String; N] {
    which.map(|key| key.of(tenant, pool))
}

/// What begins the name of the channel on which a replica is told that a pool whose row id follows may have something free
/// for its callers. The replica's name ends it.
pub(super) const LINE_CHANNEL: &str = "rota:line:";

/// A replica that has not asked for this long no longer stands in a line: it looks each second.
pub(super) const STAND_TTL: Duration = Duration::from_secs(3);

/// How a lease with an end of its own stands among those of its pool.
pub(super) fn lease_entry(member: &MemberKey, lease: LeaseId) -> String {
    format!("{member}|{lease}")
}

/// The holder that such a lease is where an older release has granted it.
pub(super) fn holder(lease: LeaseId) -> String {
    format!("lease:{lease}")
}
