//! Calls of each kind: attempts, deadlines, streams, fallbacks, leases.

mod again;
mod breaks;
mod bulk;
mod calls;
mod conformance_failures;
mod conformance_streams;
mod context;
mod counting;
mod dead_addresses;
mod failover;
mod fallback;
mod forward;
mod forward_known;
mod judging;
mod leases;
mod patience;
mod relay;
mod reservations;
pub mod sixteen_faults;
mod speech;
mod speech_out;
pub mod streaming;
mod time_left;
