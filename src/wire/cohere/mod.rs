//! Cohere's API, version 2 (<https://docs.cohere.com/reference/about>).

pub mod answer;
mod parameters;
pub mod request;
pub mod stream;
