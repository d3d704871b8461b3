//! The settings of traces.

use super::{
    RawSettings,
    values::{Problems, given},
};
use crate::telemetry::TraceOptions;
use url::Url;

/// What is traced, with the defaults filled in. None if no collector is given.
pub(super) fn resolve(raw: &mut RawSettings, problems: &mut Problems) -> Option<TraceOptions> {
    let sample = raw.trace_sample.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&sample) {
        problems.add("trace-sample", "is a number from 0 to 1");
    }
    let endpoint = given(raw.otlp_endpoint.take())?;
    // The value is not repeated: it may hold a password.
    if !Url::parse(&endpoint).is_ok_and(|url| is_bare(&url)) {
        problems.add("otlp-endpoint", "is not http://HOST:PORT or https://HOST:PORT");
        return None;
    }
    Some(TraceOptions { endpoint, sample })
}

/// Whether it is an address and nothing else. A path or a password would be ignored without a word.
fn is_bare(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
}
