//! OpenAI's API, which most other vendors and servers speak too (<https://platform.openai.com/docs/api-reference>).

pub mod answer;
pub mod form;
pub mod judge;
pub mod request;
pub mod speech;
pub mod stream;
