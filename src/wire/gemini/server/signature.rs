//! What other kinds of provider need back of their reasoning, within Gemini's signatures.
//!
//! A client of Gemini's hands a part's `thoughtSignature` back as it came ("Thought signatures",
//! <https://ai.google.dev/gemini-api/docs/thought-signatures>). So the reasoning of another kind travels in one: marked,
//! whole, and as bytes in base64, of which some SDKs change the alphabet. A client could write one by itself. It says nothing
//! then that it could not say to the provider otherwise; what has not the right form is refused.

use crate::wire::{Reasoning, Tree, carried::is_kind};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use serde::de::DeserializeSeed as _;
use serde_json::Value;

/// What a signature of ours begins with. In base64 these six bytes are eight characters, whatever follows.
const MARK: &str = "rota:1";

/// One message's reasoning is not longer, in bytes.
pub(super) const LONGEST: usize = 4 << 20;

/// So many pieces of reasoning has one message.
const MOST_PIECES: usize = 4096;

/// Either alphabet, with padding or without.
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// A signature that holds these pieces.
pub(super) fn pack(pieces: &[Reasoning]) -> String {
    let pieces: Vec<Value> = pieces.iter().map(|piece| piece.fields().into()).collect();
    BASE64_STANDARD.encode(format!("{MARK}{}", Value::Array(pieces)))
}

/// Whether a signature is marked.
pub(super) fn is_packed(signature: &str) -> bool {
    signature.starts_with(&BASE64_STANDARD.encode(MARK))
}

/// The pieces in a signature that is marked; none where it is not of the right form.
pub(super) fn unpack(signature: &str) -> Option<Vec<Reasoning>> {
    // Four characters are three bytes.
    if signature.len() / 4 * 3 > 2 * LONGEST {
        return None;
    }
    let bytes = STANDARD.decode(signature).or_else(|_| URL_SAFE.decode(signature)).ok()?;
    let json = bytes.strip_prefix(MARK.as_bytes())?;
    // It counts as a part of the request that it came in.
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = Tree::Counted.deserialize(&mut json).ok()?;
    json.end().ok()?;
    match value {
        Value::Array(pieces) if pieces.len() <= MOST_PIECES => pieces.into_iter().map(piece).collect(),
        _ => None,
    }
}

fn piece(value: Value) -> Option<Reasoning> {
    let Value::Object(mut fields) = value else { return None };
    let piece = Reasoning::take(&mut fields)?;
    let is_placed = usize::try_from(piece.index).is_ok_and(|index| index <= MOST_PIECES);
    (is_kind(&piece.kind) && is_placed && fields.is_empty()).then_some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    fn decoded(signature: &str) -> Vec<u8> {
        BASE64_STANDARD.decode(signature).unwrap()
    }

    #[test]
    fn what_is_packed_comes_back_in_any_alphabet() {
        let pieces = vec![
            Reasoning {
                kind: "anthropic".into(),
                text: "hm ÿÿÿ???>>>".into(),
                signature: "EqMB+/=".into(),
                ..Reasoning::default()
            },
            Reasoning {
                kind: "openai".into(),
                data: "secret".into(),
                id: "rs_1".into(),
                index: 2,
                extra: json!({"type": "reasoning.encrypted"}).as_object().unwrap().clone().into(),
                ..Reasoning::default()
            },
        ];
        let packed = pack(&pieces);
        assert!(is_packed(&packed) && packed.contains('+') | packed.contains('/'), "{packed}");
        for text in [
            packed.clone(),
            BASE64_URL_SAFE.encode(decoded(&packed)),
            BASE64_URL_SAFE_NO_PAD.encode(decoded(&packed)),
        ] {
            assert!(is_packed(&text));
            assert_eq!(unpack(&text), Some(pieces.clone()));
        }
    }

    #[test]
    fn what_has_not_the_form_is_not_believed() {
        let marked = |json: &str| BASE64_STANDARD.encode(format!("{MARK}{json}"));
        assert_eq!(unpack(&marked("[]")), Some(Vec::new()));
        for json in [
            "",
            "{}",
            "[1]",
            "[{}]",
            r#"[{"kind":""}]"#,
            r#"[{"kind":"Anthropic"}]"#,
            r#"[{"kind":"a","text":1}]"#,
            r#"[{"kind":"a","index":-1}]"#,
            r#"[{"kind":"a","index":5000}]"#,
            r#"[{"kind":"a","extra":[]}]"#,
            r#"[{"kind":"a","new":1}]"#,
        ] {
            assert!(is_packed(&marked(json)));
            assert_eq!(unpack(&marked(json)), None, "{json}");
        }
        let cut = marked(r#"[{"kind":"a"}]"#);
        assert_eq!(unpack(&cut[..cut.len() - 6]), None);
        assert!(!is_packed("skip_thought_signature_validator"));
        assert!(!is_packed("EqMBCkYIBxgCKkDc"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC*", bytes: Vec<u8>) {
            let _ = unpack(&text);
            let mut marked = MARK.as_bytes().to_vec();
            marked.extend(bytes);
            let _ = unpack(&BASE64_STANDARD.encode(marked));
        }
    }
}
