//! Rota picks the credential or endpoint that serves the next model call, makes the call, and moves on when it fails.
//!
//! # The rooms
//!
//! In the order in which a call passes through them:
//!
//! - [`gate`]: what every door shares: tokens, roles, limits, panics, the drain, connections and TLS.
//! - [`api`]: the gRPC door. It translates between messages and domain types, and decides nothing.
//! - [`http`]: the HTTP door: vendors' protocols. It translates too.
//! - [`invoke`]: the engine: attempts, deadlines, streams, fallbacks and leases.
//! - [`catalog`]: what tenants configure: storage, secrets, and the compiled pools that serve calls.
//! - [`state`]: turns, cooldowns and calls in flight, in memory or on Redis.
//! - [`provider`]: one driver per kind of provider: addresses, signing, sending and error classes.
//! - [`wire`]: vendors' formats: pure functions between bytes and domain types.
//! - [`redis`]: connections, scripts and word of changes: how Redis is reached, whatever is kept there.
//! - [`balance`]: the pure rules: which member serves next, what a failure means, how long it cools.
//!
//! Beside them:
//!
//! - [`app`]: the composition root. It builds and starts everything.
//! - [`problem`]: what every door tells of a call that was not served.
//! - [`tasks`]: the long-lived tasks of the process, supervised.
//! - [`net`]: the accept loop of every listener.
//! - [`health`]: liveness, readiness and active health checks.
//! - [`telemetry`]: logs, metrics and traces.
//! - [`settings`]: every setting, with its default and its check.
//! - [`cli`]: the commands.
//! - [`scripted`]: an upstream that misbehaves on demand, for the demo and the tests.
//!
//! # Who may import whom
//!
//! Imports point one way: `{api, http} -> gate`, `{api, http} -> invoke -> {catalog, state, provider} -> balance`, `catalog -> provider`,
//! `provider -> wire` and `state -> redis`. `balance`, `redis` and `wire` import none of the others. No two files import each
//! other in a circle. A test checks both (`tests/it/house/`).

pub mod api;
pub mod app;
pub mod balance;
pub mod catalog;
pub mod cli;
#[doc(hidden)]
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gate;
pub mod health;
pub mod http;
pub mod invoke;
pub mod net;
pub mod problem;
pub mod provider;
pub mod redis;
pub mod scripted;
pub mod settings;
pub mod state;
pub mod tasks;
pub mod telemetry;
pub mod wire;
