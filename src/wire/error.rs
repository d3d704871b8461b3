//! What can be wrong with what a provider sends, as data: nobody here decides what it means for the provider.

use super::retry_after::retry_delay;
use serde_json::Value;
use std::time::Duration;

/// Why an answer, or a stream of one, cannot be read as what its protocol says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// It is not what the protocol says. The text says what is wrong, and holds nothing of the answer.
    Malformed(&'static str),
    /// The provider reports an error in place of the answer, or in the middle of it.
    Reported(Box<ProviderError>),
    /// The stream ends before the provider has said that it is done.
    EndedEarly,
    /// One frame of the stream is larger than its reader holds.
    TooLarge,
}

impl ReadError {
    /// For what is plainly another protocol.
    pub const MALFORMED: Self = Self::Malformed("the provider's answer is not what its protocol says");

    /// An error that the protocol reports in a field of its own, such as a finish reason.
    pub(super) fn reported(code: &str, message: impl Into<String>) -> Self {
        let error = ProviderError {
            code: code.to_owned(),
            message: Some(message.into()),
            ..ProviderError::default()
        };
        Self::Reported(Box::new(error))
    }
}

/// A request that cannot be written in a provider's protocol. The text says why, and callers see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WriteError(pub String);

impl WriteError {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// An error as a provider words it, in whichever of the common shapes. Empty strings mean "not there". None of its
/// texts may be shown to anybody before secrets are taken out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderError {
    /// The error's `code`; a number in decimal.
    pub code: String,
    /// Its `type`.
    pub kind: String,
    /// The name of a [`google.rpc.Code`](https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto).
    pub status: String,
    /// What the details of a [`google.rpc.Status`](https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto)
    /// call it.
    pub reasons: Vec<String>,
    /// How long the body asks callers to stay away.
    pub retry_after: Option<Duration>,
    /// The provider's own words.
    pub message: Option<String>,
}

/// Is the reason of a violated quota by the day, as Gemini's `GenerateRequestsPerDayPerProjectPerModel`
/// (<https://ai.google.dev/gemini-api/docs/rate-limits>). All its limits are 429 `RESOURCE_EXHAUSTED`; those by the minute
/// are over soon.
pub const DAILY_QUOTA: &str = "PerDay";

impl ProviderError {
    /// Reads an error's body. One that is no JSON is the message itself, unless it is a page of HTML.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            return Self::from_value(&value);
        }
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        // A proxy's HTML page explains nothing that its status does not.
        let message = (!text.is_empty() && !text.starts_with('<')).then(|| text.to_owned());
        Self { message, ..Self::default() }
    }

    /// Takes `{"error": {…}}`, `{"error": "…"}`, `[{"error": …}]` (Gemini), `{"message": …}` and `{"detail": …}`
    /// (FastAPI: a text, or a list of objects with `msg`).
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let value = value.get(0).unwrap_or(value);
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let text = |name: &str| error.get(name).or_else(|| value.get(name)).map(as_text).unwrap_or_default();
        let message = [error.as_str().unwrap_or_default().to_owned(), text("message"), text("detail")];
        let details = || error.get("details").and_then(Value::as_array).into_iter().flatten();
        let delays = details().filter_map(|detail| detail.get("retryDelay")?.as_str());
        Self {
            code: text("code"),
            kind: text("type"),
            status: text("status"),
            reasons: details().flat_map(reasons).collect(),
            retry_after: delays.filter_map(retry_delay).max(),
            message: message.into_iter().find(|message| !message.is_empty()),
        }
    }

    /// The HTTP status that the code stands for, as OpenRouter sends it inside a stream
    /// (<https://openrouter.ai/docs/api-reference/errors>).
    #[must_use]
    pub fn status_in_code(&self) -> Option<u16> {
        self.code.parse().ok().filter(|code| (400..600).contains(code))
    }
}

/// What one detail of `google.rpc.Status` says: an `ErrorInfo` its reason, a `QuotaFailure` whether a quota is by the day.
fn reasons(detail: &Value) -> Vec<String> {
    let violations = detail.get("violations").and_then(Value::as_array).into_iter().flatten();
    let quotas = violations.filter_map(|violation| violation.get("quotaId")?.as_str());
    let daily = quotas.filter(|id| id.contains(DAILY_QUOTA)).map(|_| DAILY_QUOTA.to_owned());
    detail.get("reason").map(as_text).into_iter().chain(daily).collect()
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => {
            let texts = items.iter().map(|item| as_text(item.get("msg").unwrap_or(item)));
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_from_every_common_shape() {
        let table = [
            (r#"{"error":{"message":"one"}}"#, Some("one")),
            (r#"{"error":"two"}"#, Some("two")),
            (r#"{"message":"three"}"#, Some("three")),
            (r#"{"detail":"four"}"#, Some("four")),
            (r#"{"detail":[{"loc":["body"],"msg":"five"},{"msg":"six"}]}"#, Some("five; six")),
            (r#"[{"error":{"code":400,"message":"seven"}}]"#, Some("seven")),
            ("eight\r\n", Some("eight")),
            ("<html>nine</html>", None),
            ("{}", None),
            ("", None),
        ];
        for (body, message) in table {
            assert_eq!(ProviderError::read(body.as_bytes()).message.as_deref(), message, "{body}");
        }
    }
}
