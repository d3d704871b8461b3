//! The server's side of OpenAI's API.

pub mod chat;
pub mod error;
mod fields;
pub mod responses;
