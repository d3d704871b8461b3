//! State in Redis, shared by any number of replicas.
//!
//! One script a decision, so that no two replicas can see half of one. All keys of a tenant carry the hash tag
//! `{tenant row id}`: a script may touch a pool and the tenant's credentials on a cluster too. The scripts take
//! durations and read Redis's own clock, so replicas need not agree on the time.
//!
//! When Redis is gone, everything that is waited for returns an error at once, and what is noted off the path is dropped:
//! trials expire by themselves, and in-flight counts are those of live replicas only.

mod batch;
mod codec;
mod keys;
mod rosters;
mod script;
mod shared;
mod store;
mod writer;

pub use codec::CoolingMember;
pub use store::RedisStore;
