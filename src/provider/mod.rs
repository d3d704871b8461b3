//! One driver a wire protocol, behind one trait.
//!
//! A driver makes one attempt at one [`Target`]. It never retries, never picks, and never reads the caller's metadata.
//! It fails with a [`Failure`] whose class says what the balancer should think of it, and whose text holds no secret.
//! When the provider is gone, an attempt fails with `CONNECTION` or `TIMEOUT`; the engine decides what comes next.

mod anthropic;
pub(crate) mod classify;
pub(crate) mod client;
mod cohere;
mod connect;
mod drivers;
mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gemini;
pub mod guard;
mod openai;
mod reach;
pub(crate) mod redact;
mod retry_after;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
mod tokens;

pub use client::{BuildError, UpstreamClient, UpstreamOptions};
pub use connect::connect_within;
pub use drivers::{Drivers, kind, kinds};
pub use forward::{ForwardPath, ForwardReply, ForwardRequest, Forwarded, forwarded_headers};
pub use guard::{Networks, check_url, same_origin};
pub use reach::{Unreachable, reach};
pub use tokens::{Countable, TokenCount, Vocabulary, count, estimate_chat, estimate_text};

pub use crate::wire::*;

use crate::balance::{ErrorClass, Failure};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::HeaderMap;
use secrecy::SecretString;
use std::sync::Arc;
use url::Url;

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
    const fn api_key(required: bool, help: &'static str) -> Self {
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

/// Where one attempt goes: an address, a model, and the credential for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The API's root, such as `https://api.openai.com/v1`; no trailing slash is needed.
    pub base_url: Url,
    /// The model's name as the provider knows it.
    pub model: String,
    /// The credential's fields; all of them are treated as secrets from here on.
    pub fields: Fields,
}

/// A credential's fields by name. Clones share them: an attempt copies no secret.
#[derive(Debug, Clone, Default)]
pub struct Fields(Arc<[(Box<str>, SecretString)]>);

impl Fields {
    /// The field of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl FromIterator<(String, SecretString)> for Fields {
    fn from_iter<T: IntoIterator<Item = (String, SecretString)>>(fields: T) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

impl<const N: usize> From<[(String, SecretString); N]> for Fields {
    fn from(fields: [(String, SecretString); N]) -> Self {
        fields.into_iter().collect()
    }
}

/// A streamed answer. Dropping it ends the upstream request.
pub type ChatStream = BoxStream<'static, Result<ChatEvent, Failure>>;

/// Bytes, in pieces as they come. Dropping it ends the upstream request.
pub type ByteStream = BoxStream<'static, Result<Bytes, Failure>>;

/// Speaks one wire protocol.
#[async_trait]
pub trait Driver: Send + Sync + 'static {
    /// The kind it serves.
    fn spec(&self) -> &'static KindSpec;

    /// One chat completion.
    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<ChatReply, Failure>;

    /// One streamed chat completion; returns when the provider has accepted the request.
    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure>;

    /// Embeds texts, one vector a text, in their order.
    async fn embed(&self, _target: &Target, _request: &EmbeddingRequest) -> Result<EmbeddingReply, Failure> {
        Err(unsupported(self.spec()))
    }

    /// Judges a text.
    async fn moderate(&self, _target: &Target, _text: &str) -> Result<ModerationReply, Failure> {
        Err(unsupported(self.spec()))
    }

    /// Puts documents in order.
    async fn rerank(&self, _target: &Target, _request: &RerankRequest) -> Result<RerankReply, Failure> {
        Err(unsupported(self.spec()))
    }

    /// Writes a recording down.
    async fn transcribe(&self, _target: &Target, _request: &SpeechRequest) -> Result<SpeechReply, Failure> {
        Err(unsupported(self.spec()))
    }

    /// Reads a text aloud; returns when the provider has accepted the request.
    async fn speak(&self, _target: &Target, _request: &SpokenRequest) -> Result<ByteStream, Failure> {
        Err(unsupported(self.spec()))
    }

    /// The voices that [`speak`](Self::speak) knows.
    fn voices(&self) -> &'static [Voice] {
        &[]
    }

    /// How that model cuts text into tokens, where it is known here.
    fn vocabulary(&self, _model: &str) -> Option<Vocabulary> {
        None
    }

    /// Asks the provider how many tokens a conversation has. `None` where the vendor has no such call: then it is
    /// counted here.
    async fn count_tokens(&self, _target: &Target, _request: &ChatRequest) -> Result<Option<u32>, Failure> {
        Ok(None)
    }

    /// At most this many texts fit into one [`embed`](Self::embed) of that target; more are sent in several.
    fn embedding_batch(&self, _target: &Target) -> usize {
        2048
    }

    /// What shows the credential to the provider: headers, all marked sensitive, and what must stand in the query.
    fn authorize(&self, target: &Target, url: &mut Url) -> Result<HeaderMap, Failure>;

    /// The cheapest call that shows whether the credential works.
    async fn validate(&self, target: &Target) -> Result<(), Failure>;
}

/// What a kind does not list among its model types: saving such a model is refused, so this is for rows of a build that
/// could more.
fn unsupported(kind: &KindSpec) -> Failure {
    Failure::new(ErrorClass::BadRequest, format!("providers of kind {} cannot do this", kind.name))
}
