//! What the readers of answers have in common, whoever's the answer is.

use super::{Keys, ProviderError, ReadError, error::is_something};
use serde_json::{Map, Value, json};

/// An error is not longer, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// The error that this JSON is, or that it is not the protocol: for bodies that hold no answer.
pub(super) fn no_answer(body: &[u8]) -> ReadError {
    let value = (body.len() <= MAX_ERROR).then(|| serde_json::from_slice::<Value>(body).ok()).flatten();
    match value.as_ref().and_then(ProviderError::in_place_of_answer) {
        Some(error) => ReadError::Reported(Box::new(error)),
        None => ReadError::MALFORMED,
    }
}

/// Some servers report an error under status 200, or in the middle of a stream. `error` is the value of that key.
pub(super) fn check_error(error: &Value) -> Result<(), ReadError> {
    if is_something(error) { Err(reported(&json!({ "error": error }))) } else { Ok(()) }
}

/// The error that this JSON words.
pub(super) fn reported(error: &Value) -> ReadError {
    ReadError::Reported(Box::new(ProviderError::from_value(error)))
}

/// Adds what a vendor's counts say beside their fields to what an answer hands on. Zeros say nothing there.
pub(super) fn keep_counts(answer: &mut Keys, name: &str, counts: Keys) {
    if counts.is_empty() {
        return;
    }
    let mut counts = Map::from(counts);
    counts.retain(|_, value| says(value));
    if !counts.is_empty() {
        answer.insert(name.to_owned(), counts.into());
    }
}

/// Whether a count says more than nothing.
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(says),
        Value::Object(fields) => fields.values().any(says),
    }
}

/// Embeddings that can be used: one an input, each of them finite numbers.
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
