//! Decides what a provider's error means: status, code, type and text become a [`Failure`].
//!
//! Pure. Invariant: no failure's message holds a secret of the target, and every answer that is not a success gets
//! some class.

use super::{redact::Redactor, retry_after::retry_after};
use crate::balance::{ErrorClass, Failure};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use std::time::SystemTime;

/// What a code or type says under any status of a refusal, in the order they are looked for.
///
/// Sources: OpenAI's guide "Error codes" (insufficient quota, billing limits, wrong keys, overload; it says to look at
/// `error.code` for billing errors), Azure OpenAI's content filter (`content_filter`), Anthropic's page "Errors",
/// whose types several compatible servers copy, Groq's page "Flex Processing" (498 while its flexible tier is full),
/// LiteLLM's `user_api_key_auth.py` (400 for every key but the master key, where its proxy has no database).
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
    ("no_db_connection", ErrorClass::Authentication),
    ("content_filter", ErrorClass::ContentFiltered),
    ("content_policy_violation", ErrorClass::ContentFiltered),
    ("model_not_found", ErrorClass::ModelUnavailable),
    ("capacity_exceeded", ErrorClass::RateLimited),
];

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

/// Texts that say more than type and status: the type, how the text begins, and what else is in it.
///
/// Sources: Anthropic's answers (400, `invalid_request_error`) without credit, and beyond a workspace's spend limit (its
/// pages "Errors" and "Rate limits"); Cohere's page "Errors": no type, 429 for a trial key's calls a minute and a month
/// alike, and 400 for a fine-tuned model that does not serve yet.
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
        retry_after: retry_after(status, headers, now),
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
        retry_after: None,
        message: redactor.clean(message),
    }
}

/// What an error body says, in whichever of the common shapes.
#[derive(Debug, Default, PartialEq)]
struct Error {
    code: String,
    kind: String,
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
        Self {
            code: text("code"),
            kind: text("type"),
            message: message.into_iter().find(|message| !message.is_empty()),
        }
    }

    fn class(&self, status: u16) -> ErrorClass {
        let named = |names: &[(&str, ErrorClass)]| {
            let found = names.iter().find(|(name, _)| *name == self.code || *name == self.kind);
            found.map(|(_, class)| *class)
        };
        let of_text = || {
            let text = self.message.as_deref()?;
            let says = |(kind, start, part, _): &&(&str, &str, &str, _)| {
                self.kind == *kind && text.starts_with(start) && text.contains(part)
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
            (400, typed("no_db_connection"), Authentication),
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
