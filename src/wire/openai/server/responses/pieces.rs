//! What an event says, piece by piece, in the order in which it is told.

use super::super::said;
use crate::wire::{Annotation, ChatEvent, Media, MediaSource, PartKind, Reasoning, ToolCall};
use serde_json::{Value, json};

/// Something that an answer gains.
#[derive(Debug)]
pub(super) enum Piece {
    /// Reasoning: its text, and what its provider needs back.
    Reasoning(String, Vec<Reasoning>),
    /// Text, and its log probabilities.
    Text(String, Vec<Value>),
    /// A refusal.
    Refusal(String),
    /// What the text refers to.
    Annotation(Value),
    /// An image.
    Image(Vec<u8>, String),
    /// A call of a tool, or a fragment of one.
    Call(ToolCall),
}

/// A value takes about so many bytes beside its text.
const OF_VALUE: usize = 1 << 10;

impl Piece {
    /// About how many bytes are kept of it.
    pub(super) fn size(&self) -> usize {
        let of_reasoning = |piece: &Reasoning| {
            OF_VALUE
                + piece.text.len()
                + piece.signature.len()
                + piece.data.len()
                + piece.extra.len() * OF_VALUE
        };
        match self {
            Self::Reasoning(text, pieces) => text.len() + pieces.iter().map(of_reasoning).sum::<usize>(),
            Self::Text(text, logprobs) => text.len() + logprobs.len() * OF_VALUE,
            Self::Refusal(text) => text.len(),
            Self::Annotation(_) => OF_VALUE,
            Self::Image(bytes, _) => bytes.len() / 3 * 4,
            Self::Call(call) => call.name.len() + call.arguments.len(),
        }
    }
}

/// The pieces of an event. Media that the protocol has no item for are left out.
pub(super) fn pieces(event: ChatEvent) -> Vec<Piece> {
    let ChatEvent { content, reasoning_content, reasoning, refusal, tool_calls, rare, .. } = event;
    let rare = rare.map(|rare| *rare).unwrap_or_default();
    let mut pieces = Vec::with_capacity(1);
    if !(reasoning_content.is_empty() && reasoning.is_empty()) {
        pieces.push(Piece::Reasoning(reasoning_content, reasoning));
    }
    if !content.is_empty() {
        pieces.push(Piece::Text(content, logprobs(rare.logprobs.as_deref())));
    }
    if !refusal.is_empty() {
        pieces.push(Piece::Refusal(refusal));
    }
    pieces.extend(rare.annotations.into_iter().filter_map(annotation).map(Piece::Annotation));
    for part in rare.parts {
        if let PartKind::Image(Media { source: MediaSource::Data(bytes), mime_type, .. }) = part.kind {
            pieces.push(Piece::Image(bytes, mime_type));
        }
    }
    pieces.extend(tool_calls.into_iter().map(Piece::Call));
    pieces
}

/// Log probabilities of whichever vendor.
fn logprobs(given: Option<&Value>) -> Vec<Value> {
    match said::logprobs(given).get_mut("content").map(Value::take) {
        Some(Value::Array(tokens)) => tokens,
        _ => Vec::new(),
    }
}

/// A reference to an address; others are ids at one provider. Where in the text it belongs, few providers say.
fn annotation(annotation: Annotation) -> Option<Value> {
    let Annotation { url, title, json, kind, .. } = annotation;
    if url.is_empty() {
        return None;
    }
    let fields = json.get(&kind).unwrap_or(&json);
    let index = |name: &str| fields.get(name).and_then(Value::as_u64).unwrap_or(0);
    let title = if title.is_empty() { url.clone() } else { title };
    Some(json!({
        "type": "url_citation", "url": url, "title": title, "start_index": index("start_index"),
        "end_index": index("end_index"),
    }))
}
