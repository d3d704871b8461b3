//! What reading an answer has in common, whosever it is.

use crate::balance::{ErrorClass, Failure};
use crate::provider::{classify, redact::Redactor};
use serde::Deserialize;
use serde_json::{Value, json};

/// The failure of an answer that is not the protocol.
pub(crate) fn malformed() -> Failure {
    server_error("the provider's answer is not what its protocol says")
}

/// The failure of an answer with status 200 that cannot be used.
pub(crate) fn server_error(message: &str) -> Failure {
    Failure { http_status: Some(200), ..Failure::new(ErrorClass::ServerError, message) }
}

/// Reads a JSON object. A list is none, though serde takes one for the values of an object in their order.
pub(crate) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Failure> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(malformed());
    }
    serde_json::from_slice(body).map_err(|_| malformed())
}

/// Embeddings that can be used: one a text, each of them finite numbers.
pub(crate) fn vectors(vectors: Vec<Vec<f32>>, count: usize) -> Result<Vec<Vec<f32>>, Failure> {
    if vectors.len() != count {
        return Err(server_error("the provider returned a wrong number of embeddings"));
    }
    let usable = |vector: &Vec<f32>| !vector.is_empty() && vector.iter().all(|number| number.is_finite());
    if !vectors.iter().all(usable) {
        return Err(server_error("the provider returned an embedding that is no vector"));
    }
    Ok(vectors)
}

/// Some servers report an error under status 200, or in the middle of a stream.
pub(crate) fn check_error(error: Option<Value>, redactor: &Redactor) -> Result<(), Failure> {
    error.map_or(Ok(()), |error| Err(classify::of_value(&json!({ "error": error }), redactor)))
}
