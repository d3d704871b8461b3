//! In whose words a request is read and its answer written.

use crate::{
    invoke::ReadInput,
    wire::{Asked, Endpoint, FieldError, Protocol, Stamp, TopLevel, WriteAnswer, anthropic, gemini, openai},
};
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use std::sync::Arc;

/// In whose words an answer is written. Its writer comes with the request where that is read for translation, and else with
/// the first piece.
pub struct Words {
    stamp: Stamp,
    endpoint: Endpoint,
    /// For a stream of Gemini's: whether it is a JSON array and no stream of events.
    array: bool,
    read: SharedWriter,
    writer: Option<Box<dyn WriteAnswer>>,
}

/// The writer of the answer, once the request was read for translation.
type SharedWriter = Arc<Mutex<Option<Box<dyn WriteAnswer>>>>;

impl Words {
    /// Those of that endpoint.
    pub fn new(endpoint: Endpoint, array: bool, stamp: Stamp) -> Self {
        Self { stamp, endpoint, array, read: SharedWriter::default(), writer: None }
    }

    /// Reads a request for translation, and keeps the writer that goes with it.
    pub fn reader(&self, content_type: Option<&HeaderValue>) -> ReadInput {
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (endpoint, array, read) = (self.endpoint, self.array, self.read.clone());
        Box::new(move |body| {
            let Asked { input, writer } = asked(endpoint, &content_type, array, body)?;
            *read.lock() = Some(writer);
            Ok(input)
        })
    }

    /// What writes the answer, and what it says of itself.
    pub fn writer(&mut self) -> (&mut dyn WriteAnswer, &Stamp) {
        let Self { stamp, endpoint, array, read, writer } = self;
        let writer =
            writer.get_or_insert_with(|| read.lock().take().unwrap_or_else(|| passing(*endpoint, *array)));
        (writer.as_mut(), stamp)
    }

    /// The media type of a stream; none where the answer has no events.
    pub fn stream_type(&self) -> Option<&'static str> {
        match self.endpoint {
            Endpoint::Speech => None,
            _ if self.array => Some("application/json"),
            _ => Some("text/event-stream; charset=utf-8"),
        }
    }
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
fn passing(endpoint: Endpoint, array: bool) -> Box<dyn WriteAnswer> {
    match endpoint.protocol() {
        Protocol::Anthropic => Box::new(anthropic::server::Writer::default()),
        Protocol::Gemini => gemini::server::writer(framing(array)),
        Protocol::OpenAi if endpoint == Endpoint::Responses => openai::server::responses::passing(),
        Protocol::OpenAi => openai::server::chat::passing(),
    }
}
