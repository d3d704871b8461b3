//! ConfigService: providers, credentials, models and their balancing configs. Each RPC is a method of [`ConfigApi`], in the
//! file of the resource that it is about. `rpcs` lists them.

mod aliases;
mod balancing;
mod cooldown;
mod credentials;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod listed;
mod mask;
mod models;
mod overview;
mod policy;
mod providers;
mod rpcs;
mod service;
mod watch;
mod watches;

pub use service::ConfigApi;
