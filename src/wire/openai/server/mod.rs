//! The server's side of OpenAI's API.

pub mod chat;
pub mod responses;
