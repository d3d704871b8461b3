//! The server's side of vendors' protocols: what their clients send is read, and what those get back is written.
//!
//! A protocol has a folder `server/` beside its client's side. What they share is here.

use super::{
    ChatEvent, ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest, ModerationReply, ModerationRequest,
    RerankReply, RerankRequest, SpeechReply, SpeechRequest, SpokenRequest,
};
use bytes::Bytes;
use std::time::Duration;

/// Whose words a door speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Google's for Gemini.
    Gemini,
}

/// Something that a protocol's clients ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`.
    ChatCompletions,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/responses`.
    Responses,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `POST /v1/rerank`.
    Rerank,
    /// `POST /v1/moderations`.
    Moderations,
    /// `POST /v1/audio/transcriptions`.
    Transcriptions,
    /// `POST /v1/audio/translations`.
    Translations,
    /// `POST /v1/audio/speech`.
    Speech,
    /// `POST /v1/images/generations`.
    Images,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    MessagesCountTokens,
    /// `POST /v1beta/models/{model}:generateContent`.
    GenerateContent,
    /// `POST /v1beta/models/{model}:streamGenerateContent`.
    StreamGenerateContent,
    /// `POST /v1beta/models/{model}:countTokens`.
    CountTokens,
    /// `POST /v1beta/models/{model}:embedContent`.
    EmbedContent,
    /// `POST /v1beta/models/{model}:batchEmbedContents`.
    BatchEmbedContents,
}

impl Endpoint {
    /// Whose it is.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Messages | Self::MessagesCountTokens => Protocol::Anthropic,
            Self::GenerateContent
            | Self::StreamGenerateContent
            | Self::CountTokens
            | Self::EmbedContent
            | Self::BatchEmbedContents => Protocol::Gemini,
            _ => Protocol::OpenAi,
        }
    }
}

/// What a client asks for, in words that every kind of provider can be told.
#[derive(Debug, Clone)]
pub enum Input {
    /// A chat.
    Chat(Box<ChatRequest>),
    /// How many tokens a chat has.
    CountTokens(Box<ChatRequest>),
    /// Embeddings.
    Embeddings(EmbeddingRequest),
    /// Documents in order.
    Rerank(RerankRequest),
    /// A judgement.
    Moderation(ModerationRequest),
    /// A recording, written down.
    Transcription(SpeechRequest),
    /// A text, read aloud.
    Speech(SpokenRequest),
}

/// What came of an [`Input`].
#[derive(Debug, Clone)]
pub enum Output {
    /// A chat's answer.
    Chat(Box<ChatReply>),
    /// A number of tokens.
    Tokens(u32),
    /// Embeddings.
    Embeddings(EmbeddingReply),
    /// Documents in order.
    Rerank(RerankReply),
    /// A judgement.
    Moderation(ModerationReply),
    /// What was said.
    Transcription(SpeechReply),
}

/// Why a request cannot be read, or cannot be said in another protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct FieldError {
    /// The path of the field in the client's own request, such as `messages[2].content`; empty for the request as a whole.
    pub field: String,
    /// What is wrong with it, in words that follow the field's name.
    pub why: String,
}

impl FieldError {
    /// What is wrong with a field.
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }
}

/// What an answer that is written here says about itself where the provider has not said it.
#[derive(Debug, Clone, Default)]
pub struct Stamp {
    /// An id that no other answer has: letters and digits, without the protocol's prefix.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answers.
    pub model: String,
}

/// An error, to be written in a protocol's own form.
#[derive(Debug, Clone, Default)]
pub struct ErrorReport {
    /// The HTTP status.
    pub status: u16,
    /// Rota's reason, such as `UPSTREAM_RATE_LIMITED`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field of the request that is wrong; empty: none.
    pub field: String,
    /// How long the client is asked to stay away, where that is known.
    pub retry_after: Option<Duration>,
}

/// Writes the answer to one request, as its protocol has it.
pub trait WriteAnswer: Send + Sync {
    /// The media type of a whole answer.
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    /// A whole answer.
    fn whole(&mut self, stamp: &Stamp, output: Output) -> Vec<u8>;

    /// Appends what one event of a stream says: whole frames, in the order that the protocol's clients need.
    fn event(&mut self, stamp: &Stamp, event: ChatEvent, out: &mut Vec<u8>);

    /// Takes note of an event whose frame was handed on as the provider sent it. What is written after it fits.
    fn heard(&mut self, _event: &ChatEvent) {}

    /// Appends a frame of the provider, as it came.
    fn frame(&mut self, name: &str, data: &[u8], out: &mut Vec<u8>);

    /// Appends what ends a stream.
    fn end(&mut self, stamp: &Stamp, out: &mut Vec<u8>);

    /// Appends what ends a stream that has failed.
    fn error(&mut self, stamp: &Stamp, error: &ErrorReport, out: &mut Vec<u8>);

    /// What shows that a stream is alive before its first frame, or between frames.
    fn keep_alive(&self) -> &'static [u8];
}

/// One field of a form (`multipart/form-data`, <https://www.rfc-editor.org/rfc/rfc7578>). Empty texts mean "not there".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormField {
    /// Its name.
    pub name: String,
    /// The file's name.
    pub filename: String,
    /// The file's media type.
    pub content_type: String,
    /// What it holds. Cheap to clone: it is a part of the body.
    pub data: Bytes,
}

/// A request of a client that was read for translation.
pub struct Asked {
    /// What is asked for.
    pub input: Input,
    /// Writes what comes of it.
    pub writer: Box<dyn WriteAnswer>,
}

/// A model, as lists of models name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedModel {
    /// `provider/model`, or an alias.
    pub name: String,
    /// Whose it is: the name of the provider.
    pub provider: String,
    /// How many tokens it takes; 0: not known.
    pub context_window: u32,
    /// Whether it makes embeddings.
    pub embeds: bool,
}
