//! Reads how long a provider asks callers to stay away.
//!
//! Pure: the time is an argument. What it returns is a hint; the balance room decides what becomes of it. Header
//! values that make no sense count as absent.

use http::{HeaderMap, header};
use std::time::{Duration, SystemTime};

/// Longer hints are shortened to this.
pub const LONGEST: Duration = Duration::from_hours(24);

/// How long to stay away, from an answer's headers: `retry-after-ms` (OpenAI, Azure), then `Retry-After` (RFC 9110 section
/// 10.2.3), and for status 429 the reset times of those limits that have nothing left. Each may be a number of seconds, a
/// duration, a date, or a moment since 1970 in seconds or milliseconds.
///
/// Dates are read against the answer's own `Date`, so that a wrong clock here does no harm; else against `now`.
#[must_use]
pub fn retry_after(status: u16, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = text(header::DATE.as_str()).and_then(|value| httpdate::parse_http_date(value).ok());
    let now = date.unwrap_or(now);
    let hint = text("retry-after-ms")
        .and_then(|value| scaled(value, 0.001))
        .or_else(|| text("retry-after").and_then(|value| wait(value, now)));
    let resets = || {
        let limits = LIMITS.iter().filter_map(|(left, reset)| match text(left) {
            Some(left) if scaled(left, 1.0).is_some() => None,
            // Of a limit without a name nothing else may be said.
            None if !matches!(*reset, "x-ratelimit-reset" | "ratelimit-reset") => None,
            _ => text(reset).and_then(|value| wait(value, now)),
        });
        let listed =
            headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok()).flat_map(listed);
        limits.chain(listed).max()
    };
    hint.or_else(|| (status == 429).then(resets).flatten())
}

/// The headers that say what is left of a limit, and those that say when it starts again.
///
/// OpenAI (<https://platform.openai.com/docs/guides/rate-limits>), Cerebras
/// (<https://inference-docs.cerebras.ai/support/rate-limits>), Anthropic (<https://docs.claude.com/en/api/rate-limits>),
/// OpenRouter (<https://openrouter.ai/docs/api/reference/limits>), and an IETF draft
/// (<https://datatracker.ietf.org/doc/html/draft-polli-ratelimit-headers-05>).
const LIMITS: &[(&str, &str)] = &[
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining-requests-minute", "x-ratelimit-reset-requests-minute"),
    ("x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"),
    ("x-ratelimit-remaining-requests-day", "x-ratelimit-reset-requests-day"),
    ("x-ratelimit-remaining-tokens-day", "x-ratelimit-reset-tokens-day"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
];

/// The seconds until the limits start again that one `RateLimit` header says are used up: `"default";r=0;t=30`
/// (<https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers>), earlier `limit=9, remaining=0, reset=30`.
fn listed(value: &str) -> impl Iterator<Item = Duration> {
    let is_late = value.contains(';');
    let limits = value.split(if is_late { ',' } else { '\n' });
    limits.filter_map(move |limit| {
        let says = |names: [&str; 2]| {
            limit
                .split([';', ','])
                .filter_map(|part| part.trim().split_once('='))
                .find_map(|(name, value)| names.contains(&name.trim()).then_some(value.trim()))
        };
        if says(["r", "remaining"])? != "0" {
            return None;
        }
        scaled(says(["t", "reset"])?, 1.0)
    })
}

/// How long until then; none where it makes no sense, or is over.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let until = |end: SystemTime| end.duration_since(now).ok();
    let since_1970 = |elapsed: Duration| SystemTime::UNIX_EPOCH.checked_add(elapsed).and_then(until);
    let number = is_number(text).then(|| text.parse::<f64>().ok()).flatten();
    let wait = match number {
        // No limit lasts 30 years: these are moments, in milliseconds or seconds.
        Some(number) if number >= 1e12 => since_1970(Duration::from_secs_f64(number.min(1e15) / 1e3)),
        Some(number) if number >= 1e9 => since_1970(Duration::from_secs_f64(number)),
        Some(_) => scaled(text, 1.0),
        None => duration(text)
            .or_else(|| until(httpdate::parse_http_date(text).ok()?))
            .or_else(|| until(chrono::DateTime::parse_from_rfc3339(text).ok()?.into())),
    };
    wait.filter(|wait| !wait.is_zero()).map(|wait| wait.min(LONGEST))
}

/// How long to stay away, from an error's body: a duration such as `38.5s`.
#[must_use]
pub fn retry_delay(text: &str) -> Option<Duration> {
    duration(text).filter(|d| !d.is_zero()).map(|d| d.min(LONGEST))
}

/// How long to stay away, from an error's words, such as OpenAI's "Please try again in 20s", "retry after 7 seconds", and
/// GitHub's "Please wait 5631 seconds before retrying" (<https://learn.microsoft.com/en-us/answers/questions/2156697>).
#[must_use]
pub fn retry_in_words(text: &str) -> Option<Duration> {
    let lower = text.to_ascii_lowercase();
    let (_, rest) = ["try again in ", "retry in ", "retry after ", "try again after ", "please wait "]
        .iter()
        .find_map(|words| lower.split_once(words))?;
    let mut words = rest.split_whitespace();
    let number = words.next()?.trim_end_matches(['.', ',', ';', ')']);
    let unit = match words.next().unwrap_or_default().trim_end_matches(['.', ',', ';', ')']) {
        "ms" | "milliseconds" => "ms",
        "m" | "min" | "minute" | "minutes" => "m",
        "h" | "hour" | "hours" => "h",
        _ => "s",
    };
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_plain { retry_delay(&format!("{number}{unit}")) } else { retry_delay(number) }
}

/// A positive decimal number times `scale` seconds; at most [`LONGEST`].
fn scaled(text: &str, scale: f64) -> Option<Duration> {
    if !is_number(text) {
        return None;
    }
    let seconds = text.parse::<f64>().ok()? * scale;
    Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).ok().filter(|d| !d.is_zero())
}

/// Whether it is decimal. Rust also reads "inf" and "1e9", which no header means.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A duration as OpenAI writes it: `6m0s`, `1h2m`, `20ms`, `1.5s`; a number alone is seconds.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(unit_at);
        let next_at = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(next_at);
        let scale = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" | "" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        if number.is_empty() {
            return None;
        }
        total = total.saturating_add(scaled(number, scale).unwrap_or_default());
        rest = tail;
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    type Case<'a> = (&'a [(&'a str, &'a str)], Option<Duration>);

    const NOW: &str = "Mon, 23 Nov 2026 10:00:00 GMT";

    fn hint(status: u16, headers: &[(&str, &str)]) -> Option<Duration> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        retry_after(status, &headers, httpdate::parse_http_date(NOW).unwrap())
    }

    #[test]
    fn hints_are_read() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let table: &[Case<'_>] = &[
            (&[], None),
            (&[("retry-after", "7")], ms(7_000)),
            (&[("retry-after", " 0.5 ")], ms(500)),
            (&[("retry-after", "0")], None),
            (&[("retry-after", "-3")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "")], None),
            (&[("retry-after", "1.2.3")], None),
            (&[("retry-after", "99999999999999999999999999")], Some(LONGEST)),
            (&[("retry-after", "6m0s")], ms(360_000)),
            (&[("retry-after", "1795428030")], ms(30_000)),
            (&[("retry-after", "1795428030500")], ms(30_500)),
            (&[("retry-after", "1795427970")], None),
            (&[("retry-after", "2026-11-23T10:00:05Z")], ms(5_000)),
            // OpenRouter's, Together's, Cerebras's.
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795428060000")], ms(60_000)),
            (&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "1795428060000")], None),
            (&[("x-ratelimit-reset", "4")], ms(4_000)),
            (
                &[
                    ("x-ratelimit-remaining-tokens-minute", "0"),
                    ("x-ratelimit-reset-tokens-minute", "11.382883"),
                    ("x-ratelimit-remaining-requests-day", "143"),
                    ("x-ratelimit-reset-requests-day", "33011.382"),
                ],
                Some(Duration::from_micros(11_382_883)),
            ),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "12")], ms(12_000)),
            (&[("ratelimit", "limit=100, remaining=0, reset=13")], ms(13_000)),
            (&[("ratelimit", "limit=100, remaining=9, reset=13")], None),
            (&[("ratelimit", "\"minute\";r=0;t=14, \"day\";r=7;t=9000")], ms(14_000)),
            (&[("ratelimit", "\"day\";r=0")], None),
            (&[("retry-after-ms", "1500")], ms(1_500)),
            (&[("retry-after-ms", "250"), ("retry-after", "9")], ms(250)),
            (&[("retry-after-ms", "x"), ("retry-after", "9")], ms(9_000)),
            // Against the clock, then against the answer's own, an hour off.
            (&[("retry-after", "Mon, 23 Nov 2026 10:00:30 GMT")], ms(30_000)),
            (
                &[
                    ("retry-after", "Mon, 23 Nov 2026 11:00:30 GMT"),
                    ("date", "Mon, 23 Nov 2026 11:00:00 GMT"),
                ],
                ms(30_000),
            ),
            (&[("retry-after", "Mon, 23 Nov 2026 09:59:00 GMT")], None),
            (&[("retry-after", NOW)], None),
            (&[("retry-after", "Mon, 23 Nov 2099 10:00:00 GMT")], Some(LONGEST)),
            // Reset times count only where nothing is left.
            (&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")], ms(360_000)),
            (&[("x-ratelimit-remaining-requests", "3"), ("x-ratelimit-reset-requests", "6m0s")], None),
            (&[("x-ratelimit-reset-tokens", "6m0s")], None),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "20ms"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "1s"),
                ],
                ms(1_000),
            ),
            (
                &[
                    ("retry-after", "2"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "9s"),
                ],
                ms(2_000),
            ),
            (
                &[
                    ("retry-after", "0"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "9s"),
                ],
                ms(9_000),
            ),
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "2026-11-23T10:00:05Z"),
                    ("anthropic-ratelimit-output-tokens-remaining", "0"),
                    ("anthropic-ratelimit-output-tokens-reset", "2026-11-23T11:00:07+01:00"),
                    ("anthropic-ratelimit-input-tokens-remaining", "5000"),
                    ("anthropic-ratelimit-input-tokens-reset", "2026-11-23T10:00:59Z"),
                ],
                ms(7_000),
            ),
            (
                &[
                    ("anthropic-ratelimit-tokens-remaining", "0"),
                    ("anthropic-ratelimit-tokens-reset", "2026-11-23T10:00:05Z"),
                    ("retry-after", "2"),
                ],
                ms(2_000),
            ),
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "2026-11-23T09:59:59Z"),
                ],
                None,
            ),
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "soon"),
                ],
                None,
            ),
        ];
        for (headers, expected) in table {
            assert_eq!(hint(429, headers), *expected, "{headers:?}");
        }
    }

    #[test]
    fn reset_times_speak_of_rate_limits_alone() {
        let headers = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "9s")];
        assert_eq!(hint(503, &headers), None);
        assert_eq!(hint(503, &[("retry-after", "9")]), Some(Duration::from_secs(9)));
    }

    #[test]
    fn durations_are_read() {
        let table = [
            ("1s", Some(1_000)),
            ("20ms", Some(20)),
            ("6m0s", Some(360_000)),
            ("1h1m1.5s", Some(3_661_500)),
            ("1d", Some(86_400_000)),
            ("12", Some(12_000)),
            ("0s", None),
            ("s", None),
            ("1w", None),
            ("-1s", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_breaks_it(a in "[ -~]{0,30}", b in "[0-9.mshd]{0,30}", status: u16) {
            for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "date"] {
                for value in [&a, &b] {
                    let headers = [(name, value.as_str()), ("x-ratelimit-remaining-tokens", "0")];
                    let hint = hint(status, &headers);
                    proptest::prop_assert!(hint.is_none_or(|d| !d.is_zero() && d <= LONGEST));
                }
            }
        }
    }
}
