//! What a client asks of `POST /v1/messages/count_tokens` (<https://docs.claude.com/en/api/messages-count-tokens>).

use super::{
    object::Object,
    request::{conversation, malformed},
    writer::Writer,
};
use crate::wire::{Asked, FieldError, Input, tree};

/// Reads a request for translation. What is not counted elsewhere, such as thinking, is left out.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8]) -> Result<Asked, FieldError> {
    let mut asked = Object::new(tree::request(body).map_err(|_| malformed())?, "")?;
    let request = conversation(&mut asked)?;
    Ok(Asked { input: Input::CountTokens(Box::new(request)), writer: Box::new(Writer::default()) })
}
