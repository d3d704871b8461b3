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
//!
//! Where nobody else can serve, a trial that lasts lets others join it, and a pool whose members all cool by a guess has
//! a last resort.

mod address;
mod candidate;
mod class;
mod cooldown;
mod gone;
mod limit;
mod line;
mod member;
mod pick;
mod policy;
mod record;
mod resort;
mod roster;
mod strategy;
mod time;

pub use address::{AddressRecord, VOTE_WINDOW};
pub use candidate::Candidate;
pub use class::{Doubt, ErrorClass, Failure, Full, Scope};
pub use cooldown::{Cooldown, Cooldowns};
pub use gone::{Gone, GoneMembers};
pub use limit::{Limits, Window};
pub use line::{Prospect, most_served, prospect};
pub use member::{LeaseId, Member, MemberKey, Members};
pub use pick::{Pick, PickRules, last_resort, pick, serving_tier};
pub use policy::{HealthCheck, OnBreak, Policy, Timeouts, WhenExhausted};
pub use record::{Cooling, Record, Standing, Trial};
pub use resort::Resort;
pub use roster::Roster;
pub use strategy::{Credit, Strategy, Turn};
pub use time::{Time, millis};

/// The numbers of the rules: the scripts of the Redis store take them from here.
pub(crate) mod constants {
    pub(crate) use super::{limit::*, record::*, resort::*, strategy::SCALE};
}
