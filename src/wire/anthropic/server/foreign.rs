//! What Rota has written for other providers into a conversation, before it goes to Anthropic as it came.

use super::thought::TAG;
use crate::wire::tree;
use memchr::memmem;
use serde_json::Value;

/// The body without thinking that other kinds of provider have made; none where there is none, and the body goes on as it
/// is. Anthropic refuses a signature that is not its own with 400, and then every turn of the conversation
/// (<https://github.com/NousResearch/hermes-agent/issues/24401>).
#[must_use]
pub fn without_foreign(body: &[u8]) -> Option<Vec<u8>> {
    if !has_tag(body) {
        return None;
    }
    let mut request = tree::request(body).ok()?;
    let mut found = false;
    for message in request.get_mut("messages")?.as_array_mut()? {
        if let Some(blocks) = message.get_mut("content").and_then(Value::as_array_mut) {
            let before = blocks.len();
            blocks.retain(|block| !is_foreign(block));
            found |= blocks.len() != before;
        }
    }
    found.then(|| request.to_string().into_bytes())
}

/// Whether the tag stands anywhere. Every body is searched.
fn has_tag(body: &[u8]) -> bool {
    memmem::find(body, TAG.as_bytes()).is_some()
}

fn is_foreign(block: &Value) -> bool {
    let field = match block.get("type").and_then(Value::as_str) {
        Some("thinking") => "signature",
        Some("redacted_thinking") => "data",
        _ => return false,
    };
    block.get(field).and_then(Value::as_str).is_some_and(|text| text.starts_with(TAG))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_tag_is_found_anywhere(text in "[rota1. ]{0,40}") {
            proptest::prop_assert_eq!(has_tag(text.as_bytes()), text.contains(TAG));
        }
    }

    #[test]
    fn only_what_others_made_is_taken_out() {
        let kept = r#"{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"s"}, {"type":"text","text":"rota1."}]}],"n":1.50}"#;
        assert_eq!(without_foreign(kept.as_bytes()), None);
        assert_eq!(without_foreign(b"rota1."), None);
        let mixed = r#"{"big":12345678901234567890123,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[
            {"type":"thinking","thinking":"a","signature":"rota1.gemini.e30"},
            {"type":"redacted_thinking","data":"rota1.gemini.e30"},
            {"type":"thinking","thinking":"b","signature":"s"},
            {"type":"text","text":"t"}]}],"a":1.50}"#;
        let clean = r#"{"big":12345678901234567890123,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"thinking","thinking":"b","signature":"s"},{"type":"text","text":"t"}]}],"a":1.50}"#;
        assert_eq!(String::from_utf8(without_foreign(mixed.as_bytes()).unwrap()).unwrap(), clean);
    }
}
