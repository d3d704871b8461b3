//! Cohere's API, version 2.

pub(crate) mod answer;
pub(crate) mod request;
pub(crate) mod stream;
