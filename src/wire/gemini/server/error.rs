//! Errors as Google's APIs word them (<https://google.aip.dev/193>, <https://ai.google.dev/gemini-api/docs/troubleshooting>).

use crate::wire::ErrorReport;
use serde_json::{Value, json};
use std::time::Duration;

/// Whose reasons they are.
const DOMAIN: &str = "rota";

/// The name of a status (<https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>, "HTTP Mapping").
fn status(http: u16) -> &'static str {
    match http {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

/// The body of an answer that is an error.
#[must_use]
pub fn body(error: &ErrorReport) -> Vec<u8> {
    value(error).to_string().into_bytes()
}

/// An error with its details
/// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto>).
fn value(error: &ErrorReport) -> Value {
    let mut details = Vec::new();
    if !error.reason.is_empty() {
        details.push(detail("ErrorInfo", json!({"reason": error.reason, "domain": DOMAIN})));
    }
    if !error.field.is_empty() {
        let violation = json!({"field": error.field, "description": error.message});
        details.push(detail("BadRequest", json!({"fieldViolations": [violation]})));
    }
    if let Some(delay) = error.retry_after {
        details.push(detail("RetryInfo", json!({"retryDelay": seconds(delay)})));
    }
    json!({"error": {
        "code": error.status, "message": error.message, "status": status(error.status), "details": details,
    }})
}

fn detail(name: &str, mut fields: Value) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        let kind = format!("type.googleapis.com/google.rpc.{name}");
        fields.shift_insert(0, "@type".into(), kind.into());
    }
    fields
}

/// `1.5s` (<https://protobuf.dev/programming-guides/json/>, Duration).
fn seconds(delay: Duration) -> String {
    if delay.subsec_millis() == 0 {
        return format!("{}s", delay.as_secs());
    }
    format!("{}.{:03}s", delay.as_secs(), delay.subsec_millis())
}

/// What comes of an output of another sort. The engine gives none.
pub(super) fn unexpected() -> Vec<u8> {
    let message = "the answer is of another sort than what was asked for".to_owned();
    body(&ErrorReport { status: 500, reason: "INTERNAL".into(), message, ..ErrorReport::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ProviderError;

    fn report(status: u16, field: &str) -> ErrorReport {
        ErrorReport {
            status,
            reason: "NO_GOOD".into(),
            message: "no".into(),
            field: field.into(),
            ..ErrorReport::default()
        }
    }

    #[test]
    fn an_error_is_written_as_google_does() {
        let expected = json!({"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT", "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "NO_GOOD", "domain": "rota"},
            {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "tools[0]", "description": "no"}]},
        ]}});
        assert_eq!(body(&report(400, "tools[0]")), expected.to_string().into_bytes());
        let waits = value(&ErrorReport { retry_after: Some(Duration::from_millis(1500)), ..report(429, "") });
        assert_eq!(
            waits["error"]["details"][1],
            json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"})
        );
        // It means the same to the reader of such errors.
        let read = ProviderError::from_value(&waits);
        assert_eq!((read.status.as_str(), read.code.as_str()), ("RESOURCE_EXHAUSTED", "429"));
        assert_eq!(
            (read.retry_after, read.reasons),
            (Some(Duration::from_millis(1500)), vec!["NO_GOOD".to_owned()])
        );
    }

    #[test]
    fn every_status_has_googles_name() {
        let table = [
            (400, "INVALID_ARGUMENT"),
            (401, "UNAUTHENTICATED"),
            (403, "PERMISSION_DENIED"),
            (404, "NOT_FOUND"),
            (409, "ABORTED"),
            (413, "INVALID_ARGUMENT"),
            (429, "RESOURCE_EXHAUSTED"),
            (499, "CANCELLED"),
            (500, "INTERNAL"),
            (501, "UNIMPLEMENTED"),
            (502, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "DEADLINE_EXCEEDED"),
            (529, "INTERNAL"),
        ];
        for (http, name) in table {
            assert_eq!(value(&report(http, ""))["error"]["status"], name, "{http}");
        }
    }
}
