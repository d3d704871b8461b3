//! Speech to text, as the drivers and the edge share it.

use bytes::Bytes;

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
}

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeechReply {
    /// The text.
    pub text: String,
}
