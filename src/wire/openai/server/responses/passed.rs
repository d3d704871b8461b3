//! What must be known of a stream that a provider has written, so that an error or another provider's words fit behind it:
//! the ids, the places and the numbers of its events.

use serde::Deserialize;
use std::borrow::Cow;

/// What a frame says of all that.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed<'f> {
    /// Its event's type.
    pub(super) name: Cow<'f, str>,
    /// Its number.
    pub(super) sequence: Option<u64>,
    /// The response's id, and when it was created.
    pub(super) response: Option<(String, u64)>,
    /// The place of an item that begins, and its id where it can be gone on with.
    pub(super) item: Option<(usize, Option<String>)>,
    /// Whether the stream ends with it.
    pub(super) is_end: bool,
}

#[derive(Deserialize)]
struct Event<'f> {
    #[serde(borrow, default)]
    r#type: Cow<'f, str>,
    #[serde(borrow, default)]
    response: Option<Response<'f>>,
    #[serde(default)]
    output_index: usize,
    #[serde(borrow, default)]
    item: Option<Item<'f>>,
}

#[derive(Deserialize)]
struct Response<'f> {
    #[serde(borrow, default)]
    id: Cow<'f, str>,
    #[serde(default)]
    created_at: f64,
}

#[derive(Deserialize)]
struct Item<'f> {
    #[serde(borrow, default)]
    r#type: Cow<'f, str>,
    #[serde(borrow, default)]
    id: Cow<'f, str>,
}

/// The items that another provider's words can go on with.
const COMMON: &[&str] = &["message", "reasoning", "function_call", "custom_tool_call"];

/// The events that a stream ends with.
const ENDS: &[&str] = &["response.completed", "response.incomplete", "response.failed", "error"];

/// Reads what a frame says. Most are not read: there are many of them.
pub(super) fn note<'f>(name: &'f str, data: &'f [u8]) -> Passed<'f> {
    let read = || serde_json::from_slice::<Event<'f>>(data).ok();
    let mut passed = Passed { name: name.into(), sequence: sequence(data), ..Passed::default() };
    let mut event = None;
    if name.is_empty() {
        event = read();
        if let Some(event) = &event {
            passed.name.clone_from(&event.r#type);
        }
    }
    passed.is_end = ENDS.contains(&&*passed.name);
    if !matches!(&*passed.name, "response.created" | "response.output_item.added") {
        return passed;
    }
    let Some(event) = event.or_else(read) else { return passed };
    // The cast saturates.
    passed.response = event.response.map(|response| (response.id.into_owned(), response.created_at as u64));
    passed.item = event.item.map(|item| {
        let id = COMMON.contains(&&*item.r#type).then(|| item.id.into_owned());
        (event.output_index, id)
    });
    passed
}

const KEY: &[u8] = b"\"sequence_number\":";

/// So far from the beginning or the end of a frame its number is looked for.
const NEAR: usize = 256;

fn sequence(data: &[u8]) -> Option<u64> {
    let start = data.get(..NEAR).unwrap_or(data);
    let end = data.get(data.len().saturating_sub(NEAR)..).unwrap_or(data);
    [start, end].into_iter().find_map(|part| {
        let place = part.windows(KEY.len()).position(|window| window == KEY)?;
        let rest = part.get(place + KEY.len()..)?.trim_ascii_start();
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_can_fit() {
        let created =
            br#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","created_at":7}}"#;
        let passed = note("", created);
        assert_eq!((&*passed.name, passed.sequence), ("response.created", Some(0)));
        assert_eq!(passed.response, Some(("resp_1".into(), 7)));
        let added = br#"{"output_index":3,"item":{"type":"message","id":"msg_1"},"sequence_number": 12}"#;
        let passed = note("response.output_item.added", added);
        assert_eq!((passed.sequence, passed.item), (Some(12), Some((3, Some("msg_1".into())))));
        let hosted = br#"{"output_index":3,"item":{"type":"web_search_call","id":"ws_1"}}"#;
        assert_eq!(note("response.output_item.added", hosted).item, Some((3, None)));
        let long = format!(r#"{{"delta":"{}","sequence_number":9}}"#, "x".repeat(1000));
        let passed = note("response.output_text.delta", long.as_bytes());
        assert_eq!((passed.sequence, passed.is_end), (Some(9), false));
        for name in ENDS {
            assert!(note(name, b"{}").is_end);
        }
        for odd in ["", "[DONE]", "{\"sequence_number\":-1}", "{\"sequence_number\":\"", "{\"type\":1}"] {
            assert_eq!(note("", odd.as_bytes()).sequence, None, "{odd}");
        }
    }
}
