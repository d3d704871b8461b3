//! What a provider needs back of its reasoning. The protocol has one field for it, `encrypted_content`, which clients hand
//! back unchanged (<https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items>):
//! `rota1.<base64 of a JSON list of pieces>`. Each piece says which kind of provider made it.
//!
//! What comes back is a client's word like any other. It says no more than a caller of gRPC may say in `reasoning`. What
//! cannot be read is left out, as what another router or OpenAI has written is.

use crate::wire::{Reasoning, carried::is_kind, tree::tree};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

/// What it begins with: whose it is, and the version.
const TAG: &str = "rota1.";

/// Seals pieces. None where nobody needs one of them back.
pub(super) fn seal(pieces: &[Reasoning]) -> Option<String> {
    let told = pieces.iter().filter(|piece| !piece.kind.is_empty());
    let pieces: Vec<Value> = told.map(|piece| piece.fields().into()).collect();
    (!pieces.is_empty())
        .then(|| format!("{TAG}{}", BASE64_URL_SAFE_NO_PAD.encode(Value::from(pieces).to_string())))
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
    let piece = Reasoning::take(&mut fields)?;
    (is_kind(&piece.kind) && fields.is_empty()).then_some(piece)
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
