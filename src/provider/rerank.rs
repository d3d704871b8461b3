//! Reranking of documents, as the drivers and the edge share it.

use super::TokenUsage;

/// One reranking request.
#[derive(Debug, Clone, Default)]
pub struct RerankRequest {
    /// What is looked for.
    pub query: String,
    /// What to put in order.
    pub documents: Vec<String>,
    /// At most this many results; 0: all.
    pub top_n: u32,
}

/// One reranking answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RerankReply {
    /// The best first; at most [`RerankRequest::top_n`].
    pub results: Vec<Ranked>,
    /// What it used.
    pub usage: TokenUsage,
}

/// One document's place.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ranked {
    /// Its index among the request's documents.
    pub index: usize,
    /// How well it fits: the provider's measure, the higher the better.
    pub score: f64,
}
