//! Text embeddings, as the drivers and the edge share them.

use super::{Extra, Part, TokenUsage};
use serde_json::{Map, Value};

/// One embedding request.
#[derive(Debug, Clone, Default)]
pub struct EmbeddingRequest {
    /// What to embed.
    pub inputs: EmbeddingInputs,
    /// `document` or `query`, for providers that tell them apart; else empty.
    pub input_type: String,
    /// The length of the vectors; 0: the model's own.
    pub dimensions: u32,
    /// The type of the components, as the provider names it; empty: floating point.
    pub encoding: String,
    /// An end user's id.
    pub user: String,
    /// The provider's own parameters, in the caller's order.
    pub parameters: Map<String, Value>,
    /// More keys for the vendor's request.
    pub extra: Extra,
}

/// What to embed, one vector each.
#[derive(Debug, Clone, PartialEq)]
pub enum EmbeddingInputs {
    /// Texts.
    Texts(Vec<String>),
    /// Texts as the model's tokens.
    Tokens(Vec<Vec<u32>>),
    /// Texts and media.
    Parts(Vec<Part>),
}

impl Default for EmbeddingInputs {
    fn default() -> Self {
        Self::Texts(Vec::new())
    }
}

impl EmbeddingInputs {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(arrays) => arrays.len(),
            Self::Parts(parts) => parts.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In batches of at most so many.
    #[must_use]
    pub fn batches(&self, size: usize) -> Vec<Self> {
        match self {
            Self::Texts(texts) => texts.chunks(size).map(|some| Self::Texts(some.to_vec())).collect(),
            Self::Tokens(arrays) => arrays.chunks(size).map(|some| Self::Tokens(some.to_vec())).collect(),
            Self::Parts(parts) => parts.chunks(size).map(|some| Self::Parts(some.to_vec())).collect(),
        }
    }
}

/// One embedding answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingReply {
    /// One vector an input, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// What it used.
    pub usage: TokenUsage,
}
