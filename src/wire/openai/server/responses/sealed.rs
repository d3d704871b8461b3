//! What a provider needs back of its reasoning. The protocol has one field for it, `encrypted_content`, which clients hand
//! back unchanged (<https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items>):
//! `rota1.<base64 of a JSON list of pieces>`. Each piece says which kind of provider made it.
//!
//! What comes back is a client's word like any other. It says no more than a caller of gRPC may say in `reasoning`. What
//! cannot be read is left out, as what another router or OpenAI has written is.

use crate::wire::{Reasoning, tree::tree};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// What it begins with: whose it is, and the version.
const TAG: &str = "rota1.";

/// The names of kinds are not longer.
const LONGEST_KIND: usize = 64;

/// Seals pieces. None where nobody needs one of them back.
pub(super) fn seal(pieces: &[Reasoning]) -> Option<String> {
    let pieces: Vec<Value> = pieces.iter().filter(|piece| !piece.kind.is_empty()).map(fields).collect();
    (!pieces.is_empty())
        .then(|| format!("{TAG}{}", BASE64_URL_SAFE_NO_PAD.encode(Value::from(pieces).to_string())))
}

fn fields(piece: &Reasoning) -> Value {
    let Reasoning { text, signature, data, id, kind, index, extra } = piece;
    let texts = [("kind", kind), ("text", text), ("signature", signature), ("data", data), ("id", id)];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    let mut fields: Map<_, _> = texts.map(|(name, text)| (name.to_owned(), text.as_str().into())).collect();
    if *index != 0 {
        fields.insert("index".to_owned(), (*index).into());
    }
    if !extra.is_empty() {
        fields.insert("extra".to_owned(), extra.clone().into());
    }
    fields.into()
}

/// Opens what was sealed; nothing where it was not sealed here. Its values count among those of the request.
pub(super) fn open(text: &str) -> Vec<Reasoning> {
    let read = || {
        let json = BASE64_URL_SAFE_NO_PAD.decode(text.strip_prefix(TAG)?).ok()?;
        let mut json = serde_json::Deserializer::from_slice(&json);
        let value = tree(&mut json).ok()?;
        json.end().ok()?;
        let Value::Array(pieces) = value else { return None };
        pieces.into_iter().map(piece).collect::<Option<Vec<_>>>()
    };
    read().unwrap_or_default()
}

fn piece(value: Value) -> Option<Reasoning> {
    let Value::Object(mut fields) = value else { return None };
    let mut text = |name: &str| match fields.shift_remove(name) {
        None => Some(String::new()),
        Some(Value::String(text)) => Some(text),
        Some(_) => None,
    };
    let mut piece = Reasoning {
        kind: text("kind")?,
        text: text("text")?,
        signature: text("signature")?,
        data: text("data")?,
        id: text("id")?,
        ..Reasoning::default()
    };
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if piece.kind.is_empty() || piece.kind.len() > LONGEST_KIND || !piece.kind.bytes().all(is_name) {
        return None;
    }
    if let Some(index) = fields.shift_remove("index") {
        piece.index = i32::try_from(index.as_i64()?).ok()?;
    }
    match fields.shift_remove("extra") {
        None => {}
        Some(Value::Object(extra)) => piece.extra = extra.into(),
        Some(_) => return None,
    }
    fields.is_empty().then_some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn sealed(json: &Value) -> String {
        format!("{TAG}{}", BASE64_URL_SAFE_NO_PAD.encode(json.to_string()))
    }

    #[test]
    fn what_was_sealed_is_opened() {
        let signed = Reasoning {
            text: "hm".into(),
            signature: "s".into(),
            kind: "anthropic".into(),
            index: 2,
            ..Reasoning::default()
        };
        let extra = json!({"type": "reasoning.text", "n": 1.50}).as_object().unwrap().clone();
        let keyed = Reasoning {
            data: "d".into(),
            id: "call_1".into(),
            kind: "openai_compatible".into(),
            extra: extra.into(),
            ..Reasoning::default()
        };
        let nobodys = Reasoning { text: "x".into(), ..Reasoning::default() };
        assert_eq!(seal(std::slice::from_ref(&nobodys)), None);
        let pieces = [signed.clone(), nobodys, keyed.clone()];
        assert_eq!(open(&seal(&pieces).unwrap()), [signed, keyed]);
    }

    #[test]
    fn what_was_not_sealed_here_is_nothing() {
        let table = [
            "gAAAAABo".to_owned(),
            "rota1.".to_owned(),
            "rota1.!".to_owned(),
            "rota2.W10".to_owned(),
            sealed(&json!({"kind": "anthropic"})),
            sealed(&json!([1])),
            sealed(&json!([{"text": "of nobody"}])),
            sealed(&json!([{"kind": "An\nthropic"}])),
            sealed(&json!([{"kind": "a".repeat(65)}])),
            sealed(&json!([{"kind": "gemini", "signature": 1}])),
            sealed(&json!([{"kind": "gemini", "index": 1e9}])),
            sealed(&json!([{"kind": "gemini", "extra": []}])),
            sealed(&json!([{"kind": "gemini", "more": 1}])),
            sealed(&json!([{"kind": "gemini", "extra": "["}, {"kind": "gemini"}])),
        ];
        for text in table {
            assert_eq!(open(&text), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(text: String, bytes: Vec<u8>) {
            open(&text);
            open(&format!("{TAG}{}", BASE64_URL_SAFE_NO_PAD.encode(&bytes)));
        }
    }
}
