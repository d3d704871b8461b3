//! The kind of provider that speaks this protocol.

/// The kind of provider that speaks this protocol.
pub(super) const KIND: &str = "gemini";
