//! The blocks of a streamed message, one after the other (<https://docs.claude.com/en/api/messages-streaming>): each is begun,
//! grows, and ends before the next begins. The accumulators of the SDKs keep blocks by their places.
//!
//! What comes while a call is not whole waits until it is. What only another kind of provider can read waits for the end of
//! the text, so that the text stays in one block.

use super::{answer::tool_use, thought};
use crate::wire::{Nesting, Reasoning, ToolCall};
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, VecDeque};

/// So many bytes wait. Where more come, the call that they wait for is ended as it is.
const MOST_WAITING: usize = 8 << 20;

/// Something that is said.
pub(super) enum Said {
    Text(String),
    /// A piece of thinking, or a fragment of one.
    Thought(Reasoning),
    /// A reference, as Anthropic has it.
    Citation(Value),
    /// A whole block of Anthropic's.
    Block(Map<String, Value>),
    /// A fragment of a call.
    Call(ToolCall),
}

impl Said {
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Thought(piece) => piece.text.len() + piece.signature.len() + piece.data.len(),
            Self::Citation(_) | Self::Block(_) => 256,
            Self::Call(call) => call.name.len() + call.arguments.len(),
        }
    }
}

/// The blocks so far.
#[derive(Default)]
pub(super) struct Blocks {
    /// Whether all thinking waits for the end of the text.
    thinks_late: bool,
    /// The place of the next block.
    next: u32,
    open: Option<Open>,
    /// The calls that were begun.
    calls: BTreeSet<i32>,
    /// What waits for the end of a call, in its order.
    waiting: VecDeque<Said>,
    /// Thinking that waits for the end of the text.
    late: Vec<Reasoning>,
    /// How many bytes wait.
    held: usize,
}

struct Open {
    place: u32,
    what: What,
}

enum What {
    Text,
    /// All of it but its text, which is told already.
    Thought(Reasoning),
    /// Which call, how deep its arguments are in their brackets, and whether those are closed.
    Call(i32, Nesting, bool),
    /// One that was handed on as it came.
    Other,
}

impl Blocks {
    pub(super) fn new(thinks_late: bool) -> Self {
        Self { thinks_late, ..Self::default() }
    }

    /// Takes what is said, and writes what can be told now.
    pub(super) fn say(&mut self, said: Said, out: &mut Vec<u8>) {
        match (&said, self.open_call()) {
            (Said::Call(call), Some(open)) if call.index == open => self.write(said, out),
            (_, Some(_)) => {
                self.wait(said);
                if self.held > MOST_WAITING {
                    self.close(out);
                }
            }
            (_, None) => self.write(said, out),
        }
        while self.open_call().is_none()
            && let Some(said) = self.waiting.pop_front()
        {
            self.held = self.held.saturating_sub(said.size());
            self.write(said, out);
        }
    }

    /// Ends all that is open, and writes what has waited.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        while let Some(said) = self.waiting.pop_front() {
            self.write(said, out);
        }
        self.tell_late(out);
        self.close(out);
    }

    /// Takes note of a block that is begun in a frame of the provider.
    pub(super) fn passed_start(&mut self, place: u32, kind: &str) {
        self.next = self.next.max(place.saturating_add(1));
        let what = if kind == "text" { What::Text } else { What::Other };
        self.open = Some(Open { place, what });
    }

    /// Takes note of a block that is ended in a frame of the provider.
    pub(super) fn passed_stop(&mut self) {
        self.open = None;
    }

    /// The call that is open and not whole.
    fn open_call(&self) -> Option<i32> {
        match &self.open {
            Some(Open { what: What::Call(index, _, false), .. }) => Some(*index),
            _ => None,
        }
    }

    fn wait(&mut self, said: Said) {
        self.held = self.held.saturating_add(said.size());
        match (said, self.waiting.back_mut()) {
            (Said::Text(more), Some(Said::Text(text))) => text.push_str(&more),
            (Said::Call(fragment), _) => {
                let same = self.waiting.iter_mut().find_map(|waiting| match waiting {
                    Said::Call(call) if call.index == fragment.index => Some(call),
                    _ => None,
                });
                match same {
                    Some(call) => call.arguments.push_str(&fragment.arguments),
                    None => self.waiting.push_back(Said::Call(fragment)),
                }
            }
            (said, _) => self.waiting.push_back(said),
        }
    }

    fn write(&mut self, said: Said, out: &mut Vec<u8>) {
        match said {
            Said::Text(text) => {
                self.open_text(out);
                self.delta(&json!({"type": "text_delta", "text": text}), out);
            }
            Said::Citation(citation) => {
                self.open_text(out);
                self.delta(&json!({"type": "citations_delta", "citation": citation}), out);
            }
            Said::Block(block) => self.tell(block.into(), out),
            Said::Thought(piece) => self.think(piece, out),
            Said::Call(fragment) => self.call(&fragment, out),
        }
    }

    fn open_text(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.open, Some(Open { what: What::Text, .. })) {
            self.start(&json!({"type": "text", "text": ""}), What::Text, out);
        }
    }

    fn think(&mut self, mut piece: Reasoning, out: &mut Vec<u8>) {
        if let Some(Open { what: What::Thought(own), .. }) = &mut self.open
            && (own.index, &own.kind) == (piece.index, &piece.kind)
        {
            let text = std::mem::take(&mut piece.text);
            join(own, piece);
            self.thinking(&text, out);
        } else if thought::is_empty(&piece) {
            // Nothing is lost.
        } else if self.thinks_late || (thought::is_opaque(&piece) && !thought::is_own(&piece)) {
            self.keep_late(piece, out);
        } else if thought::is_opaque(&piece) {
            self.tell(thought::block(&piece), out);
        } else {
            let text = std::mem::take(&mut piece.text);
            let block = json!({"type": "thinking", "thinking": "", "signature": ""});
            self.start(&block, What::Thought(piece), out);
            self.thinking(&text, out);
        }
    }

    fn thinking(&mut self, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.delta(&json!({"type": "thinking_delta", "thinking": text}), out);
        }
    }

    fn keep_late(&mut self, mut piece: Reasoning, out: &mut Vec<u8>) {
        self.held = self.held.saturating_add(piece.text.len() + piece.signature.len() + piece.data.len());
        let same = |own: &&mut Reasoning| {
            (own.index, &own.kind) == (piece.index, &piece.kind)
                && (piece.id.is_empty() || own.id == piece.id)
        };
        match self.late.iter_mut().rev().find(same) {
            Some(own) => {
                own.text.push_str(&std::mem::take(&mut piece.text));
                join(own, piece);
            }
            None => self.late.push(piece),
        }
        if self.held > MOST_WAITING {
            self.tell_late(out);
        }
    }

    /// Writes the thinking that has waited.
    fn tell_late(&mut self, out: &mut Vec<u8>) {
        for mut piece in std::mem::take(&mut self.late) {
            self.held = self.held.saturating_sub(piece.text.len() + piece.signature.len() + piece.data.len());
            if thought::is_opaque(&piece) {
                self.tell(thought::block(&piece), out);
                continue;
            }
            let text = std::mem::take(&mut piece.text);
            let block = json!({"type": "thinking", "thinking": "", "signature": ""});
            self.start(&block, What::Thought(piece), out);
            self.thinking(&text, out);
        }
    }

    fn call(&mut self, fragment: &ToolCall, out: &mut Vec<u8>) {
        let is_open =
            matches!(&self.open, Some(Open { what: What::Call(index, ..), .. }) if *index == fragment.index);
        if !is_open {
            // What comes behind a call that has ended belongs to none.
            if !self.calls.insert(fragment.index) {
                return;
            }
            self.tell_late(out);
            let what = What::Call(fragment.index, Nesting::default(), false);
            self.start(&tool_use(fragment).into(), what, out);
        }
        if fragment.arguments.is_empty() {
            return;
        }
        if let Some(Open { what: What::Call(_, nesting, is_whole), .. }) = &mut self.open {
            for byte in fragment.arguments.bytes() {
                *is_whole |= nesting.closes(byte);
            }
        }
        self.delta(&json!({"type": "input_json_delta", "partial_json": fragment.arguments}), out);
    }

    /// Writes a block that is whole.
    fn tell(&mut self, block: Value, out: &mut Vec<u8>) {
        self.start(&block, What::Other, out);
        self.close(out);
    }

    fn start(&mut self, block: &Value, what: What, out: &mut Vec<u8>) {
        self.close(out);
        let place = self.next;
        self.next = self.next.saturating_add(1);
        self.open = Some(Open { place, what });
        event(&json!({"type": "content_block_start", "index": place, "content_block": block}), out);
    }

    fn delta(&self, delta: &Value, out: &mut Vec<u8>) {
        if let Some(Open { place, .. }) = self.open {
            event(&json!({"type": "content_block_delta", "index": place, "delta": delta}), out);
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        // A signature comes once and as a whole: the accumulators replace it.
        if let Some(Open { what: What::Thought(piece), .. }) = &self.open {
            let signature = thought::signature(piece);
            if !signature.is_empty() {
                self.delta(&json!({"type": "signature_delta", "signature": signature}), out);
            }
        }
        if let Some(Open { place, .. }) = self.open.take() {
            event(&json!({"type": "content_block_stop", "index": place}), out);
        }
    }
}

/// Adds a fragment without its text.
fn join(piece: &mut Reasoning, fragment: Reasoning) {
    for (own, said) in [
        (&mut piece.signature, fragment.signature),
        (&mut piece.data, fragment.data),
        (&mut piece.id, fragment.id),
    ] {
        if !said.is_empty() {
            *own = said;
        }
    }
    piece.extra.extend(fragment.extra);
}

/// Writes an event under the name of its type, which the SDKs read it by.
pub(super) fn event(event: &Value, out: &mut Vec<u8>) {
    let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
    frame(name, event.to_string().as_bytes(), out);
}

/// Writes a frame (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). A line end in it begins another line of
/// data.
pub(super) fn frame(name: &str, data: &[u8], out: &mut Vec<u8>) {
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend(name.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        out.push(b'\n');
    }
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}
