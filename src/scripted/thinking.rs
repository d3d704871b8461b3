//! What a model thinks before it answers, and the proof of it that vendors want back unchanged in a loop of tools.
//!
//! With thinking on, a model calls each of the request's tools once, one a round, and answers then. What it thinks in a
//! round, and its proof, are the same whichever key asks: a conversation may go on with another.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// What the model thinks in that round; the first is 1.
pub(super) fn thought(round: usize) -> String {
    format!("Round {round}: let me think.")
}

/// The proof that this text is unchanged. Nobody else writes one.
pub(super) fn signature(text: &str) -> String {
    BASE64_STANDARD.encode(format!("signed {text}"))
}
