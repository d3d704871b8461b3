//! The last resort: what a pool does when all of its members cool and nobody has said for how long.
//!
//! A cooldown after a connection failure, a timeout or a server error is a guess. While others can serve, a guess costs
//! nobody anything. When nobody else can, refusing every caller protects nobody and makes an outage longer than it is. So
//! one call a second goes through, over all replicas, to the member that failed longest ago. Each success doubles the
//! pace, and a few in a row end the cooldown. Envoy knows a like rule as its panic threshold.
//!
//! What the provider has named, what the operator or the policy has set, and what is about a key or a limit is no guess.

use super::Time;
use std::time::Duration;

/// One call goes through in this time, before any has served.
pub(crate) const PACE: Duration = Duration::from_secs(1);
/// So many calls of the last resort that served in a row end the cooldown.
pub(crate) const PROOF: u32 = 3;

/// What the last resort knows of a member that cools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resort {
    /// When it last failed.
    pub failed: Time,
    /// When a call last went through; at first, when the cooldown began.
    pub passed: Time,
    /// How many of those that went through have served since it last failed.
    pub served: u32,
}

impl Resort {
    /// Whether so many calls have served in a row that the cooldown may end.
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        self.served >= PROOF
    }

    /// How long after the last call the next may go.
    #[must_use]
    pub fn pace(&self) -> Duration {
        PACE / (1 << self.served.min(PROOF))
    }
}
