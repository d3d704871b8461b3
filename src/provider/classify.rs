//! Decides what a provider's error means: status, code, type and text become a [`Failure`].
//!
//! Pure. Invariant: no failure's message holds a secret of the target, and every answer that is not a success gets
//! some class.

use super::{
    redact::Redactor,
    retry_after::{retry_after, retry_delay},
};
use crate::balance::{ErrorClass, Failure};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// What a code or type says under any status of a refusal, in the order they are looked for.
///
/// Sources: OpenAI's guide "Error codes" (insufficient quota, billing limits, wrong keys, overload; it says to look at
/// `error.code` for billing errors), Azure OpenAI's content filter (`content_filter`), Anthropic's page "Errors",
/// whose types several compatible servers copy, Groq's page "Flex Processing" (498 while its flexible tier is full);
/// Google's reasons (`google/api/error_reason.proto`), which Gemini's errors bear in their details. Gemini refuses a wrong
/// key with 400.
const NAMES: &[(&str, ErrorClass)] = &[
    ("insufficient_quota", ErrorClass::QuotaExhausted),
    ("billing_hard_limit_reached", ErrorClass::QuotaExhausted),
    ("billing_not_active", ErrorClass::QuotaExhausted),
    ("credit_balance_exhausted", ErrorClass::QuotaExhausted),
    ("billing_error", ErrorClass::QuotaExhausted),
    ("invalid_api_key", ErrorClass::Authentication),
    ("incorrect_api_key", ErrorClass::Authentication),
    ("account_deactivated", ErrorClass::Authentication),
    ("authentication_error", ErrorClass::Authentication),
    ("content_filter", ErrorClass::ContentFiltered),
    ("content_policy_violation", ErrorClass::ContentFiltered),
    ("model_not_found", ErrorClass::ModelUnavailable),
    ("capacity_exceeded", ErrorClass::RateLimited),
    ("BILLING_DISABLED", ErrorClass::QuotaExhausted),
    ("API_KEY_INVALID", ErrorClass::Authentication),
    ("API_KEY_SERVICE_BLOCKED", ErrorClass::Authentication),
    ("API_KEY_HTTP_REFERRER_BLOCKED", ErrorClass::Authentication),
    ("API_KEY_IP_ADDRESS_BLOCKED", ErrorClass::Authentication),
    ("ACCESS_TOKEN_EXPIRED", ErrorClass::Authentication),
    ("SERVICE_DISABLED", ErrorClass::Authentication),
    ("CONSUMER_INVALID", ErrorClass::Authentication),
    ("CONSUMER_SUSPENDED", ErrorClass::Authentication),
    (DAILY_QUOTA, ErrorClass::QuotaExhausted),
];

/// Stands for a violation of a quota by the day, as Gemini's `GenerateRequestsPerDayPerProjectPerModel`. All its limits
/// are 429 `RESOURCE_EXHAUSTED`; those by the minute are over soon.
const DAILY_QUOTA: &str = "PerDay";

/// What a code or type says where no status does: in a stream, or in an answer that claims success.
const NAMES_WITHOUT_STATUS: &[(&str, ErrorClass)] = &[
    ("rate_limit_exceeded", ErrorClass::RateLimited),
    ("rate_limit_error", ErrorClass::RateLimited),
    ("too_many_requests", ErrorClass::RateLimited),
    ("permission_error", ErrorClass::ModelUnavailable),
    ("not_found_error", ErrorClass::ModelUnavailable),
    ("timeout", ErrorClass::Timeout),
    ("timeout_error", ErrorClass::Timeout),
    ("context_length_exceeded", ErrorClass::BadRequest),
    ("invalid_request_error", ErrorClass::BadRequest),
    ("request_too_large", ErrorClass::BadRequest),
];

/// Texts that say more than type and status: the type (or Google's status), how the text begins, and what else is in it.
///
/// Sources: Anthropic's answers (400, `invalid_request_error`) without credit, and beyond a workspace's spend limit (its
/// pages "Errors" and "Rate limits"); Cohere's page "Errors": no type, 429 for a trial key's calls a minute and a month
/// alike, and 400 for a fine-tuned model that does not serve yet; Gemini's page "API errors" (a country without a free
/// tier), and its answers to keys that were found in public and to callers from where it does not serve.
const TEXTS: &[(&str, &str, &str, ErrorClass)] = &[
    ("invalid_request_error", "Your credit balance is too low", "", ErrorClass::QuotaExhausted),
    (
        "invalid_request_error",
        "You have reached your specified API usage limits",
        "",
        ErrorClass::QuotaExhausted,
    ),
    (
        "invalid_request_error",
        "You have reached your specified workspace API usage limits",
        "",
        ErrorClass::QuotaExhausted,
    ),
    ("", "You are using a Trial key", "API calls / month", ErrorClass::QuotaExhausted),
    // Those of 429 again: in a stream no status says it.
    ("", "You are using a Trial key", "API calls / minute", ErrorClass::RateLimited),
    ("", "You are past the per minute request limit", "", ErrorClass::RateLimited),
    ("", "trial token rate limit exceeded", "", ErrorClass::RateLimited),
    ("", "finetuned model with name ", " is not ready for serving", ErrorClass::ModelUnavailable),
    ("FAILED_PRECONDITION", "Gemini API free tier is not available", "", ErrorClass::QuotaExhausted),
    ("FAILED_PRECONDITION", "User location is not supported", "", ErrorClass::ModelUnavailable),
    ("PERMISSION_DENIED", "Your API key was reported as leaked", "", ErrorClass::Authentication),
];

/// The failure that an answer without success is. `now` stands in for a missing `Date`.
#[must_use]
pub fn of_answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    redactor: &Redactor,
    now: SystemTime,
) -> Failure {
    let status = status.as_u16();
    let error = Error::read(body);
    let message = match &error.message {
        _ if (300..400).contains(&status) => "redirects are not followed".to_owned(),
        Some(message) => redactor.clean(message),
        None => format!("the provider answered with status {status}"),
    };
    Failure {
        class: error.class(status),
        http_status: Some(status),
        unsent: false,
        retry_after: retry_after(status, headers, now).or(error.retry_after),
        message,
    }
}

/// The failure that an error inside a stream or inside an answer with status 200 is. A numeric code counts as the
/// status, as OpenRouter sends it.
#[must_use]
pub fn of_value(error: &Value, redactor: &Redactor) -> Failure {
    let error = Error::from_value(error);
    let status = error.code.parse::<u16>().ok().filter(|code| (400..600).contains(code)).unwrap_or(200);
    let message = error.message.as_deref().unwrap_or("the provider sent an error");
    Failure {
        class: error.class(status),
        http_status: Some(status),
        unsent: false,
        retry_after: error.retry_after,
        message: redactor.clean(message),
    }
}

/// What an error body says, in whichever of the common shapes.
#[derive(Debug, Default, PartialEq)]
struct Error {
    code: String,
    kind: String,
    /// `google.rpc.Code`.
    status: String,
    /// What the details of `google.rpc.Status` call it.
    reasons: Vec<String>,
    retry_after: Option<Duration>,
    message: Option<String>,
}

impl Error {
    fn read(body: &[u8]) -> Self {
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
    fn from_value(value: &Value) -> Self {
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

    fn class(&self, status: u16) -> ErrorClass {
        let named = |names: &[(&str, ErrorClass)]| {
            let is = |name: &str| {
                name == self.code || name == self.kind || self.reasons.iter().any(|reason| name == reason)
            };
            names.iter().find(|(name, _)| is(name)).map(|(_, class)| *class)
        };
        let of_text = || {
            let text = self.message.as_deref()?;
            let says = |(kind, start, part, _): &&(&str, &str, &str, _)| {
                let typed = *kind == self.kind || (!kind.is_empty() && *kind == self.status);
                typed && text.starts_with(start) && text.contains(part)
            };
            TEXTS.iter().find(says).map(|(.., class)| *class)
        };
        let of_names = || match status {
            300..400 | 500.. => None,
            _ => named(NAMES),
        };
        // Money is money under any status.
        named(NAMES)
            .filter(|class| *class == ErrorClass::QuotaExhausted)
            .or_else(of_text)
            .or_else(of_names)
            .unwrap_or_else(|| match status {
                401 => ErrorClass::Authentication,
                402 => ErrorClass::QuotaExhausted,
                403 | 404 | 410 => ErrorClass::ModelUnavailable,
                408 | 504 => ErrorClass::Timeout,
                429 => ErrorClass::RateLimited,
                // Cohere's, for a word on its deny list (API reference, "Chat").
                498 => ErrorClass::ContentFiltered,
                // Somebody between cancelled it, and the caller did not; "try the request again" (Cohere's page "Errors").
                499 => ErrorClass::ServerError,
                400..500 => ErrorClass::BadRequest,
                200..300 => named(NAMES_WITHOUT_STATUS).unwrap_or(ErrorClass::ServerError),
                _ => ErrorClass::ServerError,
            })
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
    use crate::provider::Target;
    use ErrorClass::*;
    use serde_json::json;

    fn redactor() -> Redactor {
        let fields = [("api_key".to_owned(), "hunter2hunter2".into())].into();
        Redactor::new(&Target { base_url: "http://a/".parse().unwrap(), model: String::new(), fields })
    }

    fn answer(status: u16, body: &str) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        of_answer(status, &HeaderMap::new(), body.as_bytes(), &redactor(), SystemTime::UNIX_EPOCH)
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
            (400, coded("context_length_exceeded"), BadRequest),
            (400, coded("content_filter"), ContentFiltered),
            (400, coded("content_policy_violation"), ContentFiltered),
            (413, String::new(), BadRequest),
            (415, String::new(), BadRequest),
            (422, String::new(), BadRequest),
            (498, coded("capacity_exceeded"), RateLimited),
            (498, typed("capacity_exceeded"), RateLimited),
            (301, coded("invalid_api_key"), ServerError),
            (307, String::new(), ServerError),
        ];
        for (status, body, class) in table {
            let failure = answer(status, &body);
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
            (
                400,
                "invalid_request_error",
                "You have reached your specified API usage limits.",
                QuotaExhausted,
            ),
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
            let failure = answer(status, &body.to_string());
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
                let failure = answer(status, &body.to_string());
                assert_eq!((failure.class, failure.message.as_str()), (class, message), "{status}");
            }
        }
    }

    #[test]
    fn geminis_errors_have_classes() {
        let info =
            |reason: &str| json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason});
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
                "Gemini API free tier is not available in your country.",
                vec![],
                QuotaExhausted,
            ),
            (400, "FAILED_PRECONDITION", "User location is not supported.", vec![], ModelUnavailable),
            (402, "RESOURCE_EXHAUSTED", "m", vec![], QuotaExhausted),
            (403, "PERMISSION_DENIED", "m", vec![], ModelUnavailable),
            (403, "PERMISSION_DENIED", "Your API key was reported as leaked.", vec![], Authentication),
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
                let failure = answer(status, &body.to_string());
                assert_eq!((failure.class, failure.message.as_str()), (class, message), "{body}");
                let failure = of_value(body, &redactor());
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
            assert_eq!(answer(429, &body(delay).to_string()).retry_after, expected, "{delay}");
            assert_eq!(of_value(&body(delay), &redactor()).retry_after, expected, "{delay}");
        }
        let headers = [(http::header::RETRY_AFTER, "3".parse().unwrap())].into_iter().collect();
        let bytes = body("38s").to_string();
        let status = StatusCode::TOO_MANY_REQUESTS;
        let failure = of_answer(status, &headers, bytes.as_bytes(), &redactor(), SystemTime::UNIX_EPOCH);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
    }

    #[test]
    fn messages_come_from_every_common_shape() {
        let table = [
            (r#"{"error":{"message":"one"}}"#, "one"),
            (r#"{"error":"two"}"#, "two"),
            (r#"{"message":"three"}"#, "three"),
            (r#"{"detail":"four"}"#, "four"),
            (r#"{"detail":[{"loc":["body"],"msg":"five"},{"msg":"six"}]}"#, "five; six"),
            (r#"[{"error":{"code":400,"message":"seven"}}]"#, "seven"),
            ("eight\r\n", "eight"),
            ("<html>nine</html>", "the provider answered with status 400"),
            ("{}", "the provider answered with status 400"),
            ("", "the provider answered with status 400"),
            ("\"text\"", "text"),
            (r#"{"error":{"message":"key hunter2hunter2"}}"#, "key [removed]"),
            ("key hunter2hunter2", "key [removed]"),
        ];
        for (body, message) in table {
            assert_eq!(answer(400, body).message, message, "{body}");
        }
        assert_eq!(answer(302, "moved to hunter2hunter2").message, "redirects are not followed");
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
            let failure = of_value(&serde_json::from_str(body).unwrap(), &redactor());
            assert_eq!((failure.class, failure.http_status), (class, Some(status)), "{body}");
        }
    }

    #[test]
    fn hints_are_taken_along() {
        let headers = [(http::header::RETRY_AFTER, "3".parse().unwrap())].into_iter().collect();
        let failure =
            of_answer(StatusCode::SERVICE_UNAVAILABLE, &headers, b"", &redactor(), SystemTime::UNIX_EPOCH);
        assert_eq!(failure.retry_after, Some(std::time::Duration::from_secs(3)));
    }
}
