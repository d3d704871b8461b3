//! Errors as OpenAI words them: `{"error": {"message", "type", "param", "code"}}`
//! (<https://platform.openai.com/docs/guides/error-codes>). Its clients choose their class by the status, and programs look
//! at `code`: LangChain for `context_length_exceeded` (`langchain_openai/chat_models/base.py`), others for
//! `insufficient_quota`, which no waiting helps against (<https://github.com/langchain-ai/langchainjs/issues/1929>).

use super::frames::write;
use crate::wire::ErrorReport;
use serde_json::{Value, json};

/// The body of an error.
#[must_use]
pub fn body(report: &ErrorReport) -> Vec<u8> {
    write(&json!({ "error": error(report) }))
}

/// What stands under `error`. Rota's reason stands beside OpenAI's fields.
#[must_use]
pub fn error(report: &ErrorReport) -> Value {
    let (kind, code) = words(report);
    let param = if report.field.is_empty() { Value::Null } else { param(&report.field).into() };
    json!({
        "message": message(&report.message, code),
        "type": kind,
        "param": param,
        "code": if code.is_empty() { Value::Null } else { code.into() },
        "reason": report.reason,
    })
}

/// The code of an error of which OpenAI always tells one.
#[must_use]
pub fn code(report: &ErrorReport) -> &'static str {
    match words(report) {
        (_, "") if report.status < 500 => "invalid_prompt",
        (_, "" | "service_unavailable" | "timeout") => "server_error",
        (_, code) => code,
    }
}

/// The code for a context that is too long.
const TOO_LONG: &str = "context_length_exceeded";

/// LangChain looks for that code in the text of the error, and OpenAI's client puts nothing but the message there.
fn message(message: &str, code: &str) -> String {
    if code == TOO_LONG && !message.contains(TOO_LONG) {
        format!("{message} ({TOO_LONG})")
    } else {
        message.to_owned()
    }
}

/// OpenAI's type and code: by the reason, or else by the status.
fn words(report: &ErrorReport) -> (&'static str, &'static str) {
    const INVALID: &str = "invalid_request_error";
    match report.reason.as_str() {
        "TOKEN_INVALID" => (INVALID, "invalid_api_key"),
        "MODEL_NOT_FOUND" | "PROVIDER_NOT_FOUND" | "UPSTREAM_MODEL_UNAVAILABLE" => {
            (INVALID, "model_not_found")
        }
        "UPSTREAM_CONTEXT_TOO_LONG" => (INVALID, TOO_LONG),
        "UPSTREAM_CONTENT_FILTERED" => (INVALID, "content_filter"),
        "UPSTREAM_QUOTA_EXHAUSTED" => ("insufficient_quota", "insufficient_quota"),
        _ => match report.status {
            401 => ("authentication_error", ""),
            403 => ("permission_error", ""),
            404 => (INVALID, ""),
            // OpenAI says whose limit it is, `requests` or `tokens`. Rota's may be neither.
            429 => ("rate_limit_error", "rate_limit_exceeded"),
            400..=499 => (INVALID, ""),
            503 => ("server_error", "service_unavailable"),
            504 => ("server_error", "timeout"),
            _ => ("server_error", ""),
        },
    }
}

/// The field as OpenAI names it, where a driver has named it in the contract's words.
fn param(field: &str) -> String {
    let field = field.strip_prefix("parameters.").unwrap_or(field);
    for name in ["token_arrays", "contents", "texts"] {
        if let Some(place) =
            field.strip_prefix(name).filter(|place| place.is_empty() || place.starts_with('['))
        {
            return format!("input{place}");
        }
    }
    field.replace(".parts", ".content")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_what_openais_clients_read() {
        let read = |status: u16, reason: &str, field: &str| {
            let report = ErrorReport {
                status,
                reason: reason.into(),
                message: "a \"word\"".into(),
                field: field.into(),
                ..ErrorReport::default()
            };
            serde_json::from_slice::<Value>(&body(&report)).unwrap()["error"].clone()
        };
        let expected = json!({
            "message": "a \"word\"", "type": "invalid_request_error", "param": "messages[2].content[0]", "code": null,
            "reason": "INVALID_FIELD",
        });
        assert_eq!(read(400, "INVALID_FIELD", "messages[2].parts[0]"), expected);
        let table = [
            (401, "TOKEN_INVALID", "invalid_request_error", json!("invalid_api_key")),
            (403, "ROLE_NOT_ALLOWED", "permission_error", Value::Null),
            (404, "MODEL_NOT_FOUND", "invalid_request_error", json!("model_not_found")),
            (400, "UPSTREAM_CONTEXT_TOO_LONG", "invalid_request_error", json!("context_length_exceeded")),
            (400, "UPSTREAM_CONTENT_FILTERED", "invalid_request_error", json!("content_filter")),
            (429, "UPSTREAM_QUOTA_EXHAUSTED", "insufficient_quota", json!("insufficient_quota")),
            (429, "UPSTREAM_RATE_LIMITED", "rate_limit_error", json!("rate_limit_exceeded")),
            (503, "OVERLOADED", "server_error", json!("service_unavailable")),
            (504, "UPSTREAM_TIMEOUT", "server_error", json!("timeout")),
            (500, "INTERNAL", "server_error", Value::Null),
        ];
        for (status, reason, kind, code) in table {
            let error = read(status, reason, "");
            assert_eq!(
                (&error["type"], &error["code"], &error["param"]),
                (&json!(kind), &code, &Value::Null)
            );
        }
    }

    #[test]
    fn who_looks_for_the_code_in_the_message_finds_it() {
        assert_eq!(message("too long", TOO_LONG), "too long (context_length_exceeded)");
        assert_eq!(message("context_length_exceeded: 9", TOO_LONG), "context_length_exceeded: 9");
        assert_eq!(message("slow down", "rate_limit_exceeded"), "slow down");
    }

    #[test]
    fn a_field_has_openais_name() {
        for (theirs, ours) in [
            ("parameters.n", "n"),
            ("messages[0].parts[1]", "messages[0].content[1]"),
            ("messages[0].parts", "messages[0].content"),
            ("messages[0].tool_calls[0].function.arguments", "messages[0].tool_calls[0].function.arguments"),
            ("contents[3]", "input[3]"),
            ("token_arrays", "input"),
            ("textsy", "textsy"),
        ] {
            assert_eq!(param(theirs), ours);
        }
    }
}
