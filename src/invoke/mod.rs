//! The engine: makes one call out of as many attempts as it takes.
//!
//! It tries each member of the pool, then the members of the fallback models, within one deadline and one bound on
//! attempts, and a member again where nobody else can serve. A failure of the member moves the call on; a failure of the
//! request ends it. A failure is written to
//! the state store before the next attempt or before the answer, so the next caller cannot get a key that has just failed.
//! Dropping a call drops the upstream request and releases the lease.
//!
//! `walk` goes over the pools and their members, and `trail` remembers how far it is. `pick` asks for a member, `waiting`
//! stands in line for one, `again` says when the same one is tried again, and `attempt` measures one request and reports
//! what became of it. `resume` goes on with a stream that broke.
//!
//! When Redis is away, calls go on: the state store answers from what this replica knows, and the route says so.

mod again;
mod attempt;
mod budget;
mod bulk;
mod call;
mod count;
mod counting;
mod engine;
mod error;
mod explain;
mod forward;
mod heard;
mod history;
mod latencies;
mod lease;
mod lease_guard;
mod opened;
mod pick;
mod relay;
mod relaying;
mod reply;
mod resume;
mod route;
mod stream;
mod trail;
mod unary;
mod waiting;
mod walk;

pub use budget::RetryBudget;
pub use call::{Call, CallOptions, time_within};
pub use engine::{Engine, MAX_LEASES};
pub use error::CallError;
pub use explain::{ExplainInput, Explanation, Reason, explain};
pub use forward::ForwardAnswer;
pub use lease::{ClientLease, LEASE_TTL, LeaseReport};
pub use relay::{Piece, ReadInput, RelayRequest, Relayed, RelayedStream, WholeAnswer};
pub use reply::{Passed, Reply, StreamEvent};
pub use route::{AttemptReport, Route};
pub use stream::{News, Streamed};
pub use unary::Served;
