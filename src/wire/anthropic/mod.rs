//! Anthropic's Messages API (<https://docs.claude.com/en/api/messages>).

pub mod answer;
mod blocks;
mod parameters;
pub mod request;
pub mod server;
pub mod stream;
