//! Reads how long a provider asks callers to stay away.
//!
//! Pure: the time is an argument. What it returns is a hint; the balance room decides what becomes of it. Header
//! values that make no sense count as absent.

use http::{HeaderMap, header};
use std::time::{Duration, SystemTime};

/// Longer hints are shortened to this.
pub const LONGEST: Duration = Duration::from_hours(24);

/// How long to stay away, from an answer's headers. In this order: `retry-after-ms` (milliseconds, OpenAI and Azure),
/// `Retry-After` (RFC 9110 section 10.2.3: seconds or a date), and for status 429 the reset times of those limits that
/// have nothing left (`x-ratelimit-reset-requests`, `x-ratelimit-reset-tokens`: OpenAI's guide on rate limits;
/// `anthropic-ratelimit-requests-reset` and so on, RFC 3339: Anthropic's page "Rate limits").
///
/// Dates are read against the answer's own `Date`, so that a wrong clock here does no harm; else against `now`.
#[must_use]
pub fn retry_after(status: u16, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let until = |end: SystemTime| {
        let sent = headers.get(header::DATE).and_then(|value| value.to_str().ok());
        let sent = sent.and_then(|value| httpdate::parse_http_date(value).ok()).unwrap_or(now);
        end.duration_since(sent).ok()
    };
    let date = |text: &str| until(httpdate::parse_http_date(text).ok()?);
    let timestamp = |text: &str| until(chrono::DateTime::parse_from_rfc3339(text).ok()?.into());
    let hint = text("retry-after-ms").and_then(|value| scaled(value, 0.001)).or_else(|| {
        text("retry-after")
            .and_then(|value| scaled(value, 1.0).or_else(|| date(value)))
            .filter(|d| !d.is_zero())
    });
    let reset = || {
        let used_up = |name: String| text(&name).is_some_and(|left| left == "0");
        let durations = ["requests", "tokens"]
            .into_iter()
            .filter(|limit| used_up(format!("x-ratelimit-remaining-{limit}")))
            .filter_map(|limit| text(&format!("x-ratelimit-reset-{limit}")).and_then(duration));
        let timestamps = ["requests", "tokens", "input-tokens", "output-tokens"]
            .into_iter()
            .filter(|limit| used_up(format!("anthropic-ratelimit-{limit}-remaining")))
            .filter_map(|limit| text(&format!("anthropic-ratelimit-{limit}-reset")).and_then(timestamp));
        durations.chain(timestamps).max()
    };
    let hint = match hint {
        None if status == 429 => reset(),
        hint => hint,
    };
    hint.filter(|d| !d.is_zero()).map(|d| d.min(LONGEST))
}

/// How long to stay away, from an error's body: a duration such as `38.5s`.
#[must_use]
pub fn retry_delay(text: &str) -> Option<Duration> {
    duration(text).filter(|d| !d.is_zero()).map(|d| d.min(LONGEST))
}

/// A positive decimal number times `scale` seconds; at most [`LONGEST`].
fn scaled(text: &str, scale: f64) -> Option<Duration> {
    // Rust also reads "inf" and "1e9", which no header means.
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let seconds = text.parse::<f64>().ok()? * scale;
    Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).ok().filter(|d| !d.is_zero())
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
