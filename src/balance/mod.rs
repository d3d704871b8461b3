//! The heart, pure: who may serve next, what a failure means, how long it cools.
//!
//! Nothing here does I/O, waits, or reads a clock: time and randomness are arguments. The stores in
//! [`crate::state`] keep what this room decides; the Redis store runs the same rules in Lua, and a test holds the two
//! against each other.
//!
//! A member of a pool is in one of three states:
//!
//! ```text
//!               failure that cools                cooldown over
//! available ───────────────────────▶ cooling ───────────────────▶ half-open
//!     ▲                                 ▲                              │ one trial call
//!     │                                 └────────── it fails ──────────┤
//!     └──────────────────────────────────────────── it serves ─────────┘
//! ```

mod class;
mod cooldown;
mod limit;
mod pick;
mod policy;
mod record;
mod strategy;

pub use class::{ErrorClass, Failure, Scope};
pub use cooldown::{Cooldown, Cooldowns};
pub use limit::{CONCURRENCY_PAUSE, Limits, Window};
pub use pick::{Candidate, Pick, pick, serving_tier};
pub use policy::{HealthCheck, Policy, Timeouts, WhenExhausted};
pub use record::{Record, Standing, Trial};
pub use strategy::{CREDIT_SCALE, Credit, Strategy, Turn};

use std::{fmt, ops::Deref, sync::Arc};
use uuid::Uuid;

/// What the balancer knows of one model's pool: its members in ring order.
#[derive(Debug, Clone)]
pub struct Pool {
    /// The row id of the model, which names the pool in the state store.
    pub id: Uuid,
    /// The row id of the tenant.
    pub tenant: Uuid,
    /// How it chooses.
    pub strategy: Strategy,
    /// Those that may be picked.
    pub members: Members,
}

/// The members of a pool, by ascending [`Member::ordinal`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    list: Vec<Member>,
    alike: bool,
}

impl Members {
    /// Whether nothing but the turn and their failures tells them apart: one priority, no limits.
    #[must_use]
    pub fn are_alike(&self) -> bool {
        self.alike
    }
}

impl Deref for Members {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        &self.list
    }
}

impl From<Vec<Member>> for Members {
    fn from(list: Vec<Member>) -> Self {
        let priority = list.first().map(|first| first.priority);
        let unlimited = list.iter().all(|member| member.limits.is_none());
        let alike = unlimited && list.iter().all(|member| Some(member.priority) == priority);
        Self { list, alike }
    }
}

impl FromIterator<Member> for Members {
    fn from_iter<T: IntoIterator<Item = Member>>(members: T) -> Self {
        Vec::from_iter(members).into()
    }
}

impl Pool {
    /// Whether who serves depends on the calls that are in flight at that moment.
    #[must_use]
    pub fn counts_in_flight(&self) -> bool {
        self.strategy.counts_in_flight()
            || self.members.iter().any(|member| member.limits.max_concurrency > 0)
    }
}

/// One member of a pool, as the balancer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its place in the ring. Never given twice within a pool, so the pointer of the rotation survives edits.
    pub ordinal: u32,
    /// Names it between picks: `ordinal.record`, see [`Member::record`].
    pub key: Arc<str>,
    /// Names the record of the credential behind it, which all pools of the tenant share.
    pub credential: Arc<str>,
    /// The lower serves first.
    pub priority: i32,
    /// Its share under the weighted strategies; at least 1.
    pub weight: u32,
    /// What it may take.
    pub limits: Limits,
}

impl Member {
    /// Names its record of failures. Changes with its API key, address or upstream model, so that neither a cooldown nor
    /// a late failure of the old one touches the new one; members that are alike in all three share it.
    #[must_use]
    pub fn record(&self) -> &str {
        self.key.split_once('.').map_or(&*self.key, |(_, record)| record)
    }
}

/// Names one call's hold on one member. The caller makes it, so that a repeated command is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(Uuid);

impl LeaseId {
    /// A new, random id.
    #[must_use]
    pub fn random() -> Self {
        // Not `new_v4`, which asks the system each time.
        Self(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
    }

    /// The id that displays as that text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}
