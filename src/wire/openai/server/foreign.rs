//! What Rota has written for other providers into a conversation, before it goes to a server of OpenAI's API as it came.

use super::thoughts::is_ours;
use crate::wire::tree;
use memchr::memmem;
use serde_json::{Map, Value};

/// The field that holds it.
const FIELD: &str = "reasoning_details";

/// The body without reasoning of other kinds of provider, which Rota has told in answers that it has translated; none where
/// there is none, and the body goes on as it is. Mistral refuses a message with a field that it does not know
/// (<https://github.com/NousResearch/hermes-agent/pull/138>), and so do OpenAI's older models
/// (<https://github.com/openai/openai-node/issues/1161>).
#[must_use]
pub fn without_foreign(body: &[u8]) -> Option<Vec<u8>> {
    memmem::find(body, FIELD.as_bytes())?;
    let mut request = tree::request(body).ok()?;
    let mut found = false;
    for message in request.get_mut("messages")?.as_array_mut()?.iter_mut().filter_map(Value::as_object_mut) {
        found |= strip(message);
    }
    found.then(|| request.to_string().into_bytes())
}

/// Takes it out of one message; whether there was any.
fn strip(message: &mut Map<String, Value>) -> bool {
    let Some(details) = message.get_mut(FIELD).and_then(Value::as_array_mut) else { return false };
    let before = details.len();
    details.retain(|detail| !is_ours(detail));
    let found = details.len() != before;
    if found && details.is_empty() {
        message.shift_remove(FIELD);
        message.shift_remove("reasoning_content");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rota_has_told_is_taken_out() {
        let theirs = r#"{"messages":[{"role":"assistant","reasoning_content":"a","reasoning_details":[{"type":"reasoning.text","index":0}]}],"n":1.50}"#;
        for kept in [
            theirs,
            r#"{"messages":[{"role":"user","content":"reasoning_details"}]}"#,
            "reasoning_details",
            "",
        ] {
            assert_eq!(without_foreign(kept.as_bytes()), None, "{kept}");
        }
        let ours = r#"{"big":12345678901234567890123, "messages":[{"role":"assistant","content":"x","reasoning_content":"a","reasoning_details":[{"type":"reasoning.text","index":0,"place":0}]}],"a":1.50}"#;
        let clean =
            r#"{"big":12345678901234567890123,"messages":[{"role":"assistant","content":"x"}],"a":1.50}"#;
        assert_eq!(without_foreign(ours.as_bytes()).as_deref(), Some(clean.as_bytes()));
    }
}
