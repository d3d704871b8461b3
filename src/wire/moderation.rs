//! Moderation of text, as the drivers and the edge share it.

/// What a moderation model says of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModerationReply {
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
