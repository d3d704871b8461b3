//! The server's side of Gemini's API (<https://ai.google.dev/api/generate-content>): its clients' requests are read, and
//! their answers written.
//!
//! What only Gemini acts on goes on to configs of that kind alone, in the request's `extra`. What would change the answer of
//! another kind's model, and cannot be said to it, is refused. `docs/reference/translation.md` says which is which.

mod answer;
mod config;
mod contents;
mod embeddings;
pub mod error;
mod fields;
mod kind;
pub mod models;
mod request;
mod schema;
mod signature;
mod stream;
#[cfg(test)]
mod tests;

pub use stream::Framing;

use crate::wire::{Asked, ChatEvent, ErrorReport, FieldError, Input, Output, Stamp, WriteAnswer};
use fields::Fields;
#[cfg(test)]
use kind::KIND;
use serde_json::json;
use stream::Answers;

/// Reads a request of `:generateContent` or `:streamGenerateContent` for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8], framing: Framing) -> Result<Asked, FieldError> {
    let chat = request::chat(Fields::read(body)?)?;
    Ok(Asked {
        input: Input::Chat(Box::new(chat.request)),
        writer: Box::new(Answers::new(framing, chat.thoughts)),
    })
}

/// Writes the answer to a chat that is not translated: frames as they came, and errors.
#[must_use]
pub fn writer(framing: Framing) -> Box<dyn WriteAnswer> {
    Box::new(Answers::new(framing, true))
}

/// Reads a request of `:countTokens` (<https://ai.google.dev/api/tokens>): a conversation, or a whole request.
///
/// # Errors
/// As [`read`].
pub fn read_count(body: &[u8]) -> Result<Asked, FieldError> {
    let mut body = Fields::read(body)?;
    let chat = match body.object("generateContentRequest")? {
        Some(request) => {
            body.skip(&["model"]);
            body.end()?;
            request::chat(request)?
        }
        None => request::chat(body)?,
    };
    let write: Write = |output| match output {
        Output::Tokens(count) => json!({ "totalTokens": count }).to_string().into_bytes(),
        _ => error::unexpected(),
    };
    Ok(Asked { input: Input::CountTokens(Box::new(chat.request)), writer: Box::new(Whole(write)) })
}

/// Reads a request of `:embedContent`.
///
/// # Errors
/// As [`read`].
pub fn read_embed(body: &[u8]) -> Result<Asked, FieldError> {
    let request = embeddings::one(Fields::read(body)?)?;
    let write: Write = |output| match output {
        Output::Embeddings(reply) => embeddings::answer(&reply, false),
        _ => error::unexpected(),
    };
    Ok(Asked { input: Input::Embeddings(request), writer: Box::new(Whole(write)) })
}

/// Reads a request of `:batchEmbedContents`.
///
/// # Errors
/// As [`read`].
pub fn read_batch_embed(body: &[u8]) -> Result<Asked, FieldError> {
    let request = embeddings::batch(Fields::read(body)?)?;
    let write: Write = |output| match output {
        Output::Embeddings(reply) => embeddings::answer(&reply, true),
        _ => error::unexpected(),
    };
    Ok(Asked { input: Input::Embeddings(request), writer: Box::new(Whole(write)) })
}

type Write = fn(Output) -> Vec<u8>;

/// Writes an answer that is never a stream.
struct Whole(Write);

impl WriteAnswer for Whole {
    fn whole(&mut self, _stamp: &Stamp, output: Output) -> Vec<u8> {
        (self.0)(output)
    }

    fn event(&mut self, _stamp: &Stamp, _event: ChatEvent, _out: &mut Vec<u8>) {}

    fn frame(&mut self, _name: &str, _data: &[u8], _out: &mut Vec<u8>) {}

    fn end(&mut self, _stamp: &Stamp, _out: &mut Vec<u8>) {}

    fn error(&mut self, _stamp: &Stamp, error: &ErrorReport, out: &mut Vec<u8>) {
        out.extend(error::body(error));
    }

    fn keep_alive(&self) -> &'static [u8] {
        b"\n"
    }
}
