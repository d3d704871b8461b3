//! OpenAI's API, which most other vendors and servers speak too (<https://platform.openai.com/docs/api-reference>).

pub mod answer;
pub mod embeddings;
pub mod form;
pub mod judge;
mod message;
mod parts;
pub mod request;
pub mod responses;
mod said;
pub mod server;
pub mod speech;
pub mod stream;
mod think;
mod usage;
