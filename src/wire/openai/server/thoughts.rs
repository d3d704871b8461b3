//! The model's reasoning, which OpenAI's chat has no field for. Its text goes out as `reasoning_content`, DeepSeek's name
//! (<https://api-docs.deepseek.com/guides/reasoning_model>), which Dify, LangChain and LiteLLM read. What the provider needs
//! back goes out as `reasoning_details`, as OpenRouter has it
//! (<https://openrouter.ai/docs/guides/best-practices/reasoning-tokens#preserving-reasoning>): who sends a message back as it
//! came keeps the signatures.
//!
//! The same is read in a request, and so are LiteLLM's `thinking_blocks` (<https://docs.litellm.ai/docs/reasoning_content>)
//! and the signatures that Gemini puts at tool calls where it speaks OpenAI's API
//! (<https://ai.google.dev/gemini-api/docs/thought-signatures>).

use super::fields::{Fields, Path};
use crate::wire::{FieldError, Reasoning};
use serde_json::{Map, Value};

/// OpenRouter's names of formats, and the kinds of provider whose they are.
const FORMATS: &[(&str, &str)] = &[("anthropic-claude-v1", "anthropic"), ("google-gemini-v1", "gemini")];

/// In a detail: the place of the piece among the parts of the message, where that is not its place among the details.
const PLACE: &str = "place";

/// Reads the reasoning of a message: its text, and its pieces.
pub(super) fn read(fields: &mut Fields<'_>, at: &Path<'_>) -> Result<(String, Vec<Reasoning>), FieldError> {
    let mut text = String::new();
    for name in ["reasoning_content", "reasoning"] {
        // Beside the first the other says the same again.
        if let Some(said) = fields.text(name)?.filter(|_| text.is_empty()) {
            text = said;
        }
    }
    let mut pieces = all(fields, "reasoning_details", at, detail)?;
    let blocks = all(fields, "thinking_blocks", at, block)?;
    if pieces.is_empty() {
        pieces = blocks;
    }
    Ok((text, pieces))
}

fn all(
    fields: &mut Fields<'_>,
    name: &str,
    at: &Path<'_>,
    read: impl Fn(Fields<'_>, i32) -> Result<Option<Reasoning>, FieldError>,
) -> Result<Vec<Reasoning>, FieldError> {
    let at = at.key(name);
    let mut pieces = Vec::new();
    for (place, item) in fields.list(name)?.into_iter().enumerate() {
        let here = at.item(place);
        pieces.extend(read(Fields::of(item, &here)?, i32::try_from(place).unwrap_or(i32::MAX))?);
    }
    Ok(pieces)
}

/// None where its format is nobody's that Rota gives it back to.
fn detail(mut fields: Fields<'_>, place: i32) -> Result<Option<Reasoning>, FieldError> {
    let format = fields.text("format")?.unwrap_or_default();
    let mut text = |name: &str| Ok::<_, FieldError>(fields.text(name)?.unwrap_or_default());
    let mut piece = Reasoning {
        text: text("text")?,
        signature: text("signature")?,
        data: text("data")?,
        id: text("id")?,
        ..Reasoning::default()
    };
    let given = fields.count(PLACE)?.or(fields.count("index")?);
    piece.index = given.and_then(|index| i32::try_from(index).ok()).unwrap_or(place);
    let kind = FORMATS.iter().find(|(name, _)| *name == format).map(|(_, kind)| *kind);
    // What Gemini signs with is what OpenRouter calls encrypted.
    if kind == Some("gemini") && piece.signature.is_empty() {
        piece.signature = std::mem::take(&mut piece.data);
    }
    Ok(kind.map(|kind| Reasoning { kind: kind.to_owned(), ..piece }))
}

/// A block as Anthropic has it.
fn block(mut fields: Fields<'_>, place: i32) -> Result<Option<Reasoning>, FieldError> {
    let mut text = |name: &str| Ok::<_, FieldError>(fields.text(name)?.unwrap_or_default());
    Ok(Some(Reasoning {
        text: text("thinking")?,
        signature: text("signature")?,
        data: text("data")?,
        kind: "anthropic".to_owned(),
        index: place,
        ..Reasoning::default()
    }))
}

/// The signature that stands at a tool call, in Google's place or in LiteLLM's
/// (<https://docs.litellm.ai/blog/gemini_3>).
pub(super) fn of_call(call: &Map<String, Value>, id: &str) -> Option<Reasoning> {
    let google = call.get("extra_content").and_then(|extra| extra.pointer("/google/thought_signature"));
    let litellm = call.get("provider_specific_fields").and_then(|extra| extra.get("thought_signature"));
    let signature = google.or(litellm)?.as_str()?;
    Some(Reasoning {
        signature: signature.to_owned(),
        id: id.to_owned(),
        kind: "gemini".to_owned(),
        ..Reasoning::default()
    })
}

/// What a choice has told of its pieces of reasoning.
#[derive(Default)]
pub(super) struct Told {
    /// The pieces' places, in the order in which they began, and whether the id was told.
    pieces: Vec<(i32, bool)>,
}

impl Told {
    /// The details that these pieces, or fragments of some, are. A list of fragments is joined by `index`, which therefore
    /// counts the pieces, and all that is text is appended: what is no fragment is told once (`accumulate_delta` in
    /// OpenAI's Python client, <https://github.com/openai/openai-python/blob/main/src/openai/lib/streaming/_deltas.py>).
    pub(super) fn details(&mut self, pieces: &[Reasoning]) -> Vec<Value> {
        pieces.iter().filter_map(|piece| self.detail(piece)).collect()
    }

    /// Takes note of pieces that were told by others.
    pub(super) fn heard(&mut self, pieces: &[Reasoning]) {
        self.details(pieces);
    }

    fn detail(&mut self, piece: &Reasoning) -> Option<Value> {
        let (format, _) = FORMATS.iter().find(|(_, kind)| *kind == piece.kind)?;
        let known = self.pieces.iter().position(|(place, _)| *place == piece.index);
        let number = known.unwrap_or(self.pieces.len());
        let kind = if piece.data.is_empty() { "reasoning.text" } else { "reasoning.encrypted" };
        let mut out = Map::new();
        out.insert("type".to_owned(), kind.into());
        out.insert("index".to_owned(), number.into());
        if known.is_none() {
            self.pieces.push((piece.index, false));
            out.insert("format".to_owned(), (*format).into());
            if usize::try_from(piece.index).ok() != Some(number) {
                out.insert(PLACE.to_owned(), piece.index.into());
            }
        }
        for (name, text) in [("text", &piece.text), ("data", &piece.data), ("signature", &piece.signature)] {
            if !text.is_empty() {
                out.insert(name.to_owned(), text.clone().into());
            }
        }
        let id_told = self.pieces.get_mut(number).map(|(_, told)| told);
        if let Some(told) = id_told.filter(|told| !**told && !piece.id.is_empty()) {
            *told = true;
            out.insert("id".to_owned(), piece.id.clone().into());
        }
        Some(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_message(message: Value) -> Result<(String, Vec<Reasoning>), FieldError> {
        let root = Path::Root;
        let at = root.key("messages").item(0).to_string();
        assert_eq!(at, "messages[0]");
        read(&mut Fields::of(message, &root)?, &root)
    }

    #[test]
    fn what_goes_out_comes_back_as_it_was() {
        let piece = |index, text: &str, signature: &str, data: &str, id: &str, kind: &str| Reasoning {
            index,
            text: text.into(),
            signature: signature.into(),
            data: data.into(),
            id: id.into(),
            kind: kind.into(),
            ..Reasoning::default()
        };
        for pieces in [
            vec![piece(0, "hm", "s", "", "", "anthropic"), piece(2, "", "", "x", "", "anthropic")],
            vec![piece(0, "hm", "", "", "", "gemini"), piece(3, "", "s", "", "call_1", "gemini")],
        ] {
            let details = Told::default().details(&pieces);
            let message = json!({"reasoning_content": "hm", "reasoning": "hm", "reasoning_details": details});
            assert_eq!(read_message(message).unwrap(), ("hm".to_owned(), pieces));
        }
        let others = piece(0, "hm", "s", "", "", "cohere");
        assert!(Told::default().details(&[others]).is_empty());
    }

    #[test]
    fn fragments_can_be_joined() {
        let mut told = Told::default();
        let text = |text: &str, signature: &str| Reasoning {
            text: text.into(),
            signature: signature.into(),
            index: 1,
            kind: "anthropic".into(),
            ..Reasoning::default()
        };
        let said =
            [text("h", ""), text("m", ""), text("", "s")].map(|piece| told.details(&[piece]).remove(0));
        let expected = json!([
            {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1", "place": 1, "text": "h"},
            {"type": "reasoning.text", "index": 0, "text": "m"},
            {"type": "reasoning.text", "index": 0, "signature": "s"},
        ]);
        assert_eq!(Value::from(said.to_vec()), expected);
    }

    #[test]
    fn what_others_call_it_is_read() {
        let blocks = json!([
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
        ]);
        let (_, pieces) = read_message(json!({ "thinking_blocks": blocks })).unwrap();
        let seen: Vec<_> = pieces.iter().map(|piece| (&*piece.text, &*piece.data, piece.index)).collect();
        assert_eq!(seen, [("hm", "", 0), ("", "x", 1)]);
        let encrypted =
            json!([{"type": "reasoning.encrypted", "data": "s", "format": "google-gemini-v1", "id": "c"}]);
        let (_, pieces) = read_message(json!({ "reasoning_details": encrypted })).unwrap();
        assert_eq!((&*pieces[0].signature, &*pieces[0].id, &*pieces[0].kind), ("s", "c", "gemini"));
        for call in [
            json!({"extra_content": {"google": {"thought_signature": "s"}}}),
            json!({"provider_specific_fields": {"thought_signature": "s"}}),
        ] {
            let piece = of_call(call.as_object().unwrap(), "c").unwrap();
            assert_eq!((&*piece.signature, &*piece.id, &*piece.kind), ("s", "c", "gemini"));
        }
        assert!(of_call(&Map::new(), "c").is_none());
        assert_eq!(
            read_message(json!({"reasoning_details": [1]})).unwrap_err().field,
            "reasoning_details[0]"
        );
    }
}
