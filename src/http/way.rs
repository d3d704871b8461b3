//! The way of a call, in the headers of its answer.

use crate::invoke::Route;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

const CONFIG: HeaderName = HeaderName::from_static("x-rota-config");
const CONFIG_ID: HeaderName = HeaderName::from_static("x-rota-config-id");
const PROVIDER: HeaderName = HeaderName::from_static("x-rota-provider");
const MODEL: HeaderName = HeaderName::from_static("x-rota-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-rota-attempts");
/// What a header cannot hold is percent-encoded, and so is what encodes it.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// Tells the way of a call.
pub fn route_headers(route: &Route, headers: &mut HeaderMap) {
    let texts = [
        (CONFIG, &route.config_name),
        (CONFIG_ID, &route.config_id),
        (PROVIDER, &route.provider),
        (MODEL, &route.model),
    ];
    for (name, text) in texts {
        let text = utf8_percent_encode(text, ENCODED).to_string();
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(&text)) {
            headers.insert(name, value);
        }
    }
    headers.insert(ATTEMPTS, HeaderValue::from(route.attempts.len()));
}
