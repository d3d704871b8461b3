//! In whose words a request is read and its answer written.

use crate::{
    invoke::ReadInput,
    wire::{Asked, Endpoint, FieldError, Protocol, TopLevel, WriteAnswer, anthropic, gemini, openai},
};
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use std::sync::Arc;

/// The writer of the answer, once the request was read for translation.
pub type SharedWriter = Arc<Mutex<Option<Box<dyn WriteAnswer>>>>;

/// Reads a request for translation, and keeps the writer that goes with it.
pub fn reader(
    endpoint: Endpoint,
    content_type: Option<&HeaderValue>,
    array: bool,
    writer: SharedWriter,
) -> ReadInput {
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    Box::new(move |body| {
        let Asked { input, writer: made } = asked(endpoint, &content_type, array, body)?;
        *writer.lock() = Some(made);
        Ok(input)
    })
}

fn asked(endpoint: Endpoint, content_type: &str, array: bool, body: &Bytes) -> Result<Asked, FieldError> {
    use openai::server as openai;
    match endpoint {
        Endpoint::ChatCompletions => openai::chat::read(body),
        Endpoint::Completions => openai::completions::read(body),
        Endpoint::Responses => openai::responses::read(body),
        Endpoint::Embeddings => openai::embeddings::read(body),
        Endpoint::Rerank => openai::rerank::read(body),
        Endpoint::Moderations => openai::moderations::read(body),
        Endpoint::Transcriptions => openai::audio::transcription(TopLevel::fields(body, content_type)?),
        Endpoint::Translations => openai::audio::translation(TopLevel::fields(body, content_type)?),
        Endpoint::Speech => openai::audio::speech(body),
        Endpoint::Images => openai::images::read(body),
        Endpoint::Messages => anthropic::server::read(body),
        Endpoint::MessagesCountTokens => anthropic::server::read_count(body),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            gemini::server::read(body, framing(array))
        }
        Endpoint::CountTokens => gemini::server::read_count(body),
        Endpoint::EmbedContent => gemini::server::read_embed(body),
        Endpoint::BatchEmbedContents => gemini::server::read_batch_embed(body),
    }
}

fn framing(array: bool) -> gemini::server::Framing {
    if array { gemini::server::Framing::Array } else { gemini::server::Framing::Events }
}

/// A writer of what a provider of the same protocol says, for a request that was not read.
pub fn passing(endpoint: Endpoint, array: bool) -> Box<dyn WriteAnswer> {
    match endpoint.protocol() {
        Protocol::Anthropic => Box::new(anthropic::server::Writer::default()),
        Protocol::Gemini => gemini::server::writer(framing(array)),
        Protocol::OpenAi if endpoint == Endpoint::Responses => openai::server::responses::passing(),
        Protocol::OpenAi => openai::server::chat::passing(),
    }
}
