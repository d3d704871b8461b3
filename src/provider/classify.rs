//! Decides what a provider's error means: status, code, type and text become a [`Failure`].
//!
//! Pure. Invariant: no failure's message holds a secret of the target, and every answer that is not a success gets
//! some class.

#[cfg(test)]
mod tests;

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
/// LiteLLM's `user_api_key_auth.py` (400 to every key but the master key, where its proxy has no database);
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
    ("no_db_connection", ErrorClass::Authentication),
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
        ours: false,
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
        ours: false,
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
