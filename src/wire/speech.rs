//! Speech to text and text to speech, as the drivers and the edge share them.

use super::Extra;
use bytes::Bytes;
use serde_json::{Map, Value};

/// One recording to write down.
#[derive(Debug, Clone, Default)]
pub struct SpeechRequest {
    /// The recording. Cheap to clone: every attempt sends the same bytes.
    pub audio: Bytes,
    /// Its file name, by whose ending some providers know the format.
    pub filename: String,
    /// Such as `audio/mpeg`.
    pub mime_type: String,
    /// The language spoken, as in ISO 639-1; empty: the provider finds out.
    pub language: String,
    /// The provider's own parameters, in the caller's order.
    pub parameters: Map<String, Value>,
    /// More keys for the vendor's request.
    pub extra: Extra,
}

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeechReply {
    /// The text.
    pub text: String,
}

/// One text to read aloud.
#[derive(Debug, Clone, Default)]
pub struct SpokenRequest {
    /// What to say.
    pub text: String,
    /// One of the provider's voices; empty: its first.
    pub voice: String,
    /// Such as `mp3` or `wav`; empty: the provider's default.
    pub format: String,
    /// The provider's own parameters, in the caller's order.
    pub parameters: Map<String, Value>,
    /// More keys for the vendor's request.
    pub extra: Extra,
}

/// A voice that a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    /// What a request names it by.
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
    /// The languages it speaks, as in ISO 639-1; empty: any.
    pub languages: &'static [&'static str],
}

impl Voice {
    /// Whether it speaks that language, whatever its region (`pt-BR` is `pt`); an empty one asks for nothing.
    #[must_use]
    pub fn speaks(&self, language: &str) -> bool {
        let language = language.split(['-', '_']).next().unwrap_or_default();
        language.is_empty()
            || self.languages.is_empty()
            || self.languages.iter().any(|spoken| spoken.eq_ignore_ascii_case(language))
    }
}
