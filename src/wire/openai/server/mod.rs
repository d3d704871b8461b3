//! The server's side of OpenAI's API: what its clients send is read into the domain types, and what comes of it is written
//! as they read it. `docs/reference/translation.md` says field by field what becomes of what. [`without_foreign`] takes out of
//! a conversation what Rota wrote into it for another provider.

pub mod audio;
pub mod chat;
mod chat_writer;
pub mod completions;
mod content;
pub mod embeddings;
pub mod error;
mod fields;
mod foreign;
mod frames;
mod head;
pub mod images;
mod messages;
pub mod models;
pub mod moderations;
mod once;
pub mod rerank;
pub mod responses;
mod said;
mod thoughts;
mod tools;

pub use foreign::without_foreign;
