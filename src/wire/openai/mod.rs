//! OpenAI's API.

pub(crate) mod answer;
pub(crate) mod judge;
pub(crate) mod request;
pub(crate) mod speech;
