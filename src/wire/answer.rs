//! What the readers of answers have in common, whoever's the answer is.

use super::{ProviderError, ReadError};
use serde::Deserialize;
use serde_json::{Value, json};

/// Reads a JSON object. A list is none, though serde takes one for the values of an object in their order.
pub(super) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ReadError> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(ReadError::MALFORMED);
    }
    serde_json::from_slice(body).map_err(|_| ReadError::MALFORMED)
}

/// Embeddings that can be used: one a text, each of them finite numbers.
pub(super) fn vectors(vectors: Vec<Vec<f32>>, count: usize) -> Result<Vec<Vec<f32>>, ReadError> {
    if vectors.len() != count {
        return Err(ReadError::Malformed("the provider returned a wrong number of embeddings"));
    }
    let usable = |vector: &Vec<f32>| !vector.is_empty() && vector.iter().all(|number| number.is_finite());
    if !vectors.iter().all(usable) {
        return Err(ReadError::Malformed("the provider returned an embedding that is no vector"));
    }
    Ok(vectors)
}

/// Some servers report an error under status 200, or in the middle of a stream.
pub(super) fn check_error(error: Option<Value>) -> Result<(), ReadError> {
    error.map_or(Ok(()), |error| Err(reported(&json!({ "error": error }))))
}

/// The error that this JSON words.
pub(super) fn reported(error: &Value) -> ReadError {
    ReadError::Reported(Box::new(ProviderError::from_value(error)))
}
