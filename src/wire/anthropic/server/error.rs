//! Errors as Anthropic words them (<https://platform.claude.com/docs/en/api/errors>).

use crate::wire::ErrorReport;
use serde_json::{Value, json};

/// The status for an error that would have this one elsewhere. Anthropic says 529 where others say 503: its SDKs and agents
/// know it for a server that has too much to do.
#[must_use]
pub const fn status(status: u16) -> u16 {
    if status == 503 { 529 } else { status }
}

/// The body of an answer that is an error, to the request with that id.
#[must_use]
pub fn body(error: &ErrorReport, request_id: &str) -> Vec<u8> {
    let mut value = value(error);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("request_id".into(), request_id.into());
    }
    value.to_string().into_bytes()
}

/// An error as JSON, which is also the data of an `error` event in a stream.
pub(super) fn value(error: &ErrorReport) -> Value {
    json!({"type": "error", "error": {"type": kind(error.status), "message": message(error)}})
}

/// The page has a type for each status, and says that other statuses of 4xx are of the first.
const fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn message(error: &ErrorReport) -> String {
    const TOO_LONG: &str = "prompt is too long";
    // Coding agents know these words, and shorten the conversation. By others they do not go on
    // (<https://github.com/Yeachan-Heo/oh-my-claudecode/issues/3574>).
    if error.reason == "UPSTREAM_CONTEXT_TOO_LONG" && !error.message.to_ascii_lowercase().contains(TOO_LONG) {
        return format!("{TOO_LONG}: {}", error.message);
    }
    if error.field.is_empty() {
        return error.message.clone();
    }
    let field = field(&error.field);
    let message = error.message.replace(&error.field, &field);
    if message.contains(&field) { message } else { format!("{field}: {message}") }
}

/// A field as the client has it, where another kind of provider cannot be told it: that is found in the house's words. The
/// house counts messages in another way.
fn field(named: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
        ("reasoning_effort", "thinking"),
        ("response_format", "output_config.format"),
        ("max_completion_tokens", "max_tokens"),
        ("stop", "stop_sequences"),
        ("user", "metadata.user_id"),
    ];
    if let Some(name) = named.strip_prefix("parameters.") {
        let theirs = NAMES.iter().find(|(ours, _)| *ours == name).map_or(name, |(_, theirs)| *theirs);
        return theirs.to_owned();
    }
    let is_ours =
        named.starts_with("messages[") && [".parts", ".tool_calls"].iter().any(|part| named.contains(part));
    if is_ours { "messages".to_owned() } else { named.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: u16, reason: &str, message: &str, field: &str) -> ErrorReport {
        ErrorReport {
            status,
            reason: reason.into(),
            message: message.into(),
            field: field.into(),
            ..ErrorReport::default()
        }
    }

    #[test]
    fn each_status_has_its_type() {
        let table = [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (405, "invalid_request_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
        ];
        for (status, kind) in table {
            assert_eq!(value(&report(status, "X", "m", ""))["error"]["type"], kind, "{status}");
        }
        assert_eq!([status(503), status(429), status(502)], [529, 429, 502]);
    }

    #[test]
    fn an_error_says_what_is_wrong_with_what() {
        let error = report(400, "INVALID_FIELD", "must be text", "messages[0].content");
        let expected = r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages[0].content: must be text"},"request_id":"r1"}"#;
        assert_eq!(body(&error, "r1"), expected.as_bytes());
        let said = report(400, "INVALID_FIELD", "messages[0].content must be text", "messages[0].content");
        let expected = r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages[0].content must be text"},"request_id":"r1"}"#;
        assert_eq!(body(&said, "r1"), expected.as_bytes());
    }

    #[test]
    fn what_others_cannot_be_told_has_the_clients_name() {
        let table = [
            ("parameters.parallel_tool_calls", "tool_choice.disable_parallel_tool_use: no"),
            ("parameters.logit_bias", "logit_bias: no"),
            ("messages[2].parts[0]", "messages: no"),
            ("messages[2].tool_calls[0].function.arguments", "messages: no"),
            ("messages[2].content[0].source.data", "messages[2].content[0].source.data: no"),
        ];
        for (named, expected) in table {
            for message in ["no".to_owned(), format!("{named}: no")] {
                let error = report(400, "INVALID_FIELD", &message, named);
                assert_eq!(value(&error)["error"]["message"], expected);
            }
        }
    }

    #[test]
    fn agents_are_told_when_to_shorten_the_conversation() {
        let words = |message: &str| {
            let error = report(400, "UPSTREAM_CONTEXT_TOO_LONG", message, "");
            value(&error)["error"]["message"].as_str().unwrap().to_owned()
        };
        assert_eq!(words("your input exceeds"), "prompt is too long: your input exceeds");
        assert_eq!(words("Prompt is too long: 9 > 8"), "Prompt is too long: 9 > 8");
    }
}
