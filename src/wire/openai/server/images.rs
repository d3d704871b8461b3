//! `POST /v1/images/generations` (<https://platform.openai.com/docs/api-reference/images/create>).

use crate::wire::{Asked, FieldError};

/// Reads a request for translation. No other protocol has a call for it.
///
/// # Errors
/// Always.
pub fn read(_body: &[u8]) -> Result<Asked, FieldError> {
    Err(FieldError::new("model", "is of a provider whose protocol has no call that makes images"))
}
