//! The trace that a caller's metadata names.

use http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// A caller's `tracestate` that is longer is dropped.
const MAX_STATE: usize = 512;

/// The context that the caller's span belongs to; an empty one if `headers` name none.
pub(super) fn context(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Caller(headers))
}

struct Caller<'a>(&'a HeaderMap);

impl Extractor for Caller<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(key).iter();
        let value = values.next()?.to_str().ok()?;
        // Two values are as good as none.
        let fits = values.next().is_none() && (key != "tracestate" || value.len() <= MAX_STATE);
        fits.then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TraceContextExt;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// The trace and the state that are continued.
    fn taken(headers: &[(&'static str, &str)]) -> Option<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let context = context(&map);
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id().to_string(), ids.trace_state().header()))
    }

    #[test]
    fn a_callers_trace_is_continued_if_there_is_one() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let with = |state: &str| Some((trace.to_owned(), state.to_owned()));
        assert_eq!(taken(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")]), with("a=1,b=2"));
        let long = format!("a={}", "1".repeat(MAX_STATE));
        for state in [long.as_str(), "no state", ""] {
            assert_eq!(taken(&[("traceparent", PARENT), ("tracestate", state)]), with(""), "{state}");
        }
        for parent in ["", "00-00-00-01", &PARENT.to_uppercase(), &PARENT.replace('-', "_")] {
            assert_eq!(taken(&[("traceparent", parent)]), None, "{parent}");
        }
        assert_eq!(taken(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        assert_eq!(taken(&[("tracestate", "a=1")]), None);
    }
}
