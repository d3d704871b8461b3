//! Providers' protocols as pure code. Each turns the domain types of a call (a chat, an embedding, …) into bytes and
//! bytes into domain types.
//!
//! - Domain types: [`ChatRequest`] and its like. They belong to no vendor and not to the gRPC contract either.
//! - A folder a protocol: `request.rs` writes what a client sends, `answer.rs` reads what it gets back, and `stream.rs`
//!   reads the frames of a streamed answer.
//! - [`StreamReader`] reads a stream in two steps: a [`Decoder`] such as [`sse`] cuts the bytes into frames, and a
//!   protocol's [`ReadFrames`] says what they mean.
//! - A request or an answer that is handed on as it came is read beside: [`TopLevel`] says where a request goes and changes
//!   it in place, [`glance`] whether a whole answer is one, and [`Passing`] what each frame of a stream means.
//! - [`ProviderError`] is an error as the provider words it, and `retry_after` reads how long it asks callers to stay
//!   away. What an error means for the provider is decided in `provider/`, and so is the removal of secrets.
//!
//! Invariants: no I/O, no clock, no other room. What is not the protocol is an error, never an empty success.

mod answer;
pub(crate) mod anthropic;
mod assemble;
mod carried;
mod chat;
pub(crate) mod cohere;
mod embedding;
mod error;
pub(crate) mod extra;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod gemini;
mod glance;
mod lenient;
mod media;
mod mend;
mod moderation;
mod nesting;
pub(crate) mod openai;
mod overheard;
mod passing;
mod recipient;
mod reply;
pub(crate) mod rerank;
pub(crate) mod retry_after;
mod scan;
mod server;
mod speech;
pub mod sse;
mod stream;
mod tool_calls;
mod top_level;
mod tree;
mod unheard;
mod vector;

pub use assemble::assemble;
pub use chat::*;
pub use embedding::*;
pub use error::{DAILY_QUOTA, FLAGGED, ProviderError, ReadError, WriteError};
pub use extra::{Extra, Keys};
pub use glance::{Glance, glance};
pub use moderation::*;
pub use nesting::Nesting;
pub use overheard::UsageListener;
pub use passing::{AnyEvents, AnyPassing, Passed, Passing, passing};
pub use recipient::{Recipient, Switches};
pub use reply::*;
pub use rerank::{Ranked, RerankReply, RerankRequest};
pub use server::*;
pub use speech::*;
pub use stream::{Decoder, Frame, ReadFrames, ReadStream, Said, StreamReader};
pub use top_level::{Edit, Pieces, TopLevel};
pub(crate) use tree::Tree;
