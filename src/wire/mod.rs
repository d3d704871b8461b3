//! Vendors' protocols as pure code, and the domain types that every protocol is translated to and from.

pub(crate) mod answer;
pub(crate) mod anthropic;
mod chat;
pub(crate) mod cohere;
mod embedding;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod gemini;
pub(crate) mod media;
mod moderation;
pub(crate) mod openai;
pub(crate) mod rerank;
mod speech;
pub mod sse;

pub use chat::*;
pub use embedding::*;
pub use moderation::*;
pub use rerank::*;
pub use speech::*;
