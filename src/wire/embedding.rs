//! Text embeddings, as the drivers and the edge share them.

use super::TokenUsage;

/// One embedding request.
#[derive(Debug, Clone, Default)]
pub struct EmbeddingRequest {
    /// What to embed.
    pub texts: Vec<String>,
    /// `document` or `query`, for providers that tell them apart; else empty.
    pub input_type: String,
    /// The length of the vectors; 0: the model's own.
    pub dimensions: u32,
    /// An end user's id.
    pub user: String,
}

/// One embedding answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingReply {
    /// One vector a text, in the order of the texts.
    pub vectors: Vec<Vec<f32>>,
    /// What it used.
    pub usage: TokenUsage,
}
