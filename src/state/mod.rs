//! Where turns, cooldowns and in-flight counts live.
//!
//! [`MemoryStore`] keeps them in the process, for one replica alone. [`RedisStore`] keeps them in Redis, for any number
//! of replicas. Both follow the rules of [`crate::balance`] and choose the same sequence from the same history.
//! [`ResilientStore`] goes on with the first when the second is away. [`ReachableStore`] stands before either, and leaves out
//! the members whose address this replica cannot reach.

mod addresses;
mod clock;
mod doubts;
mod inspection;
mod line;
mod memory;
mod reachable;
mod redis;
mod resilient;
mod store;

pub use clock::Clock;
use inspection::{CoolingRecord, Known};
pub use inspection::{Inspection, MemberInspection};
pub use line::{LOOK, Lines, Outlook, Place, Role, Stand};
pub use memory::MemoryStore;
pub use reachable::ReachableStore;
pub use redis::{CoolingMember, RedisStore};
pub use resilient::ResilientStore;
use store::STATE_TTL;
pub use store::{Acquire, Acquired, Answer, FailedAttempt, Hold, Lease, Outcome, Override, StateStore};
