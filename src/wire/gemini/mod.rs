//! Google's Gemini API (<https://ai.google.dev/api>).

pub mod answer;
mod parameters;
pub mod request;
pub mod stream;
