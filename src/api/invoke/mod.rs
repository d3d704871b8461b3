//! InvokeService: calls that are balanced. `rpcs` lists the RPCs. Each other file reads and answers one sort of call.

mod chat;
mod explain;
mod forward;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod lease;
mod pieces;
mod rpcs;
mod service;
mod speech;
mod texts;
mod tokens;

pub use service::InvokeApi;
