//! Errors in OpenAI's form (<https://platform.openai.com/docs/guides/error-codes/api-errors>).

use crate::wire::ErrorReport;
use serde_json::{Value, json};

/// Reasons that OpenAI has a code of its own for. Clients act on them: they wait, they shorten the conversation, or they
/// give up (<https://github.com/openai/codex>, `codex-api/src/sse/responses.rs`).
const CODES: &[(&str, &str)] = &[
    ("UPSTREAM_RATE_LIMITED", "rate_limit_exceeded"),
    ("ALL_CONFIGS_COOLING_DOWN", "rate_limit_exceeded"),
    ("UPSTREAM_QUOTA_EXHAUSTED", "insufficient_quota"),
    ("UPSTREAM_CONTEXT_TOO_LONG", "context_length_exceeded"),
    ("UPSTREAM_CONTENT_FILTERED", "content_filter"),
    ("MODEL_NOT_FOUND", "model_not_found"),
    ("TOKEN_INVALID", "invalid_api_key"),
];

/// What stands under `error`.
#[must_use]
pub fn error(report: &ErrorReport) -> Value {
    let param = (!report.field.is_empty()).then_some(&report.field);
    json!({"message": report.message, "type": kind(report.status), "param": param, "code": code(report)})
}

/// Its `code`.
#[must_use]
pub fn code(report: &ErrorReport) -> String {
    // Under another status it is not a limit that the caller has met.
    let known = CODES.iter().filter(|(_, code)| *code != "rate_limit_exceeded" || report.status == 429);
    let known = known.clone().find(|(reason, _)| *reason == report.reason);
    match known {
        Some((_, code)) => (*code).to_owned(),
        None if report.status >= 500 => "server_error".to_owned(),
        None => report.reason.to_ascii_lowercase(),
    }
}

const fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_know_the_codes() {
        let report = |status, reason: &str, field: &str| ErrorReport {
            status,
            reason: reason.into(),
            message: "m".into(),
            field: field.into(),
        };
        let table = [
            (429, "UPSTREAM_RATE_LIMITED", "", "rate_limit_error", "rate_limit_exceeded"),
            (429, "UPSTREAM_QUOTA_EXHAUSTED", "", "rate_limit_error", "insufficient_quota"),
            (503, "ALL_CONFIGS_COOLING_DOWN", "", "server_error", "server_error"),
            (400, "UPSTREAM_CONTEXT_TOO_LONG", "", "invalid_request_error", "context_length_exceeded"),
            (400, "INVALID_FIELD", "input[0].type", "invalid_request_error", "invalid_field"),
            (401, "TOKEN_INVALID", "", "authentication_error", "invalid_api_key"),
            (403, "ROLE_NOT_ALLOWED", "", "permission_error", "role_not_allowed"),
            (502, "UPSTREAM_CONNECTION", "", "server_error", "server_error"),
        ];
        for (status, reason, field, kind, code) in table {
            let param = (!field.is_empty()).then_some(field);
            let expected = json!({"message": "m", "type": kind, "param": param, "code": code});
            assert_eq!(error(&report(status, reason, field)), expected);
        }
    }
}
