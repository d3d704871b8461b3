//! The server's side of Gemini's API: `:generateContent`.

use crate::wire::{Asked, FieldError};

/// Reads a request for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(_body: &[u8]) -> Result<Asked, FieldError> {
    Err(FieldError::new("", "cannot be read yet"))
}
