//! Liveness and readiness, over `grpc.health.v1` and plain HTTP, and active checks of what tenants configured.
//!
//! - `readiness`: whether calls are taken, and what that depends on.
//! - `grpc`: what `grpc.health.v1` says.
//! - `http`: the admin port: `/livez`, `/readyz`, `/metrics`.
//! - `scrape`: what is only asked when somebody reads the metrics.
//! - `checks`: active checks of credentials.
//!
//! `ConfigService` and `AdminService` follow the database and whether it takes writes. `InvokeService`, `readiness` and `""` do not: calls are served
//! from snapshots. They need migrations, a first snapshot, no drain, and Redis where it is required. `liveness` is the
//! process alone: it serves as long as there is one. An outage upstream touches none of them.

mod checks;
mod grpc;
mod http;
mod readiness;
mod scrape;

pub use checks::{CheckSlots, run as run_checks};
pub use grpc::{begin, follow, not_serving};
pub use http::serve_http;
pub use readiness::{Dependency, Readiness, RedisNeed, Serving};
