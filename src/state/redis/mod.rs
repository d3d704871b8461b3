//! State in Redis, shared by any number of replicas.
//!
//! One script a decision, so that no two replicas can see half of one. All keys of a tenant carry the hash tag
//! `{tenant row id}`: a script may touch a pool and the tenant's credentials on a cluster too. The scripts take
//! durations and read Redis's own clock, so replicas need not agree on the time.
//!
//! When Redis is gone, everything that is waited for returns an error at once (no queue, no retry), and what is
//! noted off the path is dropped: trials expire by themselves, and in-flight counts are those of live replicas only.
//! The client reconnects for ever with a growing pause of up to 200 ms.

mod batch;
mod changes;
mod codec;
mod connect;
mod error;
mod facts;
mod keys;
mod rosters;
mod script;
mod shared;
mod store;
mod writer;

pub use changes::ChangeFeed;
pub use connect::{CommandWatch, RedisOptions};
pub use facts::RedisFacts;
pub use store::RedisStore;
