//! The engine: makes one call out of as many attempts as it takes.
//!
//! It tries each member of the pool at most once, then the members of the fallback models, within one deadline and one
//! bound on attempts. A failure of the member moves the call on; a failure of the request ends it. A failure is written to
//! the state store before the next attempt or before the answer, so the next caller cannot get a key that has just failed.
//! Dropping a call drops the upstream request and releases the lease.
//!
//! `walk` goes over the pools and their members, `pick` asks for a member, `waiting` stands in line for one, and `attempt` measures one
//! request and reports what became of it.
//!
//! When Redis is away, calls go on: the state store answers from what this replica knows, and the route says so.

mod attempt;
mod budget;
mod bulk;
mod call;
mod count;
mod engine;
mod error;
mod explain;
mod forward;
mod history;
mod lease;
mod lease_guard;
mod min_latency;
mod pick;
mod reply;
mod route;
mod stream;
mod unary;
mod waiting;
mod walk;

pub use budget::RetryBudget;
pub use call::{Call, CallOptions};
pub use engine::Engine;
pub use error::CallError;
pub use explain::{ExplainInput, Explanation, Reason, explain};
pub use forward::ForwardAnswer;
pub use lease::{ClientLease, LEASE_TTL, LeaseReport};
pub use reply::{Reply, StreamEvent};
pub use route::{AttemptReport, Route};
pub use stream::Streamed;
pub use unary::Served;
