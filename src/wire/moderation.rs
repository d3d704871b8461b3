//! Moderation, as the drivers and the edge share it.

use super::{Extra, Part};
use serde_json::{Map, Value};

/// One moderation request.
#[derive(Debug, Clone, Default)]
pub struct ModerationRequest {
    /// What to judge.
    pub inputs: ModerationInputs,
    /// The provider's own parameters, in the caller's order.
    pub parameters: Map<String, Value>,
    /// More keys for the vendor's request.
    pub extra: Extra,
}

/// What to judge.
#[derive(Debug, Clone, PartialEq)]
pub enum ModerationInputs {
    /// Texts, each by itself.
    Texts(Vec<String>),
    /// Texts and images, all together.
    Parts(Vec<Part>),
}

impl Default for ModerationInputs {
    fn default() -> Self {
        Self::Texts(Vec::new())
    }
}

/// What a moderation model says: a judgement an input, in their order. There is at least one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModerationReply {
    /// The judgements.
    pub results: Vec<Judgement>,
}

/// What a moderation model says of one input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// Whether any category applies.
    pub flagged: bool,
    /// Every category the provider judged, in its order.
    pub categories: Vec<Category>,
}

/// One category of what may be wrong with a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Category {
    /// The provider's name for it.
    pub name: String,
    /// Whether it applies.
    pub flagged: bool,
    /// How sure the provider is, from 0 to 1; 0 where it gives none.
    pub score: f64,
}
