//! What an event says, piece by piece, in the order in which it is told.

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

/// The pieces of an event. Media that the protocol has no item for are left out.
pub(super) fn pieces(event: ChatEvent) -> Vec<Piece> {
    let ChatEvent { content, reasoning_content, reasoning, refusal, tool_calls, rare, .. } = event;
    let rare = rare.map(|rare| *rare).unwrap_or_default();
    let mut pieces = Vec::with_capacity(1);
    if !(reasoning_content.is_empty() && reasoning.is_empty()) {
        pieces.push(Piece::Reasoning(reasoning_content, reasoning));
    }
    if !content.is_empty() {
        let logprobs = rare.logprobs.and_then(|mut all| all.get_mut("content").map(Value::take));
        let logprobs = logprobs.and_then(|all| if let Value::Array(all) = all { Some(all) } else { None });
        pieces.push(Piece::Text(content, logprobs.unwrap_or_default()));
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
