//! An endpoint that no driver knows: `{…}/anything/{…}` returns what came in, for the credentials of any vendor.

use super::{
    Recorded,
    dialect::{Answer, Pieces},
};
use axum::body::Bytes;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use url::form_urlencoded;

/// What would repeat a credential.
const CREDENTIALS: &[&str] = &["authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"];

/// The request as JSON, but for its credentials; in so many pieces where the query says `pieces`.
pub(super) fn answer(request: &Recorded) -> Option<Answer> {
    if !request.path.split('/').any(|segment| segment == "anything") {
        return None;
    }
    let query: Vec<(Cow<str>, Cow<str>)> = form_urlencoded::parse(request.query.as_bytes()).collect();
    let pieces = query.iter().find(|(name, _)| name == "pieces");
    let headers = request.headers.iter().filter(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
    let echo = json!({
        "method": request.method.as_str(),
        "path": request.path,
        // Gemini's key may stand there.
        "query": query.iter().filter(|(name, _)| name != "key").collect::<Vec<_>>(),
        "headers": headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
            .collect::<Map<String, Value>>(),
        "body": request.body,
    });
    Some(match pieces.and_then(|(_, count)| count.parse::<usize>().ok()) {
        Some(count) => {
            let text = echo.to_string();
            let length = text.len().div_ceil(count.max(1));
            let cut = text.as_bytes().chunks(length).map(Bytes::copy_from_slice).collect();
            Answer::Pieces(Pieces::plain("application/json", cut))
        }
        None => Answer::Whole(echo),
    })
}
