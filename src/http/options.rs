//! What a caller's headers say of how its call is made.

use crate::{balance::OnBreak, wire::FieldError};
use http::HeaderMap;
use std::time::Duration;

/// The longest name of a flow, and the longest key of an affinity, in characters.
const MAX_NAME: usize = 256;

/// How a call is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// How many attempts it may make; 0: as its model's policy says.
    pub max_attempts: usize,
    /// Whether the model's fallbacks must not serve.
    pub no_fallback: bool,
    /// What its stream does when it breaks; none: as its model's policy says.
    pub on_break: Option<OnBreak>,
    /// How long it may take; none: as the service is set.
    pub timeout: Option<Duration>,
    /// The tenant, with a token of an operator; with another it is that token's.
    pub tenant: String,
}

impl Options {
    /// Reads `x-rota-max-attempts`, `x-rota-fallback`, `x-rota-on-break`, `x-rota-timeout`, `x-rota-affinity`,
    /// `x-rota-flow` and `x-rota-tenant`.
    ///
    /// # Errors
    /// The header that says nothing that can be done.
    pub fn read(headers: &HeaderMap) -> Result<Self, FieldError> {
        for name in ["x-rota-affinity", "x-rota-flow"] {
            if value(headers, name)?.is_some_and(|text| text.chars().count() > MAX_NAME) {
                return Err(FieldError::new(name, format!("has at most {MAX_NAME} characters")));
            }
        }
        let max_attempts = match value(headers, "x-rota-max-attempts")? {
            None => 0,
            Some(text) => text
                .parse::<u16>()
                .map(usize::from)
                .map_err(|_| FieldError::new("x-rota-max-attempts", "is a number from 0 to 65535"))?,
        };
        let no_fallback = match value(headers, "x-rota-fallback")? {
            None | Some("true" | "on" | "1") => false,
            Some("false" | "off" | "0") => true,
            Some(_) => return Err(FieldError::new("x-rota-fallback", "is `true` or `false`")),
        };
        let on_break = match value(headers, "x-rota-on-break")? {
            None => None,
            Some("fail") => Some(OnBreak::Fail),
            Some("restart") => Some(OnBreak::Restart),
            Some("continue") => Some(OnBreak::Continue),
            Some(_) => {
                return Err(FieldError::new("x-rota-on-break", "is `fail`, `restart` or `continue`"));
            }
        };
        let timeout = value(headers, "x-rota-timeout")?.map(time).transpose()?;
        let tenant = value(headers, "x-rota-tenant")?.unwrap_or_default().to_owned();
        Ok(Self { max_attempts, no_fallback, on_break, timeout, tenant })
    }
}

fn value<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, FieldError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(FieldError::new(name, "is one text of ASCII characters")),
    }
}

/// Reads seconds, with or without a fraction, or a time with its unit, such as `500ms`.
fn time(text: &str) -> Result<Duration, FieldError> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    time.filter(|time| !time.is_zero() && *time <= MOST).ok_or_else(|| {
        FieldError::new("x-rota-timeout", "is a time above 0 and up to 24h, such as 30 or 500ms")
    })
}

/// The longest time that a call may ask for.
const MOST: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &str) -> Result<Options, String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Options::read(&headers).map_err(|error| error.field)
    }

    #[test]
    fn each_header_says_one_thing() {
        let none = Options::default();
        assert_eq!(Options::read(&HeaderMap::new()), Ok(none.clone()));
        assert_eq!(read("x-rota-max-attempts", "3"), Ok(Options { max_attempts: 3, ..none.clone() }));
        assert_eq!(read("x-rota-fallback", "false"), Ok(Options { no_fallback: true, ..none.clone() }));
        assert_eq!(read("x-rota-fallback", "true"), Ok(none.clone()));
        let on_break = Some(OnBreak::Continue);
        assert_eq!(read("x-rota-on-break", "continue"), Ok(Options { on_break, ..none.clone() }));
        for (text, timeout) in [("30", 30_000), ("0.25", 250), ("500ms", 500), ("2m", 120_000)] {
            let timeout = Some(Duration::from_millis(timeout));
            assert_eq!(read("x-rota-timeout", text), Ok(Options { timeout, ..none.clone() }), "{text}");
        }
        assert_eq!(read("x-rota-flow", "a"), Ok(none));
    }

    #[test]
    fn what_makes_no_sense_names_its_header() {
        for (name, value) in [
            ("x-rota-max-attempts", "-1"),
            ("x-rota-max-attempts", "many"),
            ("x-rota-fallback", "perhaps"),
            ("x-rota-on-break", "BREAK"),
            ("x-rota-timeout", "0"),
            ("x-rota-timeout", "-3"),
            ("x-rota-timeout", "NaN"),
            ("x-rota-timeout", "1e30"),
            ("x-rota-timeout", "25h"),
        ] {
            assert_eq!(read(name, value), Err(name.to_owned()), "{value}");
        }
        assert_eq!(read("x-rota-flow", &"a".repeat(257)), Err("x-rota-flow".to_owned()));
    }
}
