//! A request that the scripted upstream got.

use axum::{
    body::Bytes,
    http::{HeaderMap, Method},
};
use serde_json::Value;
use std::time::Instant;

/// A request as it came in.
#[derive(Clone)]
pub struct Recorded {
    /// When it had come in whole.
    pub at: Instant,
    /// The API key, from where its vendor looks for it; empty where there was none.
    pub key: String,
    /// The key as answers name it.
    pub named: String,
    /// Such as `POST`.
    pub method: Method,
    /// Such as `/v1/chat/completions`.
    pub path: String,
    /// What follows the `?`; empty where nothing does.
    pub query: String,
    /// The JSON body; what is no JSON, as text.
    pub body: Value,
    /// The body byte for byte.
    pub raw: Bytes,
    /// The headers, the key among them.
    pub headers: HeaderMap,
}
