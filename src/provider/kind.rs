//! What a kind of provider is: everything about it that is the same for every tenant.

use super::Rule;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelType {
    /// Chat.
    Llm,
    /// Text embeddings.
    TextEmbedding,
    /// Reranking of documents.
    Rerank,
    /// Speech to text.
    SpeechToText,
    /// Moderation of text.
    Moderation,
    /// Text to speech.
    Tts,
}

impl ModelType {
    /// Every type, in the order of the contract.
    pub const ALL: [Self; 6] =
        [Self::Llm, Self::TextEmbedding, Self::Rerank, Self::SpeechToText, Self::Moderation, Self::Tts];

    /// The name it is stored under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::TextEmbedding => "text-embedding",
            Self::Rerank => "rerank",
            Self::SpeechToText => "speech2text",
            Self::Moderation => "moderation",
            Self::Tts => "tts",
        }
    }

    /// The type of that [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A kind of provider: what a driver needs to know before it can call.
#[derive(Debug)]
pub struct KindSpec {
    /// The name tenants choose it by.
    pub name: &'static str,
    /// For people.
    pub display_name: &'static str,
    /// What its models can do.
    pub model_types: &'static [ModelType],
    /// Where it is, where the vendor has one address; else the tenant must say.
    pub default_base_url: Option<&'static str>,
    /// What a credential of this kind holds.
    pub credential_fields: &'static [CredentialField],
    /// OpenTelemetry's name for it, the attribute
    /// [`gen_ai.provider.name`](https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/); its own name where
    /// OpenTelemetry has none.
    pub telemetry_name: &'static str,
    /// What its errors mean: tables of which each is asked for the most exact row, the first table first.
    pub errors: &'static [&'static [Rule]],
}

/// One field of a credential.
#[derive(Debug)]
pub struct CredentialField {
    /// Its name in the `fields` map.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// Encrypted at rest, masked in every answer.
    pub secret: bool,
    /// Refused where it is missing.
    pub required: bool,
    /// What it is where nothing is given; empty: nothing.
    pub default_value: &'static str,
    /// The values it may have; empty: any.
    pub options: &'static [&'static str],
    /// At most this many characters.
    pub max_length: usize,
    /// A line of help.
    pub help: &'static str,
}

impl CredentialField {
    /// The key that most vendors ask for.
    pub(super) const fn api_key(required: bool, help: &'static str) -> Self {
        Self {
            name: "api_key",
            label: "API key",
            secret: true,
            required,
            default_value: "",
            options: &[],
            max_length: 4096,
            help,
        }
    }
}
