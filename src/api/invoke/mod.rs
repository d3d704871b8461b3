//! InvokeService: calls that are balanced. `rpcs` lists them; what a call needs to be read and answered stands in the
//! file of what it is about.

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
