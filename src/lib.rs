//! Rota decides which credential or endpoint serves the next model call, makes that call, and moves on when one fails.
//!
//! The rooms, in the order a call walks through them:
//!
//! - [`api`]: the gRPC edge. Authenticates, validates, turns messages into domain values and errors into statuses.
//! - [`gate`]: what every door shares: tokens, roles, limits, panics, the drain, connections and TLS.
//! - [`invoke`]: the engine. Attempts, deadline, the first-content rule.
//! - [`catalog`]: what tenants configured: storage, secrets, compiled pool snapshots.
//! - [`state`]: turns, cooldowns and in-flight counts, in memory or in Redis.
//! - [`provider`]: one driver a wire protocol, behind one trait.
//! - [`balance`]: the heart, pure: who serves next, what a failure means, how long it cools.
//!
//! Beside them: [`app`] puts everything together, [`settings`] says what can be set, [`health`] reports readiness,
//! [`telemetry`] logs, [`cli`] holds the commands, [`scripted`] is an upstream for the demo and the tests.
//!
//! Arrows point one way: `api -> invoke -> {catalog -> provider, state} -> balance`; a test walks the imports.

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
pub mod invoke;
pub mod net;
pub mod provider;
pub mod scripted;
pub mod settings;
pub mod state;
pub mod tasks;
pub mod telemetry;
pub mod wire;
