//! Google's Gemini API (<https://ai.google.dev/api>).

pub mod answer;
mod contents;
mod parameters;
mod parts;
pub mod request;
pub mod server;
pub mod stream;
