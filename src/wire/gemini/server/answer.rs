//! What a client gets back (API reference, "GenerateContentResponse"), whole or piece by piece.

use super::{
    fields::object,
    kind::KIND,
    signature::{LONGEST, pack},
};
use crate::wire::{
    Annotation, ChatEvent, Choice, Content, Keys, Part, PartKind, RareEvent, Reasoning, Recipient, Switches,
    TokenUsage, ToolCall, gemini::contents::part as written, nesting::Nesting,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

const TO: Recipient<'_> = Recipient { kind: KIND, model: "", switches: Switches::NONE };

/// What Gemini itself says beside a candidate's content, as its reader hands it on.
const OWN: &[&str] = &[
    "safetyRatings",
    "citationMetadata",
    "groundingMetadata",
    "groundingAttributions",
    "urlContextMetadata",
    "avgLogprobs",
    "tokenCount",
    "finishMessage",
];

/// Gemini's own finish reasons that have no other word (API reference, "FinishReason").
const REASONS: &[&str] = &[
    "language",
    "other",
    "malformed_function_call",
    "unexpected_tool_call",
    "too_many_tool_calls",
    "missing_thought_signature",
    "malformed_response",
    "image_other",
    "no_image",
];

/// The arguments of one answer's calls are not longer, in bytes.
const MOST_HELD: usize = 32 << 20;

/// What a candidate says next, or all that it says.
#[derive(Default)]
pub(super) struct Piece {
    index: i32,
    thoughts: String,
    reasoning: Vec<Reasoning>,
    parts: Vec<Part>,
    calls: Vec<ToolCall>,
    finish_reason: String,
    annotations: Vec<Annotation>,
    logprobs: Value,
    extra: Keys,
}

impl Piece {
    pub(super) fn of(event: ChatEvent) -> Self {
        let RareEvent { parts: more, annotations, logprobs, delta_extra: extra, .. } =
            event.rare.map(|rare| *rare).unwrap_or_default();
        // A refusal is words to its reader.
        let texts = [event.content, event.refusal].into_iter().filter(|text| !text.is_empty());
        let parts = texts.map(|text| PartKind::Text(text).into()).chain(more).collect();
        Self {
            index: event.index,
            thoughts: event.reasoning_content,
            reasoning: event.reasoning,
            parts,
            calls: event.tool_calls,
            finish_reason: event.finish_reason,
            annotations,
            logprobs: logprobs.map(|value| *value).unwrap_or_default(),
            extra,
        }
    }

    pub(super) fn whole(choice: Choice) -> Self {
        let Choice { index, message, finish_reason, logprobs, mut extra, .. } = choice;
        let mut parts = match message.content {
            Content::Text(text) => vec![PartKind::Text(text).into()],
            Content::Parts(parts) => parts,
        };
        parts.push(PartKind::Text(message.refusal).into());
        parts.retain(|part| part.text() != Some(""));
        extra.extend(message.extra.fields);
        let calls = (0..).zip(message.tool_calls).map(|(index, call)| ToolCall { index, ..call });
        Self {
            index,
            thoughts: message.reasoning_content,
            reasoning: message.reasoning,
            parts,
            calls: calls.collect(),
            finish_reason,
            annotations: message.annotations,
            logprobs: logprobs.map(|value| *value).unwrap_or_default(),
            extra,
        }
    }
}

/// A candidate, from its first piece to its last.
#[derive(Default)]
pub(super) struct Candidate {
    /// Reasoning of another kind, which its client is to hand back.
    foreign: Vec<Reasoning>,
    /// How much of it there is; beyond the bound it is told nobody.
    size: usize,
    /// Calls that are not told yet: Gemini tells each as a whole.
    held: BTreeMap<i32, Held>,
    held_size: usize,
    /// Those before this one are told.
    untold: i32,
    /// Gemini's own signatures of calls, by the call's id.
    signatures: BTreeMap<String, String>,
    /// Whether a call had no arguments that can be read.
    malformed: bool,
    pub(super) finished: bool,
}

#[derive(Default)]
struct Held {
    call: ToolCall,
    nesting: Nesting,
    complete: bool,
}

impl Candidate {
    /// The candidate's next object; none where there is nothing to tell yet.
    pub(super) fn next(&mut self, piece: Piece, thoughts: bool) -> Option<Value> {
        let Piece { index, thoughts: text, reasoning, parts, calls, finish_reason, .. } = piece;
        let ends = !finish_reason.is_empty();
        let mut out = Vec::new();
        if thoughts && !text.is_empty() {
            out.push(object([("text", text.into()), ("thought", true.into())]));
        }
        let first = out.len();
        out.extend(
            parts
                .iter()
                .filter(|part| part.kind != PartKind::Opaque || part.extra.is_for(KIND))
                .map(|part| written(part, TO)),
        );
        let own = self.take(reasoning);
        sign(&mut out, first, own);
        for call in calls {
            self.hold(call);
        }
        self.tell_calls(ends, &mut out);
        if ends && let Some(signature) = self.signature() {
            put(&mut out, first, &signature);
        }
        let mut candidate = Map::new();
        beside(&mut candidate, piece.annotations, &piece.logprobs, piece.extra);
        if out.is_empty() && candidate.is_empty() && !ends {
            return None;
        }
        candidate.shift_insert(0, "content".into(), content(out));
        if ends {
            self.finished = true;
            candidate.shift_insert(1, "finishReason".into(), self.reason(&finish_reason).into());
        }
        candidate.insert("index".into(), index.into());
        Some(candidate.into())
    }

    /// What is held back still, when nothing more comes.
    pub(super) fn rest(&mut self, index: i32) -> Option<Value> {
        let mut out = Vec::new();
        self.tell_calls(true, &mut out);
        (!out.is_empty()).then(|| object([("content", content(out)), ("index", index.into())]))
    }

    /// Takes what is another kind's. Gives Gemini's own signatures by their place, and the places of its thoughts.
    fn take(&mut self, reasoning: Vec<Reasoning>) -> Own {
        let mut own = Own::default();
        for piece in reasoning {
            if piece.kind != KIND {
                self.keep(piece);
                continue;
            }
            if !piece.text.is_empty() {
                own.thoughts.insert(piece.index);
            }
            if piece.signature.is_empty() {
                continue;
            }
            if piece.id.is_empty() {
                own.signatures.insert(piece.index, piece.signature);
            } else {
                self.signatures.insert(piece.id, piece.signature);
            }
        }
        own
    }

    /// Keeps a piece of reasoning, or a fragment of one.
    fn keep(&mut self, fragment: Reasoning) {
        self.size += fragment.text.len() + fragment.signature.len() + fragment.data.len() + 64;
        if self.size > LONGEST {
            self.foreign = Vec::new();
            return;
        }
        match self
            .foreign
            .iter_mut()
            .find(|piece| piece.index == fragment.index && piece.kind == fragment.kind)
        {
            Some(piece) => join(piece, fragment),
            None => self.foreign.push(fragment),
        }
    }

    /// The signature that holds what is kept, once.
    fn signature(&mut self) -> Option<String> {
        let pieces = std::mem::take(&mut self.foreign);
        (!pieces.is_empty()).then(|| pack(&pieces))
    }

    fn hold(&mut self, fragment: ToolCall) {
        // Behind a call that is told comes space at most.
        if fragment.index < self.untold && fragment.name.is_empty() {
            return;
        }
        let held = self.held.entry(fragment.index).or_default();
        self.held_size += fragment.arguments.len();
        if self.held_size > MOST_HELD {
            (self.malformed, held.call.arguments) = (true, String::new());
            return;
        }
        for byte in fragment.arguments.bytes() {
            held.complete |= held.nesting.closes(byte);
        }
        for (own, said) in [(&mut held.call.id, fragment.id), (&mut held.call.name, fragment.name)] {
            if own.is_empty() {
                *own = said;
            }
        }
        held.call.arguments.push_str(&fragment.arguments);
        held.call.extra.fields.extend(fragment.extra.fields);
        if held.call.extra.kinds.is_empty() {
            held.call.extra.kinds = fragment.extra.kinds;
        }
    }

    /// Tells the calls that are complete, or all of them.
    fn tell_calls(&mut self, all: bool, out: &mut Vec<Value>) {
        while let Some(first) = self.held.first_entry() {
            if !(all || first.get().complete) {
                return;
            }
            self.untold = self.untold.max(first.key().saturating_add(1));
            let call = first.remove().call;
            self.held_size = self.held_size.saturating_sub(call.arguments.len());
            let signature = self.signatures.remove(&call.id).or_else(|| self.signature());
            match function_call(&call, signature) {
                Some(part) => out.push(part),
                None => self.malformed = true,
            }
        }
    }

    fn reason(&self, finish_reason: &str) -> String {
        match finish_reason {
            "length" => "MAX_TOKENS".into(),
            "content_filter" => "SAFETY".into(),
            _ if self.malformed => "MALFORMED_FUNCTION_CALL".into(),
            "stop" | "tool_calls" | "function_call" => "STOP".into(),
            own if REASONS.contains(&own) => own.to_ascii_uppercase(),
            _ => "OTHER".into(),
        }
    }
}

/// What is said beside the content.
fn beside(out: &mut Map<String, Value>, annotations: Vec<Annotation>, logprobs: &Value, extra: Keys) {
    out.extend(extra.into_iter().filter(|(name, _)| OWN.contains(&name.as_str())));
    if let Some(result) = logprobs_result(logprobs) {
        out.insert("logprobsResult".into(), result);
    }
    let pages = annotations.into_iter().filter(|each| !each.url.is_empty());
    let chunks: Vec<Value> =
        pages.map(|page| json!({"web": {"uri": page.url, "title": page.title}})).collect();
    // Gemini's own stand there already, with more beside them.
    if !(chunks.is_empty() || out.contains_key("groundingMetadata") || out.contains_key("citationMetadata")) {
        out.insert("groundingMetadata".into(), json!({ "groundingChunks": chunks }));
    }
}

/// What Gemini's own reasoning says of its parts.
#[derive(Default)]
struct Own {
    signatures: BTreeMap<i32, String>,
    thoughts: HashSet<i32>,
}

/// A content is never without parts, which SDKs take for a broken answer
/// (<https://github.com/googleapis/python-genai/blob/main/google/genai/chats.py>): Gemini sends an empty text.
fn content(mut parts: Vec<Value>) -> Value {
    if parts.is_empty() {
        parts.push(json!({"text": ""}));
    }
    object([("parts", parts.into()), ("role", "model".into())])
}

/// Puts Gemini's signatures back to the parts that they came with, from that part on. One whose part is gone stands at the
/// last.
fn sign(parts: &mut Vec<Value>, first: usize, own: Own) {
    let Own { mut signatures, thoughts } = own;
    let mut place = 0;
    for part in parts.iter_mut().skip(first) {
        while thoughts.contains(&place) {
            place += 1;
        }
        if let (Some(signature), Some(part)) = (signatures.remove(&place), part.as_object_mut()) {
            part.insert("thoughtSignature".into(), signature.into());
        }
        place += 1;
    }
    if let Some((_, signature)) = signatures.pop_last() {
        put(parts, first, &signature);
    }
}

/// Puts a signature to the last part, from that part on, which has none. Where there is no such part, it comes with an empty
/// text, as Gemini's own do at the end of a stream.
fn put(parts: &mut Vec<Value>, first: usize, signature: &str) {
    let last = parts.iter_mut().skip(first).next_back().and_then(Value::as_object_mut);
    match last.filter(|part| !part.contains_key("thoughtSignature")) {
        Some(part) => {
            part.insert("thoughtSignature".into(), signature.into());
        }
        None => parts.push(json!({"text": "", "thoughtSignature": signature})),
    }
}

/// A call; none where its arguments are no object.
fn function_call(call: &ToolCall, signature: Option<String>) -> Option<Value> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let args: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut function = Map::new();
    if !call.id.is_empty() {
        function.insert("id".into(), call.id.clone().into());
    }
    function.insert("name".into(), call.name.clone().into());
    function.insert("args".into(), args.into());
    let mut part = Map::from_iter([("functionCall".to_owned(), Value::Object(function))]);
    if let Some(signature) = signature {
        part.insert("thoughtSignature".into(), signature.into());
    }
    if call.extra.kinds.iter().any(|kind| kind == KIND) {
        call.extra.add_to(&mut part, KIND);
    }
    Some(part.into())
}

fn join(piece: &mut Reasoning, fragment: Reasoning) {
    piece.text.push_str(&fragment.text);
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

/// Log probabilities as Gemini tells them (API reference, "LogprobsResult"): its own, or OpenAI's.
fn logprobs_result(logprobs: &Value) -> Option<Value> {
    if logprobs.get("chosenCandidates").is_some() || logprobs.get("topCandidates").is_some() {
        return Some(logprobs.clone());
    }
    let tokens = logprobs.get("content")?.as_array()?;
    let one = |token: &Value| json!({"token": token.get("token"), "logProbability": token.get("logprob")});
    let chosen: Vec<Value> = tokens.iter().map(one).collect();
    let top = tokens.iter().filter_map(|token| token.get("top_logprobs")?.as_array());
    let top: Vec<Value> =
        top.map(|tokens| json!({"candidates": tokens.iter().map(one).collect::<Vec<_>>()})).collect();
    Some(json!({"topCandidates": top, "chosenCandidates": chosen}))
}

/// Counts of tokens; those of thoughts are not part of the candidates' (API reference, "UsageMetadata"). `more` is what Gemini
/// itself counts beside them.
pub(super) fn usage(usage: TokenUsage, more: Option<Value>) -> Value {
    let mut out = Map::new();
    out.insert("promptTokenCount".into(), usage.prompt.into());
    for (name, count) in [
        ("cachedContentTokenCount", usage.cached),
        ("candidatesTokenCount", usage.completion.saturating_sub(usage.reasoning)),
        ("thoughtsTokenCount", usage.reasoning),
    ] {
        if count > 0 {
            out.insert(name.into(), count.into());
        }
    }
    out.insert("totalTokenCount".into(), usage.total.into());
    if let Some(Value::Object(more)) = more {
        for (name, value) in more {
            out.entry(name).or_insert(value);
        }
    }
    out.into()
}
