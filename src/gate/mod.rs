//! What every door shares. A door speaks one protocol; the gate decides whether a call may come in, and counts it.
//!
//! - `connections`, `tls`: how many peers are connected, and how a connection begins.
//! - `peer`: what the peer of one connection holds.
//! - `admission`: the gate itself: a call is counted, its token and its role are checked, and it runs until its end.
//! - `access`: which role may do what, and where a token stands.
//! - `shares`: how what all callers share is divided.
//! - `tenant_limits`: how much of a replica one tenant may have.
//! - `unread`: an answer that nobody reads is given up.
//! - `panics`: a panic ends its own call alone.
//! - `drain`: the steps in which a replica stops serving.
//! - `refusal`: why a call is turned away, which each door says in its own protocol.
//!
//! When the database is away, calls with tokens that were seen before still come in. Nothing here needs Redis.

mod access;
mod admission;
mod connections;
mod drain;
mod panics;
mod peer;
mod refusal;
mod shares;
mod tenant_limits;
mod tls;
mod unread;

pub use access::{Access, Operation, bearer};
pub use admission::{Gate, Inside};
pub use connections::{Connection, Connections};
pub use drain::Drain;
pub use panics::ContainedBody;
pub use peer::{MOST_PUBLIC, Peer, PublicCall};
pub use refusal::Refusal;
pub use shares::Bound;
pub use tenant_limits::{CallLimits, PartysCall};
pub use tls::{Tls, TlsError, Versions};
pub use unread::{Patience, ended_unread};
