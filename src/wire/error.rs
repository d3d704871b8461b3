//! What can be wrong with what a provider sends, as data: nobody here decides what it means for the provider.

use super::retry_after::{LONGEST, retry_delay, retry_in_words};
use http::{HeaderMap, HeaderName};
use serde_json::Value;
use std::time::Duration;

/// Why an answer, or a stream of one, cannot be read as what its protocol says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// It is not what the protocol says. The text says what is wrong, and holds nothing of the answer.
    Malformed(&'static str),
    /// The provider reports an error in place of the answer, or in the middle of it.
    Reported(Box<ProviderError>),
    /// The provider counts what it has used, and says nothing.
    NoMessage,
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

/// A request that cannot be written in a provider's protocol, though another kind of provider may take it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct WriteError {
    /// The path of the field in the contract, for example `parameters.n` or `messages[2].parts[0]`.
    pub field: String,
    /// Why, in words that callers see.
    pub why: String,
}

impl WriteError {
    pub(super) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
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
    /// The headers of a vendor behind a gateway, where the body holds them: OpenRouter's `metadata.headers`.
    pub headers: HeaderMap,
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

    /// Takes `{"error": {…}}`, `{"error": "…"}`, `[{"error": …}]` (Gemini), `{"message": …}`, `{"detail": …}` (FastAPI: a
    /// text, an object, or a list of objects with `msg`), `{"errors": […]}` (Cloudflare), and one within another.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let value = value.get(0).unwrap_or(value);
        let error = value.get("error").filter(|error| is_something(error)).unwrap_or(value);
        let error = error.get(0).unwrap_or(error);
        let inner = ["message", "detail", "errors"].iter().find_map(|name| {
            let inner = error.get(*name)?;
            inner.get(0).or(Some(inner)).filter(|inner| inner.is_object())
        });
        let places = || [Some(error), Some(value), inner].into_iter().flatten();
        let text = |name: &str| {
            let texts = places().filter_map(|place| place.get(name)).map(as_text);
            texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
        };
        let details = || error.get("details").and_then(Value::as_array).into_iter().flatten();
        let mut reasons: Vec<String> = details().flat_map(reasons).collect();
        // Azure's page on content filters: the code stands within.
        reasons.extend(error.pointer("/innererror/code").map(as_text));
        // Anthropic's spend limits, and Novita's codes (<https://novita.ai/docs/api-reference/basic-error-code>).
        reasons.extend(error.pointer("/details/error_code").map(as_text));
        reasons.extend(value.get("reason").map(as_text));
        // <https://openrouter.ai/docs/api/reference/errors-and-debugging>: what was flagged stands beside the reasons.
        if error.pointer("/metadata/flagged_input").is_some() {
            reasons.push(FLAGGED.to_owned());
        }
        let raw = error.pointer("/metadata/raw").map(raw);
        if let Some(raw) = &raw {
            reasons.extend([raw.code.clone(), raw.kind.clone()].into_iter().chain(raw.reasons.clone()));
        }
        reasons.retain(|reason| !reason.is_empty());
        let message = message(value);
        Self {
            code: first(text("code"), base_code(value)),
            kind: text("type"),
            status: text("status"),
            reasons,
            retry_after: retry_after_in([error, value], &message, details())
                .or_else(|| raw.as_ref().and_then(|raw| raw.retry_after)),
            headers: error.pointer("/metadata/headers").map(headers).unwrap_or_default(),
            message: Some(join(message, raw.and_then(|raw| raw.message)))
                .filter(|message| !message.is_empty()),
        }
    }

    /// The error that this JSON is in place of an answer, under whatever status; none where it is no error. A key `error`
    /// with nothing in it is none.
    #[must_use]
    pub fn in_place_of_answer(value: &Value) -> Option<Self> {
        let value = value.get(0).unwrap_or(value);
        let object = value.as_object()?;
        let says = |name: &str, word: &str| object.get(name).is_some_and(|value| value == word);
        let reports = object.get("error").is_some_and(is_something)
            || says("object", "error")
            || says("type", "error")
            || object.get("success").is_some_and(|success| success == false)
            || object
                .get("base_resp")
                .and_then(|answer| answer.get("status_code"))
                .is_some_and(|code| code.as_i64().is_some_and(|code| code != 0));
        let answers = ["choices", "candidates", "content", "message", "data", "results", "embeddings"];
        let blames = |name: &&str| {
            let value = object.get(*name).filter(|value| is_something(value));
            value.is_some_and(|value| *name != "code" || !SUCCESS.contains(&as_text(value).as_str()))
        };
        let only_words = ["code", "detail", "errors"].iter().any(blames)
            && !answers.iter().any(|name| object.get(*name).is_some_and(Value::is_array));
        (reports || only_words).then(|| Self::from_value(value))
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

/// Whether the value of a key `error` says that there is one. Some providers send an empty one with every good answer.
pub(super) fn is_something(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => items.iter().any(is_something),
        Value::Object(fields) => fields.values().any(is_something),
    }
}

/// The reason of an error that a moderation is, as OpenRouter sends one.
pub const FLAGGED: &str = "flagged_input";

/// Codes that some vendors write beside every good answer, such as iFlytek's
/// (<https://www.xfyun.cn/doc/spark/HTTP%E8%B0%83%E7%94%A8%E6%96%87%E6%A1%A3.html>).
const SUCCESS: &[&str] = &["0", "200", "20000", "ok", "OK", "success", "Success"];

/// How deep a text may stand in objects.
const DEPTH: u8 = 4;

/// The provider's own words, wherever they stand.
fn message(value: &Value) -> String {
    fn find(value: &Value, depth: u8) -> String {
        const NAMES: &[&str] = &[
            "error",
            "message",
            "detail",
            "errors",
            "msg",
            "error_description",
            "error_msg",
            "status_msg",
            "base_resp",
            "error_message",
            "title",
            "description",
            "reason",
        ];
        match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Array(items) if depth > 0 => {
                let texts = items.iter().map(|item| find(item, depth - 1)).filter(|text| !text.is_empty());
                texts.collect::<Vec<_>>().join("; ")
            }
            Value::Object(fields) if depth > 0 => NAMES
                .iter()
                .filter_map(|name| fields.get(*name))
                .map(|inner| find(inner, depth - 1))
                .find(|text| !text.is_empty())
                .unwrap_or_default(),
            _ => String::new(),
        }
    }
    find(value, DEPTH)
}

/// The error of the vendor behind a gateway, which hands it on as text, as JSON, or as JSON in a text (OpenRouter's
/// `metadata.raw`).
fn raw(value: &Value) -> ProviderError {
    match value {
        Value::String(text) => ProviderError::read(text.as_bytes()),
        other => ProviderError::from_value(other),
    }
}

fn headers(value: &Value) -> HeaderMap {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, as_text(value).parse().ok()?)))
        .collect()
}

fn join(message: String, more: Option<String>) -> String {
    match more {
        None => message,
        Some(more) if message.is_empty() => more,
        Some(more) if message.contains(&more) => message,
        Some(more) => format!("{message}: {more}"),
    }
}

fn first(one: String, other: String) -> String {
    if one.is_empty() { other } else { one }
}

/// MiniMax's code (<https://platform.minimax.io/docs/api-reference/errorcode>).
fn base_code(value: &Value) -> String {
    value.pointer("/base_resp/status_code").map(as_text).unwrap_or_default()
}

/// How long to stay away, wherever an error says it.
fn retry_after_in<'v>(
    places: [&Value; 2],
    message: &str,
    details: impl Iterator<Item = &'v Value>,
) -> Option<Duration> {
    let delays = details.filter_map(|detail| detail.get("retryDelay")?.as_str()).filter_map(retry_delay);
    let number = |name: &str, scale: f64| {
        let value = (places.iter())
            .find_map(|place| place.get(name).or_else(|| place.pointer(&format!("/metadata/{name}"))))?;
        let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())? * scale;
        Duration::try_from_secs_f64(seconds).ok().filter(|delay| !delay.is_zero())
    };
    // The last is Hugging Face's, while it loads a model (<https://github.com/huggingface/transformers/issues/11904>).
    let names = ["retry_after", "retry_after_seconds", "retryAfter", "estimated_time"];
    let seconds = names.iter().find_map(|name| number(name, 1.0));
    delays
        .max()
        .or_else(|| number("retry_after_ms", 0.001))
        .or(seconds)
        .or_else(|| retry_in_words(message))
        .map(|delay| delay.min(LONGEST))
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
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
            (r#"{"error":{"message":{"message":"a","type":"t"},"type":"t"}}"#, Some("a")),
            (r#"{"object":"error","message":{"detail":[{"loc":["body"],"msg":"b"}]},"type":"t"}"#, Some("b")),
            (r#"{"detail":{"error":"c"}}"#, Some("c")),
            (r#"{"success":false,"errors":[{"code":5006,"message":"d"}]}"#, Some("d")),
            (r#"{"code":"denied","error":"e"}"#, Some("e")),
            (r#"{"base_resp":{"status_code":1008,"status_msg":"f"}}"#, Some("f")),
            (
                r#"{"error":{"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"message\":\"g\"}}"}}}"#,
                Some("Provider returned error: g"),
            ),
            ("eight\r\n", Some("eight")),
            ("<html>nine</html>", None),
            ("{}", None),
            ("", None),
        ];
        for (body, message) in table {
            assert_eq!(ProviderError::read(body.as_bytes()).message.as_deref(), message, "{body}");
        }
    }

    #[test]
    fn times_come_from_wherever_they_stand() {
        let table = [
            (r#"{"error":{"details":[{"retryDelay":"33s"}]}}"#, 33_000),
            (r#"{"error":{"message":"Please try again in 6m0.5s."}}"#, 360_500),
            (
                r#"{"error":{"message":"Rate limit reached. Please try again in 20s. Visit https://h"}}"#,
                20_000,
            ),
            (r#"{"error":{"message":"please retry after 7 seconds"}}"#, 7_000),
            (r#"{"error":{"retry_after_ms":1500}}"#, 1_500),
            (r#"{"error":{"retry_after":"4"}}"#, 4_000),
            (r#"{"error":"Model m is currently loading","estimated_time":20.5}"#, 20_500),
            (
                r#"{"error":{"code":"RateLimitReached","message":"Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 5631 seconds before retrying."}}"#,
                5_631_000,
            ),
        ];
        for (body, millis) in table {
            let error = ProviderError::read(body.as_bytes());
            assert_eq!(error.retry_after, Some(Duration::from_millis(millis)), "{body}");
        }
        assert_eq!(
            ProviderError::read(br#"{"error":{"message":"try again in a moment"}}"#).retry_after,
            None
        );
        assert_eq!(
            ProviderError::read(br#"{"error":"Too many tokens, please wait before trying again."}"#)
                .retry_after,
            None
        );
    }

    #[test]
    fn nothing_beside_an_answer_is_no_error() {
        let table = [
            (r#"{"code":0,"message":"Success","sid":"s"}"#, false),
            (r#"{"code":"200","id":"i"}"#, false),
            (r#"{"error":{"code":0,"message":""},"id":"i"}"#, false),
            (r#"{"error":[],"detail":null,"errors":[]}"#, false),
            (r#"{"code":"denied","message":"m"}"#, true),
            (r#"{"error":{"code":1}}"#, true),
            (r#"{"code":"x","choices":[]}"#, false),
        ];
        for (body, is_error) in table {
            let value = serde_json::from_str(body).unwrap();
            assert_eq!(ProviderError::in_place_of_answer(&value).is_some(), is_error, "{body}");
        }
    }

    #[test]
    fn codes_come_from_wherever_they_stand() {
        let table = [
            (r#"{"error":{"message":{"code":"x"},"type":"t"}}"#, "x"),
            (r#"{"code":"y","error":"e"}"#, "y"),
            (r#"{"success":false,"errors":[{"code":5006}]}"#, "5006"),
            (r#"{"base_resp":{"status_code":1008}}"#, "1008"),
        ];
        for (body, code) in table {
            assert_eq!(ProviderError::read(body.as_bytes()).code, code, "{body}");
        }
        let filtered = ProviderError::read(
            br#"{"error":{"code":"c","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
        );
        assert_eq!(filtered.reasons, ["ResponsibleAIPolicyViolation"]);
        let flagged = ProviderError::read(br#"{"error":{"code":403,"metadata":{"flagged_input":"x"}}}"#);
        assert_eq!(flagged.reasons, [FLAGGED]);
        let behind = r#"{"error":{"code":429,"metadata":{"raw":"{\"error\":{\"type\":\"tokens\",\"code\":\"x\"}}","headers":{"X-RateLimit-Reset":"1795428060000","no header":"","n":1}}}}"#;
        let behind = ProviderError::read(behind.as_bytes());
        assert_eq!(behind.reasons, ["x", "tokens"]);
        assert_eq!(
            (&behind.headers["x-ratelimit-reset"], behind.headers.len()),
            (&"1795428060000".parse().unwrap(), 2)
        );
    }
}
