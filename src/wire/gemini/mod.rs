//! Google's Gemini API.

pub(crate) mod answer;
mod parameters;
pub(crate) mod request;
pub(crate) mod stream;
