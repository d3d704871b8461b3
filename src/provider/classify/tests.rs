//! What errors mean: the shapes they come in, and the rows that hold for every kind.

mod echoes;
mod rows;

use super::*;
use crate::{
    provider::fixtures::classifier,
    wire::{ReadFrames, anthropic, cohere, fixtures::items, gemini},
};
use ErrorClass::*;
use serde_json::{Value, json};
use std::time::Duration;

/// An answer without success of a provider of that kind.
fn answer(kind: &str, status: u16, body: &str) -> Failure {
    let status = StatusCode::from_u16(status).unwrap();
    classifier(kind).answer(status, &HeaderMap::new(), body.as_bytes(), SystemTime::UNIX_EPOCH)
}

/// An error inside an answer of a provider of that kind.
fn inside(kind: &str, body: &str) -> Failure {
    classifier(kind).unread(ReadError::Reported(Box::new(ProviderError::read(body.as_bytes()))))
}

/// The failure with which a stream begins.
fn streamed(kind: &str, frames: impl ReadFrames, text: &str) -> Failure {
    let mut items = items(frames, &[text.as_bytes()]);
    assert_eq!(items.len(), 1, "{text}");
    classifier(kind).unread(items.pop().unwrap().unwrap_err())
}

#[test]
fn statuses_and_codes_have_classes() {
    let coded = |code: &str| format!(r#"{{"error":{{"message":"m","type":"t","code":"{code}"}}}}"#);
    let typed = |kind: &str| format!(r#"{{"error":{{"message":"m","type":"{kind}","code":null}}}}"#);
    let table = [
        (401, String::new(), Authentication),
        (403, String::new(), ModelUnavailable),
        (403, coded("invalid_api_key"), Authentication),
        (403, coded("unsupported_country_region_territory"), ModelUnavailable),
        (400, coded("invalid_api_key"), Authentication),
        (402, String::new(), QuotaExhausted),
        (429, String::new(), RateLimited),
        (429, coded("rate_limit_exceeded"), RateLimited),
        (429, coded("insufficient_quota"), QuotaExhausted),
        (429, typed("insufficient_quota"), QuotaExhausted),
        (400, coded("billing_hard_limit_reached"), QuotaExhausted),
        (429, coded("billing_not_active"), QuotaExhausted),
        (403, coded("insufficient_quota"), QuotaExhausted),
        (500, coded("insufficient_quota"), QuotaExhausted),
        (404, String::new(), ModelUnavailable),
        (410, String::new(), ModelUnavailable),
        (400, coded("model_not_found"), ModelUnavailable),
        (408, String::new(), Timeout),
        (504, String::new(), Timeout),
        (500, String::new(), ServerError),
        (502, "<html>Bad Gateway</html>".to_owned(), ServerError),
        (503, coded("invalid_api_key"), ServerError),
        (529, typed("overloaded_error"), ServerError),
        (400, String::new(), BadRequest),
        (400, typed("invalid_request_error"), BadRequest),
        (400, coded("context_length_exceeded"), ContextTooLong),
        (451, String::new(), ContentFiltered),
        (400, coded("content_filter"), ContentFiltered),
        (400, coded("content_policy_violation"), ContentFiltered),
        (413, String::new(), BadRequest),
        (415, String::new(), BadRequest),
        (422, String::new(), BadRequest),
        (400, typed("no_db_connection"), Authentication),
        (498, coded("capacity_exceeded"), RateLimited),
        (498, typed("capacity_exceeded"), RateLimited),
        (301, coded("invalid_api_key"), ServerError),
        (307, String::new(), ServerError),
    ];
    for (status, body, class) in table {
        let failure = answer("openai_compatible", status, &body);
        assert_eq!(failure.class, class, "{status} {body}");
        assert_eq!(failure.http_status, Some(status));
        assert!(!failure.message.is_empty(), "{status} {body}");
    }
}

#[test]
fn anthropics_errors_have_classes() {
    let table = [
        (400, "invalid_request_error", "messages: at least one is required", BadRequest),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API.",
            QuotaExhausted,
        ),
        (400, "invalid_request_error", "You have reached your specified API usage limits.", QuotaExhausted),
        (
            400,
            "invalid_request_error",
            "You have reached your specified workspace API usage limits.",
            QuotaExhausted,
        ),
        // The words of a request that comes back.
        (400, "invalid_request_error", "tools.0: \"Your credit balance is too low\"", BadRequest),
        (401, "authentication_error", "invalid x-api-key", Authentication),
        (402, "billing_error", "m", QuotaExhausted),
        (403, "permission_error", "m", ModelUnavailable),
        (404, "not_found_error", "model: x", ModelUnavailable),
        (409, "conflict_error", "m", BadRequest),
        (413, "request_too_large", "m", BadRequest),
        (429, "rate_limit_error", "m", RateLimited),
        (500, "api_error", "m", ServerError),
        (504, "timeout_error", "m", Timeout),
        (529, "overloaded_error", "Overloaded", ServerError),
    ];
    for (status, kind, message, class) in table {
        let body = serde_json::json!({
            "type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1",
        });
        let failure = answer("anthropic", status, &body.to_string());
        assert_eq!((failure.class, failure.message.as_str()), (class, message), "{status} {kind}");
    }
}

#[test]
fn coheres_errors_have_classes() {
    let table = [
        (400, "invalid request: list of documents must not be empty", BadRequest),
        (400, "finetuned model with name xyz is not ready for serving", ModelUnavailable),
        (401, "invalid api token", Authentication),
        (401, "Your API key has expired.", Authentication),
        (402, "Please add or update your payment method", QuotaExhausted),
        (403, "forbidden", ModelUnavailable),
        (404, "model 'xyz' not found, make sure the correct model ID was used", ModelUnavailable),
        (422, "your request resulted in an invalid tool generation", BadRequest),
        (429, "You are past the per minute request limit, please wait and try again later.", RateLimited),
        (429, "You are using a Trial key, which is limited to 40 API calls / minute.", RateLimited),
        (429, "You are using a Trial key, which is limited to 1000 API calls / month.", QuotaExhausted),
        (429, "trial token rate limit exceeded, limit is 100000 tokens per minute", RateLimited),
        (498, "m", ContentFiltered),
        (499, "request cancelled", ServerError),
        (500, "m", ServerError),
        (501, "m", ServerError),
        (503, "m", ServerError),
        (504, "m", Timeout),
    ];
    for (status, message, class) in table {
        for body in [
            serde_json::json!({"message": message}),
            serde_json::json!({"id": "24e32f6d", "message": message}),
        ] {
            let failure = answer("cohere", status, &body.to_string());
            assert_eq!((failure.class, failure.message.as_str()), (class, message), "{status}");
        }
    }
}

#[test]
fn geminis_errors_have_classes() {
    let info = |reason: &str| json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason});
    let quota = |ids: &[&str]| {
        let violations: Vec<Value> = ids.iter().map(|id| json!({"quotaId": id})).collect();
        json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations})
    };
    let minute = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier";
    let day = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
    let table = [
        (400, "INVALID_ARGUMENT", "m", vec![], BadRequest),
        (400, "INVALID_ARGUMENT", "API key not valid.", vec![info("API_KEY_INVALID")], Authentication),
        (400, "FAILED_PRECONDITION", "The File x is not in an ACTIVE state", vec![], BadRequest),
        (
            400,
            "FAILED_PRECONDITION",
            "Gemini API free tier is not available in your country. Please enable billing on your project in Google \
             AI Studio.",
            vec![],
            QuotaExhausted,
        ),
        (
            400,
            "FAILED_PRECONDITION",
            "User location is not supported for the API use.",
            vec![],
            ModelUnavailable,
        ),
        (402, "RESOURCE_EXHAUSTED", "m", vec![], QuotaExhausted),
        (403, "PERMISSION_DENIED", "m", vec![], ModelUnavailable),
        (
            403,
            "PERMISSION_DENIED",
            "Your API key was reported as leaked. Please use another API key.",
            vec![],
            Authentication,
        ),
        (403, "PERMISSION_DENIED", "m", vec![info("SERVICE_DISABLED")], Authentication),
        (403, "PERMISSION_DENIED", "m", vec![info("API_KEY_SERVICE_BLOCKED")], Authentication),
        (403, "PERMISSION_DENIED", "m", vec![info("CONSUMER_SUSPENDED")], Authentication),
        (403, "PERMISSION_DENIED", "m", vec![info("BILLING_DISABLED")], QuotaExhausted),
        (404, "NOT_FOUND", "models/x is not found", vec![], ModelUnavailable),
        (429, "RESOURCE_EXHAUSTED", "m", vec![], RateLimited),
        (429, "RESOURCE_EXHAUSTED", "m", vec![quota(&[minute])], RateLimited),
        (429, "RESOURCE_EXHAUSTED", "m", vec![quota(&[minute, day])], QuotaExhausted),
        (500, "INTERNAL", "m", vec![], ServerError),
        (503, "UNAVAILABLE", "The model is overloaded.", vec![], ServerError),
        (504, "DEADLINE_EXCEEDED", "m", vec![], Timeout),
    ];
    for (status, name, message, details, class) in table {
        let error = json!({
            "error": {"code": status, "message": message, "status": name, "details": details},
        });
        for body in [&error, &json!([error])] {
            let failure = answer("gemini", status, &body.to_string());
            assert_eq!((failure.class, failure.message.as_str()), (class, message), "{body}");
            let failure = inside("gemini", &body.to_string());
            assert_eq!((failure.class, failure.http_status), (class, Some(status)), "{body}");
        }
    }
}

#[test]
fn the_body_says_how_long_to_wait_where_no_header_does() {
    let body = |delay: &str| {
        let info = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay});
        json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{}, null, info]}})
    };
    let table = [
        ("38s", Some(38_000)),
        ("38.5s", Some(38_500)),
        ("999999s", Some(86_400_000)),
        ("0s", None),
        ("-1s", None),
        ("soon", None),
        ("", None),
    ];
    for (delay, millis) in table {
        let expected = millis.map(Duration::from_millis);
        assert_eq!(answer("gemini", 429, &body(delay).to_string()).retry_after, expected, "{delay}");
        assert_eq!(inside("gemini", &body(delay).to_string()).retry_after, expected, "{delay}");
    }
    let headers = [(http::header::RETRY_AFTER, "3".parse().unwrap())].into_iter().collect();
    let bytes = body("38s").to_string();
    let status = StatusCode::TOO_MANY_REQUESTS;
    let failure = classifier("gemini").answer(status, &headers, bytes.as_bytes(), SystemTime::UNIX_EPOCH);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
}

#[test]
fn a_message_is_the_providers_own_without_secrets_or_says_the_status() {
    let table = [
        (r#"{"error":{"message":"one"}}"#, "one"),
        ("<html>nine</html>", "the provider answered with status 400"),
        ("{}", "the provider answered with status 400"),
        ("", "the provider answered with status 400"),
        ("\"text\"", "text"),
        (r#"{"error":{"message":"key hunter2hunter2"}}"#, "key [removed]"),
        ("key hunter2hunter2", "key [removed]"),
    ];
    for (body, message) in table {
        assert_eq!(answer("openai", 400, body).message, message, "{body}");
    }
    assert_eq!(answer("openai", 302, "moved to hunter2hunter2").message, "redirects are not followed");
}

#[test]
fn errors_inside_answers_are_classified() {
    let table = [
        (r#"{"error":{"message":"m","code":429}}"#, RateLimited, 429),
        (r#"{"error":{"message":"m","code":"503"}}"#, ServerError, 503),
        (r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#, RateLimited, 200),
        (r#"{"error":{"message":"m","type":"invalid_request_error"}}"#, BadRequest, 200),
        (
            r#"{"error":{"message":"m","type":"invalid_request_error","code":"invalid_api_key"}}"#,
            Authentication,
            200,
        ),
        (r#"{"error":{"message":"m","code":"content_filter"}}"#, ContentFiltered, 200),
        (r#"{"error":{"type":"insufficient_quota"}}"#, QuotaExhausted, 200),
        (r#"{"error":{"type":"overloaded_error"}}"#, ServerError, 200),
        (r#"{"error":"m"}"#, ServerError, 200),
        (r#"{"message":"m"}"#, ServerError, 200),
        (
            r#"{"message":"You are using a Trial key, which is limited to 40 API calls / minute."}"#,
            RateLimited,
            200,
        ),
        (r#"{"message":"You are past the per minute request limit, please wait."}"#, RateLimited, 200),
        (
            r#"{"message":"trial token rate limit exceeded, limit is 100000 tokens per minute"}"#,
            RateLimited,
            200,
        ),
    ];
    for (body, class, status) in table {
        let failure = inside("openai_compatible", body);
        assert_eq!((failure.class, failure.http_status), (class, Some(status)), "{body}");
    }
}

#[test]
fn hints_are_taken_along() {
    let headers = [(http::header::RETRY_AFTER, "3".parse().unwrap())].into_iter().collect();
    let failure = classifier("openai_compatible").answer(
        StatusCode::SERVICE_UNAVAILABLE,
        &headers,
        b"",
        SystemTime::UNIX_EPOCH,
    );
    assert_eq!(failure.retry_after, Some(std::time::Duration::from_secs(3)));
}

#[test]
fn anthropics_errors_in_streams_have_classes() {
    let table = [
        ("overloaded_error", ServerError),
        ("api_error", ServerError),
        ("rate_limit_error", RateLimited),
        ("invalid_request_error", BadRequest),
        ("request_too_large", BadRequest),
        ("authentication_error", Authentication),
        ("permission_error", ModelUnavailable),
        ("not_found_error", ModelUnavailable),
        ("billing_error", QuotaExhausted),
        ("timeout_error", Timeout),
    ];
    for (kind, class) in table {
        let error = json!({"type": "error", "error": {"type": kind, "message": "no, hunter2hunter2"}});
        for name in ["event: error\n", ""] {
            let text = format!("{name}data: {error}\n\n");
            let failure = streamed("anthropic", anthropic::stream::Events::default(), &text);
            assert_eq!((failure.class, failure.message.as_str()), (class, "no, [removed]"), "{kind}");
        }
    }
}

#[test]
fn geminis_errors_in_streams_have_classes() {
    let table = [
        (429, "RESOURCE_EXHAUSTED", RateLimited),
        (503, "UNAVAILABLE", ServerError),
        (500, "INTERNAL", ServerError),
        (504, "DEADLINE_EXCEEDED", Timeout),
        (400, "INVALID_ARGUMENT", BadRequest),
        (404, "NOT_FOUND", ModelUnavailable),
    ];
    for (code, status, class) in table {
        let error = json!({"error": {"code": code, "status": status, "message": "no, hunter2hunter2"}});
        let text = format!("data: {error}\n\n");
        let failure = streamed("gemini", gemini::stream::Chunks::default(), &text);
        assert_eq!((failure.class, failure.message.as_str()), (class, "no, [removed]"), "{status}");
    }
    let blocked = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY hunter2hunter2\"}}\n\n";
    let failure = streamed("gemini", gemini::stream::Chunks::default(), blocked);
    assert_eq!((failure.class, failure.http_status), (ContentFiltered, Some(200)));
    assert_eq!(failure.message, "the provider blocked the prompt: SAFETY [removed]");
}

#[test]
fn coheres_errors_in_streams_have_classes() {
    let table = [
        ("{\"finish_reason\":\"ERROR\"}", ServerError, "the provider failed within the answer"),
        ("{\"finish_reason\":\"TIMEOUT\"}", Timeout, "the provider ran out of time within the answer"),
        ("{\"finish_reason\":\"ERROR\",\"error\":\"no, hunter2hunter2\"}", ServerError, "no, [removed]"),
    ];
    for (delta, class, message) in table {
        let text = format!("data: {{\"type\":\"message-end\",\"delta\":{delta}}}\n\n");
        let failure = streamed("cohere", cohere::stream::Events::default(), &text);
        assert_eq!((failure.class, failure.message.as_str()), (class, message), "{delta}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_has_a_class() {
    let table = [
        (ReadError::MALFORMED, ServerError, Some(200)),
        (ReadError::EndedEarly, Connection, None),
        (ReadError::TooLarge, ServerError, None),
    ];
    for (error, class, status) in table {
        let failure = classifier("openai").unread(error);
        assert_eq!((failure.class, failure.http_status), (class, status));
    }
}
