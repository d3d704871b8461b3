//! Cohere's API, version 2 (<https://docs.cohere.com/reference/about>).

pub mod answer;
pub mod request;
pub mod stream;
