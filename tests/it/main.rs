//! Rota seen from outside: the built program, called through its gRPC API, on real Redis and real PostgreSQL.
//!
//! One binary, a folder a room; `support` starts the servers. `make test` installs what they need.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected has failed; the `allow-…-in-tests` settings do not reach helpers"
)]
#![allow(
    clippy::assigning_clones,
    clippy::unnecessary_wraps,
    reason = "a table of requests is read, not timed, and the contract's message fields are options"
)]

mod api;
#[cfg(target_os = "linux")]
mod attacks;
mod balance;
mod catalog;
mod cli;
mod deploy;
mod documents;
#[cfg(target_os = "linux")]
mod faults;
mod gate;
mod house;
mod http;
mod invoke;
mod provider;
mod state;
mod support;
mod telemetry;
