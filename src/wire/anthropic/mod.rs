//! Anthropic's Messages API (<https://docs.claude.com/en/api/messages>).

pub mod answer;
pub mod request;
pub mod stream;
