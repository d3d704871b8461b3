//! Writes the answer to a chat: whole, as events, or as the pieces of a JSON array, which is what Gemini's API sends where
//! nobody asks for events (API reference, "models.streamGenerateContent").

use super::{
    answer::{Candidate, Piece, usage},
    error,
};
use crate::wire::{
    AnswerHead, ChatEvent, ChatReply, ErrorReport, Keys, Output, Stamp, TokenUsage, WriteAnswer,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How a stream's pieces are set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As events, with `alt=sse`.
    Events,
    /// As the items of an array.
    Array,
}

/// Writes one chat's answer.
pub(super) struct Answers {
    framing: Framing,
    /// Whether thoughts are told.
    thoughts: bool,
    /// What the answer has said about itself.
    head: AnswerHead,
    candidates: BTreeMap<i32, Candidate>,
    /// Whether a piece has been written.
    begun: bool,
    /// Whether nothing more may be.
    over: bool,
}

impl Answers {
    pub(super) fn new(framing: Framing, thoughts: bool) -> Self {
        let (head, candidates) = (AnswerHead::default(), BTreeMap::new());
        Self { framing, thoughts, head, candidates, begun: false, over: false }
    }

    /// A response, or a piece of one.
    fn response(
        &self,
        stamp: &Stamp,
        candidates: Vec<Value>,
        counted: Option<TokenUsage>,
        mut extra: Keys,
    ) -> Value {
        let or = |own: &String, other: &String| if own.is_empty() { other.clone() } else { own.clone() };
        let mut out = Map::new();
        out.insert("candidates".into(), candidates.into());
        if let Some(feedback) = extra.shift_remove("promptFeedback") {
            out.insert("promptFeedback".into(), feedback);
        }
        if let Some(counted) = counted {
            out.insert("usageMetadata".into(), usage(counted, extra.shift_remove("usageMetadata")));
        }
        out.insert("modelVersion".into(), or(&self.head.model, &stamp.model).into());
        out.insert("responseId".into(), or(&self.head.id, &stamp.id).into());
        out.into()
    }

    /// Takes what the answer says about itself: the first word counts.
    fn note(&mut self, head: &AnswerHead) {
        for (own, said) in [(&mut self.head.id, &head.id), (&mut self.head.model, &head.model)] {
            if own.is_empty() {
                own.clone_from(said);
            }
        }
    }

    fn reply(&mut self, stamp: &Stamp, reply: ChatReply) -> Value {
        self.note(&reply.head);
        let choices = std::iter::once(reply.choice).chain(reply.more_choices);
        let candidates =
            choices.filter_map(|choice| Candidate::default().next(Piece::whole(choice), self.thoughts));
        let candidates = candidates.collect();
        self.response(stamp, candidates, reply.usage, reply.extra)
    }

    /// Appends a piece, set apart from the one before it.
    fn piece(&mut self, json: &[u8], out: &mut Vec<u8>) {
        let begun = std::mem::replace(&mut self.begun, true);
        match self.framing {
            Framing::Events => {
                // A payload of several lines is one of `data` each
                // (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
                for line in json.split(|byte| *byte == b'\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(line);
                    out.push(b'\n');
                }
                out.push(b'\n');
            }
            Framing::Array => {
                out.extend_from_slice(if begun { b"\n,\r\n" } else { b"[" });
                out.extend_from_slice(json);
            }
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.over = true;
        if self.framing == Framing::Array {
            out.extend_from_slice(if self.begun { b"\n]" } else { b"[]" });
        }
    }
}

impl WriteAnswer for Answers {
    fn whole(&mut self, stamp: &Stamp, output: Output) -> Vec<u8> {
        match output {
            Output::Chat(reply) => self.reply(stamp, *reply).to_string().into_bytes(),
            _ => super::error::unexpected(),
        }
    }

    fn event(&mut self, stamp: &Stamp, mut event: ChatEvent, out: &mut Vec<u8>) {
        if self.over || event.is_empty() {
            return;
        }
        let mut extra = Keys::default();
        if let Some(rare) = &mut event.rare {
            self.note(&std::mem::take(&mut rare.head));
            extra = std::mem::take(&mut rare.extra);
        }
        let (index, counted) = (event.index, event.usage);
        let candidate = self.candidates.entry(index).or_default();
        let told = candidate.next(Piece::of(event), self.thoughts);
        if told.is_none() && counted.is_none() {
            return;
        }
        // SDKs drop a turn in which one piece has no content, so counts alone come with an empty text.
        let empty = || json!({"content": {"parts": [{"text": ""}], "role": "model"}, "index": index});
        let piece = self.response(stamp, vec![told.unwrap_or_else(empty)], counted, extra);
        self.piece(piece.to_string().as_bytes(), out);
    }

    fn heard(&mut self, event: &ChatEvent) {
        if let Some(rare) = &event.rare {
            self.note(&rare.head);
        }
        if !event.finish_reason.is_empty() {
            self.candidates.entry(event.index).or_default().finished = true;
        }
    }

    fn frame(&mut self, _name: &str, data: &[u8], out: &mut Vec<u8>) {
        if !self.over {
            self.piece(data, out);
        }
    }

    fn end(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        let open = candidates.iter_mut().filter(|(_, candidate)| !candidate.finished);
        let rest: Vec<Value> = open.filter_map(|(index, candidate)| candidate.rest(*index)).collect();
        if !rest.is_empty() {
            let piece = self.response(stamp, rest, None, Keys::default());
            self.piece(piece.to_string().as_bytes(), out);
        }
        self.close(out);
    }

    /// Google's SDKs for Go and JavaScript see an error where it stands outside of an event alone, as it does when Google
    /// breaks off (<https://github.com/googleapis/go-genai/blob/main/api_client.go>, `iterateResponseStream`;
    /// <https://github.com/googleapis/js-genai/blob/main/src/_api_client.ts>, `processStreamResponse`). Other readers of
    /// events see it within one alone. The one for Python sees both, and raises at the first.
    fn error(&mut self, _stamp: &Stamp, report: &ErrorReport, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        let body = error::body(report);
        self.piece(&body, out);
        if self.framing == Framing::Events {
            out.extend_from_slice(&body);
            out.push(b'\n');
        }
        self.close(out);
    }

    /// Nothing that a client of Gemini's sees. Google's SDK for Go takes a comment for an error, and an empty line too, unless
    /// another follows: two end an event that is empty.
    fn keep_alive(&self) -> &'static [u8] {
        match self.framing {
            Framing::Events => b"\n\n",
            Framing::Array => b"\n",
        }
    }
}
