//! The items of an answer, as they grow, and the events that say so (API reference, "Streaming events":
//! <https://platform.openai.com/docs/api-reference/responses-streaming>). The order is what the accumulator of OpenAI's
//! Python client asks for (`openai/lib/streaming/responses/_responses.py`): an item is added before its parts, a part before
//! its deltas, and what is done says again all that it has become.
//!
//! Invariant: one item is open at a time. A call of a tool stays open until its arguments are whole, and what comes
//! meanwhile waits.

use super::{pieces::Piece, sealed};
use crate::wire::{Nesting, Reasoning, ToolCall};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};

/// Writes events, or nothing where another has written them.
pub(super) struct Pen<'o> {
    out: Option<&'o mut Vec<u8>>,
    /// The number of the next event.
    pub(super) sequence: u64,
}

#[derive(Serialize)]
struct Event<'e, B> {
    r#type: &'e str,
    sequence_number: u64,
    #[serde(flatten)]
    body: B,
}

impl<'o> Pen<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>, sequence: u64) -> Self {
        Self { out: Some(out), sequence }
    }

    /// One that writes nothing.
    pub(super) const fn silent() -> Self {
        Self { out: None, sequence: 0 }
    }

    /// Writes an event.
    pub(super) fn send(&mut self, name: &str, body: impl Serialize) {
        let Some(out) = &mut self.out else { return };
        let event = Event { r#type: name, sequence_number: self.sequence, body };
        let Ok(data) = serde_json::to_vec(&event) else { return };
        self.sequence = self.sequence.saturating_add(1);
        frame(name, &data, out);
    }
}

/// A frame with that name and these data, which have no line ends.
pub(super) fn frame(name: &str, data: &[u8], out: &mut Vec<u8>) {
    for bytes in [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"] {
        out.extend_from_slice(bytes);
    }
}

/// Where an event belongs.
#[derive(Serialize, Clone, Copy)]
struct At<'i> {
    item_id: &'i str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
}

/// What an item gains.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "as the API has them")]
struct Delta<'d> {
    #[serde(flatten)]
    at: At<'d>,
    delta: &'d str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'d [Value]>,
}

/// So many bytes of an answer are kept until its last event says all of them again. Those of an event may be an image.
const MOST: usize = 64 << 20;

/// An item takes about so many bytes beside what it says.
const OF_ITEM: usize = 2 << 10;

/// All that is told.
#[derive(Default)]
pub(super) struct Items {
    /// Makes ids that no other answer has.
    answer: String,
    open: Option<Open>,
    /// What comes behind the call that is open.
    waiting: VecDeque<Piece>,
    /// Signatures that came within a message and have no text. They stand in an item behind it.
    signatures: Vec<Reasoning>,
    /// References that came before any text.
    annotations: Vec<Value>,
    /// The calls that have begun.
    begun: BTreeSet<i32>,
    /// The items that are done.
    output: Vec<Value>,
    /// How many bytes are kept.
    kept: usize,
    /// The place of the next item.
    place: usize,
    /// The place and the id of the next item, where another has written that it begins.
    adopted: Option<(usize, String)>,
}

struct Open {
    place: usize,
    id: String,
    item: Item,
}

enum Item {
    Reasoning { text: String, pieces: Vec<Reasoning> },
    Message { parts: Vec<Part> },
    Call { call: ToolCall, nesting: Nesting, is_whole: bool },
}

#[derive(Default)]
struct Part {
    is_refusal: bool,
    text: String,
    annotations: Vec<Value>,
    logprobs: Vec<Value>,
}

impl Items {
    /// Of the answer with that id.
    pub(super) fn of(&mut self, answer: &str) {
        answer.clone_into(&mut self.answer);
    }

    /// The items that are done.
    pub(super) fn output(&self) -> &[Value] {
        &self.output
    }

    /// Whether no more can be taken: the answer is cut there.
    pub(super) fn is_full(&self) -> bool {
        self.kept > MOST
    }

    /// Takes note of an item that another has begun: one that can be gone on with, or not.
    pub(super) fn adopt(&mut self, place: usize, id: Option<String>) {
        self.place = place.saturating_add(1);
        self.adopted = id.map(|id| (place, id));
    }

    /// Takes what is new.
    pub(super) fn take(&mut self, piece: Piece, pen: &mut Pen<'_>) {
        self.kept = self.kept.saturating_add(piece.size());
        if self.is_full() {
            return;
        }
        if !(self.is_over() || self.open.as_ref().is_some_and(|open| open.item.takes(&piece))) {
            self.wait(piece);
            return;
        }
        self.tell(piece, pen);
        while self.is_over()
            && let Some(piece) = self.waiting.pop_front()
        {
            self.tell(piece, pen);
        }
    }

    /// Ends all items. The last of an answer that was cut is incomplete.
    pub(super) fn finish(&mut self, is_cut: bool, pen: &mut Pen<'_>) {
        while let Some(piece) = self.waiting.pop_front() {
            self.tell(piece, pen);
        }
        self.close(if is_cut { "incomplete" } else { "completed" }, pen);
        self.tell_signatures(pen);
    }

    /// Whether another item may begin.
    fn is_over(&self) -> bool {
        !matches!(&self.open, Some(Open { item: Item::Call { is_whole: false, .. }, .. }))
    }

    /// Fragments of one call become one, so that few pieces wait.
    fn wait(&mut self, piece: Piece) {
        if let Piece::Call(more) = &piece {
            let same = self.waiting.iter_mut().find_map(|piece| match piece {
                Piece::Call(call) if call.index == more.index => Some(call),
                _ => None,
            });
            if let Some(call) = same {
                call.arguments.push_str(&more.arguments);
                return;
            }
        }
        match (self.waiting.back_mut(), piece) {
            (Some(Piece::Text(text, logprobs)), Piece::Text(more, more_logprobs)) => {
                text.push_str(&more);
                logprobs.extend(more_logprobs);
            }
            (_, piece) => self.waiting.push_back(piece),
        }
    }

    fn tell(&mut self, piece: Piece, pen: &mut Pen<'_>) {
        match piece {
            Piece::Reasoning(text, pieces) => self.think(&text, pieces, pen),
            Piece::Text(text, logprobs) => self.say(false, &text, logprobs, pen),
            Piece::Refusal(text) => self.say(true, &text, Vec::new(), pen),
            Piece::Annotation(annotation) => self.annotate(annotation, pen),
            Piece::Image(bytes, mime_type) => self.show(&bytes, &mime_type, pen),
            Piece::Call(call) => self.call(call, pen),
        }
    }

    fn think(&mut self, text: &str, pieces: Vec<Reasoning>, pen: &mut Pen<'_>) {
        // A signature does not cut a message in two.
        if text.is_empty() && matches!(&self.open, Some(Open { item: Item::Message { .. }, .. })) {
            self.signatures.extend(pieces);
            return;
        }
        if !matches!(&self.open, Some(Open { item: Item::Reasoning { .. }, .. })) {
            self.begin("rs", Item::Reasoning { text: String::new(), pieces: Vec::new() }, pen);
        }
        let Some(Open { place, id, item: Item::Reasoning { text: own, pieces: known } }) = &mut self.open
        else {
            return;
        };
        for piece in pieces {
            join(known, piece);
        }
        if text.is_empty() {
            return;
        }
        let at = At { item_id: id, output_index: *place, content_index: None, summary_index: Some(0) };
        if own.is_empty() {
            pen.send("response.reasoning_summary_part.added", Full { at, name: "part", value: summary("") });
        }
        own.push_str(text);
        pen.send("response.reasoning_summary_text.delta", Delta { at, delta: text, logprobs: None });
    }

    fn say(&mut self, is_refusal: bool, text: &str, logprobs: Vec<Value>, pen: &mut Pen<'_>) {
        if !matches!(&self.open, Some(Open { item: Item::Message { .. }, .. })) {
            self.begin("msg", Item::Message { parts: Vec::new() }, pen);
        }
        let Some(Open { place, id, item: Item::Message { parts } }) = &mut self.open else { return };
        let at = |place_of_part: usize| At {
            item_id: id,
            output_index: *place,
            content_index: Some(place_of_part),
            summary_index: None,
        };
        if parts.last().is_none_or(|part| part.is_refusal != is_refusal) {
            if let Some(last) = parts.last() {
                last.done(at(parts.len() - 1), pen);
            }
            let part = Part { is_refusal, ..Part::default() };
            pen.send(
                "response.content_part.added",
                Full { at: at(parts.len()), name: "part", value: part.value() },
            );
            parts.push(part);
        }
        let at = at(parts.len() - 1);
        let Some(part) = parts.last_mut() else { return };
        part.text.push_str(text);
        let (name, logprobs_told) = if is_refusal {
            ("response.refusal.delta", None)
        } else {
            ("response.output_text.delta", Some(logprobs.as_slice()))
        };
        pen.send(name, Delta { at, delta: text, logprobs: logprobs_told });
        part.logprobs.extend(logprobs);
        for annotation in std::mem::take(&mut self.annotations) {
            self.annotate(annotation, pen);
        }
    }

    fn annotate(&mut self, annotation: Value, pen: &mut Pen<'_>) {
        let Some(Open { place, id, item: Item::Message { parts } }) = &mut self.open else {
            self.annotations.push(annotation);
            return;
        };
        let content_index = parts.len().checked_sub(1);
        let Some(part) = parts.last_mut().filter(|part| !part.is_refusal) else {
            self.annotations.push(annotation);
            return;
        };
        let at = At { item_id: id, output_index: *place, content_index, summary_index: None };
        let body = json!({"annotation_index": part.annotations.len(), "annotation": annotation});
        pen.send("response.output_text.annotation.added", Both { at, body });
        part.annotations.push(annotation);
    }

    /// An image is an item of its own, and comes as a whole
    /// (<https://platform.openai.com/docs/guides/tools-image-generation>).
    fn show(&mut self, bytes: &[u8], mime_type: &str, pen: &mut Pen<'_>) {
        self.close("completed", pen);
        let (place, id) = self.next("ig");
        let item = |status: &str, result: Option<String>| {
            let format = mime_type.strip_prefix("image/").unwrap_or(mime_type);
            json!({"id": id, "type": "image_generation_call", "status": status, "output_format": format,
                "result": result})
        };
        pen.send(
            "response.output_item.added",
            json!({"output_index": place, "item": item("in_progress", None)}),
        );
        let item = item("completed", Some(BASE64_STANDARD.encode(bytes)));
        pen.send("response.output_item.done", json!({"output_index": place, "item": item}));
        self.output.push(item);
    }

    fn call(&mut self, fragment: ToolCall, pen: &mut Pen<'_>) {
        let index = fragment.index;
        let is_open = |open: &Open| matches!(&open.item, Item::Call { call, .. } if call.index == index);
        if !self.open.as_ref().is_some_and(is_open) {
            // It has ended: nothing can be added to it.
            if !self.begun.insert(index) {
                return;
            }
            self.close("completed", pen);
            self.tell_signatures(pen);
            let is_custom = fragment.kind == "custom";
            let mut call = ToolCall { arguments: String::new(), ..fragment.clone() };
            if call.id.is_empty() {
                call.id = format!("call_{}_{index}", self.answer);
            }
            // Whether a text is whole only the next item tells.
            let item = Item::Call { call, nesting: Nesting::default(), is_whole: is_custom };
            self.begin(if is_custom { "ctc" } else { "fc" }, item, pen);
        }
        let Some(Open { place, id, item: Item::Call { call, nesting, is_whole } }) = &mut self.open else {
            return;
        };
        let delta = fragment.arguments.as_str();
        if delta.is_empty() {
            return;
        }
        call.arguments.push_str(delta);
        for byte in delta.bytes() {
            *is_whole |= nesting.closes(byte);
        }
        let at = At { item_id: id, output_index: *place, content_index: None, summary_index: None };
        let name = if call.kind == "custom" {
            "response.custom_tool_call_input.delta"
        } else {
            "response.function_call_arguments.delta"
        };
        pen.send(name, Delta { at, delta, logprobs: None });
    }

    /// The place and the id of an item that begins.
    fn next(&mut self, prefix: &str) -> (usize, String) {
        let (place, id) = self
            .adopted
            .take()
            .unwrap_or_else(|| (self.place, format!("{prefix}_{}_{}", self.answer, self.place)));
        self.place = place.saturating_add(1);
        self.kept = self.kept.saturating_add(OF_ITEM);
        (place, id)
    }

    fn begin(&mut self, prefix: &str, item: Item, pen: &mut Pen<'_>) {
        self.close("completed", pen);
        let (place, id) = self.next(prefix);
        pen.send(
            "response.output_item.added",
            json!({"output_index": place, "item": item.value(&id, "in_progress", false)}),
        );
        self.open = Some(Open { place, id, item });
    }

    fn close(&mut self, status: &str, pen: &mut Pen<'_>) {
        let Some(Open { place, id, item }) = self.open.take() else { return };
        item.done(&id, place, pen);
        let item = item.value(&id, status, true);
        pen.send("response.output_item.done", json!({"output_index": place, "item": item}));
        self.output.push(item);
    }

    fn tell_signatures(&mut self, pen: &mut Pen<'_>) {
        let pieces = std::mem::take(&mut self.signatures);
        if sealed::seal(&pieces).is_some() {
            self.begin("rs", Item::Reasoning { text: String::new(), pieces }, pen);
            self.close("completed", pen);
        }
    }
}

/// An event with one value beside its place.
struct Full<'f> {
    at: At<'f>,
    name: &'f str,
    value: Value,
}

impl Serialize for Full<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Both { at: self.at, body: json!({ self.name: self.value }) }.serialize(serializer)
    }
}

/// An event with further values beside its place.
#[derive(Serialize)]
struct Both<'b> {
    #[serde(flatten)]
    at: At<'b>,
    #[serde(flatten)]
    body: Value,
}

/// Adds a fragment to the pieces that it belongs to.
fn join(pieces: &mut Vec<Reasoning>, fragment: Reasoning) {
    let same = |piece: &&mut Reasoning| piece.index == fragment.index && piece.kind == fragment.kind;
    match pieces.iter_mut().find(same) {
        Some(piece) => piece.grow(fragment),
        None => pieces.push(fragment),
    }
}

fn summary(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

impl Item {
    /// Whether a piece goes on with it.
    fn takes(&self, piece: &Piece) -> bool {
        matches!((self, piece), (Self::Call { call, .. }, Piece::Call(fragment)) if call.index == fragment.index)
    }

    /// The item as it is told: empty at its beginning, whole when it is done.
    fn value(&self, id: &str, status: &str, is_done: bool) -> Value {
        match self {
            Self::Reasoning { text, pieces } => {
                let summary: Vec<_> = (!text.is_empty()).then(|| summary(text)).into_iter().collect();
                let sealed = is_done.then(|| sealed::seal(pieces)).flatten();
                json!({"id": id, "type": "reasoning", "summary": summary, "encrypted_content": sealed,
                    "status": status})
            }
            Self::Message { parts } => {
                let content: Vec<_> = parts.iter().map(Part::value).collect();
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Self::Call { call, .. } if call.kind == "custom" => json!({
                "id": id, "type": "custom_tool_call", "status": status, "call_id": call.id, "name": call.name,
                "input": call.arguments,
            }),
            Self::Call { call, .. } => json!({
                "id": id, "type": "function_call", "status": status, "call_id": call.id, "name": call.name,
                "arguments": call.arguments,
            }),
        }
    }

    /// Ends what is open of it.
    fn done(&self, id: &str, place: usize, pen: &mut Pen<'_>) {
        let at = At { item_id: id, output_index: place, content_index: None, summary_index: None };
        match self {
            Self::Reasoning { text, .. } if !text.is_empty() => {
                let at = At { summary_index: Some(0), ..at };
                let whole = Full { at, name: "text", value: text.as_str().into() };
                pen.send("response.reasoning_summary_text.done", whole);
                pen.send(
                    "response.reasoning_summary_part.done",
                    Full { at, name: "part", value: summary(text) },
                );
            }
            Self::Reasoning { .. } => {}
            Self::Message { parts } => {
                if let Some(last) = parts.last() {
                    last.done(At { content_index: parts.len().checked_sub(1), ..at }, pen);
                }
            }
            Self::Call { call, .. } if call.kind == "custom" => {
                let whole = Full { at, name: "input", value: call.arguments.as_str().into() };
                pen.send("response.custom_tool_call_input.done", whole);
            }
            Self::Call { call, .. } => {
                let body = json!({"name": call.name, "arguments": call.arguments});
                pen.send("response.function_call_arguments.done", Both { at, body });
            }
        }
    }
}

impl Part {
    fn value(&self) -> Value {
        let Self { is_refusal, text, annotations, logprobs } = self;
        if *is_refusal {
            return json!({"type": "refusal", "refusal": text});
        }
        json!({"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs})
    }

    fn done(&self, at: At<'_>, pen: &mut Pen<'_>) {
        if self.is_refusal {
            pen.send("response.refusal.done", Full { at, name: "refusal", value: self.text.as_str().into() });
        } else {
            let body = json!({"text": self.text, "logprobs": self.logprobs});
            pen.send("response.output_text.done", Both { at, body });
        }
        pen.send("response.content_part.done", Full { at, name: "part", value: self.value() });
    }
}
