//! Reasoning as JSON, in which doors carry what a provider needs back through clients of another protocol. Each door wraps
//! it in a form that its clients hand back unchanged, and bounds what comes back: it is a client's word like any other.

use super::Reasoning;
use serde_json::{Map, Value};

/// The names of kinds are not longer.
const LONGEST_KIND: usize = 64;

impl Reasoning {
    /// All of it that is there.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let Self { text, signature, data, id, kind, index, extra } = self;
        let texts = [("kind", kind), ("text", text), ("signature", signature), ("data", data), ("id", id)];
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
        let mut fields: Map<_, _> =
            texts.map(|(name, text)| (name.to_owned(), text.as_str().into())).collect();
        if *index != 0 {
            fields.insert("index".to_owned(), (*index).into());
        }
        if !extra.is_empty() {
            fields.insert("extra".to_owned(), extra.clone().into());
        }
        fields
    }

    /// Takes a piece out of such fields. What is left is none of it. None where a field is of another type.
    pub(super) fn take(fields: &mut Map<String, Value>) -> Option<Self> {
        let mut text = |name: &str| match fields.shift_remove(name) {
            None => Some(String::new()),
            Some(Value::String(text)) => Some(text),
            Some(_) => None,
        };
        let mut piece = Self {
            kind: text("kind")?,
            text: text("text")?,
            signature: text("signature")?,
            data: text("data")?,
            id: text("id")?,
            ..Self::default()
        };
        if let Some(index) = fields.shift_remove("index") {
            piece.index = i32::try_from(index.as_i64()?).ok()?;
        }
        match fields.shift_remove("extra") {
            None => {}
            Some(Value::Object(extra)) => piece.extra = extra.into(),
            Some(_) => return None,
        }
        Some(piece)
    }
}

/// Whether a text can be the name of a kind of provider.
pub(super) fn is_kind(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=LONGEST_KIND).contains(&name.len()) && name.bytes().all(is_part)
}
