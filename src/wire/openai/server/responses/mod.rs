//! `POST /v1/responses` (API reference, "Create a response": <https://platform.openai.com/docs/api-reference/responses/create>),
//! for providers that do not have it. Pure.
//!
//! - `request`: the fields of the request in the words that every driver knows, which are those of chat completions.
//! - `field`: what this API calls a field.
//! - `items`: the conversation, which is a list of items here and a list of messages there.
//! - `sealed`: what a provider needs back of its reasoning, on its way through the client.
//! - `pieces`: what an answer says, put in such an order that no two of its items are interleaved.
//! - `told`: the items of an answer, as they grow.
//! - `answer`: the whole answer and the events of a stream.
//! - `passed`: what must be known of a stream that another has written, so that it can be gone on with.
//!
//! What lives at one account is refused by its name: responses that were stored, conversations, prompts, files. So is what
//! the provider would have to run.

mod answer;
mod field;
mod items;
mod passed;
mod pieces;
mod request;
mod sealed;
#[cfg(test)]
mod tests;
mod told;

use crate::wire::{Asked, FieldError, Input, WriteAnswer};
use answer::Writer;

pub use field::field;

/// Reads a request for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8]) -> Result<Asked, FieldError> {
    let (chat, echo) = request::read(body)?;
    Ok(Asked { input: Input::Chat(Box::new(chat)), writer: Box::new(Writer::new(echo)) })
}

/// Writes the answer to a request that is not read, because it goes to a provider that has this API.
#[must_use]
pub fn passing() -> Box<dyn WriteAnswer> {
    Box::new(Writer::new(request::Echo::default()))
}
