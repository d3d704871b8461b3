//! The server's side of Anthropic's API: `POST /v1/messages` (<https://docs.claude.com/en/api/messages>) and
//! `POST /v1/messages/count_tokens` (<https://docs.claude.com/en/api/messages-count-tokens>).
//!
//! - [`read`] and [`read_count`] read a request for providers that speak another protocol.
//! - [`Writer`] writes what comes of it. It needs no request: where bytes are handed on as they are, one is made by default.
//! - [`error`] words errors.
//! - [`without_foreign`] takes out of a request what Anthropic cannot read, because Rota wrote it for another provider.

mod answer;
mod blocks;
mod count_tokens;
pub mod error;
mod foreign;
mod messages;
pub mod models;
mod object;
mod request;
mod stream;
mod thought;
mod tool_id;
mod writer;

pub use {count_tokens::read as read_count, foreign::without_foreign, request::read, writer::Writer};
