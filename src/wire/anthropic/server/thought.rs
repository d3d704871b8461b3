//! Thinking between a client and the kind of provider that made it.
//!
//! What Anthropic signs goes through as it is. What others need back has no place in the protocol but the signature of a
//! block, or its data where it has no text: `rota1.<kind>.<base64 of JSON>`. Clients hand both back unchanged ("Extended
//! thinking", preserving thinking blocks, <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>).
//!
//! What comes back is a client's word like any other. It says no more than a caller of gRPC may say in `reasoning`. What
//! cannot be read is left out, as the thinking of another kind is.

use crate::wire::{Reasoning, carried::is_kind, tree};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The kind of provider that speaks this protocol. What it signs goes back to it as it came.
pub(super) const KIND: &str = "anthropic";

/// What such a signature begins with.
pub(super) const TAG: &str = "rota1.";

/// Whether the provider that made it speaks this protocol.
pub(super) fn is_own(piece: &Reasoning) -> bool {
    piece.kind == KIND
}

/// Whether it can be told without text alone: what only its provider can read.
pub(super) fn is_opaque(piece: &Reasoning) -> bool {
    piece.text.is_empty() && !(is_own(piece) && piece.data.is_empty())
}

/// Whether nothing is lost without it.
pub(super) fn is_empty(piece: &Reasoning) -> bool {
    piece.text.is_empty() && piece.signature.is_empty() && piece.data.is_empty() && piece.extra.is_empty()
}

/// The block of a whole piece.
pub(super) fn block(piece: &Reasoning) -> Value {
    if is_opaque(piece) {
        let data = if is_own(piece) { piece.data.clone() } else { tagged(piece) };
        return json!({"type": "redacted_thinking", "data": data});
    }
    json!({"type": "thinking", "thinking": piece.text, "signature": signature(piece)})
}

/// The signature of a block with text.
pub(super) fn signature(piece: &Reasoning) -> String {
    if is_own(piece) { piece.signature.clone() } else { tagged(piece) }
}

/// All of a piece but its text.
fn tagged(piece: &Reasoning) -> String {
    let mut fields = piece.fields();
    fields.retain(|name, _| !is_told_beside(name));
    format!("{TAG}{}.{}", piece.kind, BASE64_URL_SAFE_NO_PAD.encode(Value::from(fields).to_string()))
}

/// The piece that a `thinking` block is, at that place of its message.
pub(super) fn signed(text: String, signature: String, place: i32) -> Option<Reasoning> {
    match signature.strip_prefix(TAG) {
        Some(tagged) => Some(Reasoning { text, ..untagged(tagged)? }),
        None => {
            Some(Reasoning { text, signature, kind: KIND.to_owned(), index: place, ..Reasoning::default() })
        }
    }
}

/// The piece that a `redacted_thinking` block is.
pub(super) fn redacted(data: String, place: i32) -> Option<Reasoning> {
    match data.strip_prefix(TAG) {
        Some(tagged) => untagged(tagged),
        None => Some(Reasoning { data, kind: KIND.to_owned(), index: place, ..Reasoning::default() }),
    }
}

fn untagged(text: &str) -> Option<Reasoning> {
    let (kind, text) = text.split_once('.')?;
    // Nobody needs one back whose kind is not known, and Anthropic's own has no tag.
    if kind == KIND || !is_kind(kind) {
        return None;
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let Value::Object(mut fields) = tree::nested(&json).ok()? else { return None };
    fields.retain(|name, _| !is_told_beside(name));
    Some(Reasoning { kind: kind.to_owned(), ..Reasoning::take(&mut fields)? })
        .filter(|piece| piece.index >= 0)
}

/// Whether a field stands beside the JSON: the kind before it, the text in its block.
fn is_told_beside(name: &str) -> bool {
    matches!(name, "kind" | "text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Map;

    fn read(block: &Value, place: i32) -> Option<Reasoning> {
        let text = |name: &str| block[name].as_str().unwrap().to_owned();
        tree::request(b"{}").unwrap();
        if block["type"] == "thinking" {
            signed(text("thinking"), text("signature"), place)
        } else {
            redacted(text("data"), place)
        }
    }

    #[test]
    fn anthropics_own_has_no_tag() {
        let thought = Reasoning {
            text: "hm".into(),
            signature: "c2ln".into(),
            kind: KIND.into(),
            index: 2,
            ..Reasoning::default()
        };
        assert_eq!(block(&thought), json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"}));
        assert_eq!(read(&block(&thought), 2), Some(thought.clone()));
        // Thinking of which Anthropic keeps the text to itself is no redacted one ("Controlling thinking display").
        let kept = Reasoning { text: String::new(), ..thought.clone() };
        assert_eq!(block(&kept), json!({"type": "thinking", "thinking": "", "signature": "c2ln"}));
        let redacted = Reasoning { data: "x".into(), signature: String::new(), ..kept };
        assert_eq!(block(&redacted), json!({"type": "redacted_thinking", "data": "x"}));
        assert_eq!(read(&block(&redacted), 2), Some(redacted));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let encoded = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        for (kind, json) in [
            ("", "{}"),
            ("anthropic", r#"{"signature":"s"}"#),
            ("Gemini", "{}"),
            (&"x".repeat(65), "{}"),
            ("gemini", "[]"),
            ("gemini", "{"),
            ("gemini", r#"{"signature":1}"#),
            ("gemini", r#"{"index":-1}"#),
            ("gemini", r#"{"index":99999999999}"#),
            ("gemini", r#"{"extra":[]}"#),
            ("gemini", r#"{"extra":{"a":1,"a":2}}"#),
        ] {
            let data = format!("{TAG}{kind}.{}", encoded(json));
            tree::request(b"{}").unwrap();
            assert_eq!(redacted(data, 0), None, "{kind} {json}");
        }
        for data in ["rota1.", "rota1.gemini", "rota1.gemini.!", "rota1.gemini.e30=="] {
            assert_eq!(redacted(data.into(), 0), None, "{data}");
        }
        assert!(redacted(format!("{TAG}gemini.{}", encoded("{\"later\":1}")), 0).is_some());
    }

    proptest! {
        #[test]
        fn what_others_made_comes_back(
            text: String, signature: String, data: String, id: String, index in 0..i32::MAX, key: String, value: String,
        ) {
            let extra = Map::from_iter([(key, Value::from(value))]).into();
            let kind = "openai_compatible".to_owned();
            let piece = Reasoning { text, signature, data, id, kind, index, extra };
            prop_assert_eq!(read(&block(&piece), 7), Some(piece));
        }
    }
}
