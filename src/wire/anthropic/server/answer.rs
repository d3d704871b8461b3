//! A message of the assistant as Anthropic sends it (API reference, "Create a Message", "Response").

use super::{
    thought::{self, KIND},
    tool_id,
};
use crate::wire::{
    Annotation, AnswerHead, ChatReply, Choice, Content, Message, Part, PartKind, Reasoning, Stamp,
    TokenUsage, ToolCall,
};
use serde_json::{Map, Value, json};

/// A whole message.
pub(super) fn whole(stamp: &Stamp, reply: ChatReply, thinks_late: bool) -> Value {
    let ChatReply { head, choice, usage, .. } = reply;
    let Choice { message, finish_reason, stop_sequence, .. } = choice;
    let ending = Ending {
        finish_reason,
        stop_sequence,
        refusal: message.refusal.clone(),
        calls: !message.tool_calls.is_empty(),
    };
    let mut out = envelope(stamp, &head);
    out.insert("content".into(), blocks(message, thinks_late).into());
    out.extend(ending.delta());
    let mut usage = counts(usage.unwrap_or_default());
    // Anthropic knows three.
    if let Some(tier) =
        Some(head.service_tier).filter(|tier| ["standard", "priority", "batch"].contains(&&**tier))
    {
        usage.insert("service_tier".into(), tier.into());
    }
    out.insert("usage".into(), usage.into());
    out.into()
}

/// What a message says about itself. Its id is Anthropic's, or one like it.
pub(super) fn envelope(stamp: &Stamp, head: &AnswerHead) -> Map<String, Value> {
    const PREFIX: &str = "msg_";
    let id = if head.id.starts_with(PREFIX) { head.id.clone() } else { format!("{PREFIX}{}", stamp.id) };
    let model = if head.model.is_empty() { &stamp.model } else { &head.model };
    let mut out = Map::new();
    for (name, text) in [("id", id.as_str()), ("type", "message"), ("role", "assistant"), ("model", model)] {
        out.insert(name.into(), text.into());
    }
    out
}

/// Anthropic counts apart what came from the cache and what was written to it ("Prompt caching").
pub(super) fn counts(usage: TokenUsage) -> Map<String, Value> {
    let fresh = usage.prompt.saturating_sub(usage.cached).saturating_sub(usage.cache_write);
    let mut out = Map::new();
    for (name, count) in [
        ("input_tokens", fresh),
        ("cache_creation_input_tokens", usage.cache_write),
        ("cache_read_input_tokens", usage.cached),
        ("output_tokens", usage.completion),
    ] {
        out.insert(name.into(), count.into());
    }
    if usage.reasoning > 0 {
        out.insert("output_tokens_details".into(), json!({"thinking_tokens": usage.reasoning}));
    }
    out
}

/// How a message ends.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) finish_reason: String,
    pub(super) stop_sequence: String,
    /// In OpenAI's words a refusal is what the message says, and not why it ends.
    pub(super) refusal: String,
    /// Whether it calls tools.
    pub(super) calls: bool,
}

impl Ending {
    /// As clients are told ("Handling stop reasons", <https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons>).
    pub(super) fn delta(self) -> Map<String, Value> {
        let refused = !self.refusal.is_empty() || self.finish_reason == "content_filter";
        let reason = match self.finish_reason.as_str() {
            _ if refused => "refusal",
            "length" => "max_tokens",
            known @ ("pause_turn" | "model_context_window_exceeded") => known,
            // A call that was asked for by name ends with `stop` elsewhere, and agents look for this word
            // (<https://platform.openai.com/docs/api-reference/chat/object>).
            _ if self.calls => "tool_use",
            _ if !self.stop_sequence.is_empty() => "stop_sequence",
            _ => "end_turn",
        };
        let mut out = Map::new();
        out.insert("stop_reason".into(), reason.into());
        let sequence = (reason == "stop_sequence").then_some(self.stop_sequence);
        out.insert("stop_sequence".into(), sequence.into());
        if refused {
            let why = Some(self.refusal).filter(|why| !why.is_empty());
            let details = json!({"type": "refusal", "category": null, "explanation": why});
            out.insert("stop_details".into(), details);
        }
        out
    }
}

/// The blocks of a message. Thinking of Anthropic's stands where it stood, that of others first; what only others can read is
/// behind the text, as clients take the first block for it.
fn blocks(message: Message, thinks_late: bool) -> Vec<Value> {
    let Message { content, tool_calls, mut reasoning, reasoning_content, refusal, annotations, .. } = message;
    if reasoning.is_empty() && !reasoning_content.is_empty() {
        reasoning.push(Reasoning { text: reasoning_content, ..Reasoning::default() });
    }
    reasoning.retain(|piece| !thought::is_empty(piece));
    let is_late = |piece: &Reasoning| thinks_late || (thought::is_opaque(piece) && !thought::is_own(piece));
    let (late, early): (Vec<_>, Vec<_>) = reasoning.into_iter().partition(is_late);
    let (own, others): (Vec<_>, Vec<_>) = early.into_iter().partition(thought::is_own);
    let mut own: Vec<_> = own.iter().map(|piece| (piece.index, thought::block(piece))).collect();
    own.sort_by_key(|(index, _)| *index);
    let mut said = said(content, annotations);
    said.extend((!refusal.is_empty()).then(|| json!({"type": "text", "text": refusal})));
    let mut blocks: Vec<_> = others.iter().map(thought::block).collect();
    let (mut own, mut said) = (own.into_iter().peekable(), said.into_iter());
    loop {
        let place = i32::try_from(blocks.len()).unwrap_or(i32::MAX);
        if let Some((_, block)) = own.next_if(|(index, _)| *index <= place) {
            blocks.push(block);
        } else if let Some(block) = said.next() {
            blocks.push(block);
        } else if let Some((_, block)) = own.next() {
            blocks.push(block);
        } else {
            break;
        }
    }
    blocks.extend(late.iter().map(thought::block));
    blocks.extend(tool_calls.iter().map(|call| {
        let mut block = tool_use(call);
        block.insert("input".into(), input(&call.arguments));
        Value::from(block)
    }));
    blocks
}

/// The blocks of what is no thinking and no call. Media of an answer have no place there, nor have parts that only another
/// vendor knows.
fn said(content: Content, annotations: Vec<Annotation>) -> Vec<Value> {
    let parts = match content {
        Content::Text(text) if text.is_empty() => Vec::new(),
        Content::Text(text) => vec![PartKind::Text(text).into()],
        Content::Parts(parts) => parts,
    };
    let block = |part: Part| match part.kind {
        PartKind::Text(text) => Some(json!({"type": "text", "text": text})),
        PartKind::Opaque => own_block(part).map(Value::from),
        _ => None,
    };
    let mut blocks: Vec<_> = parts.into_iter().filter_map(block).collect();
    let citations: Vec<_> = annotations.into_iter().filter_map(citation).collect();
    let text = blocks.iter_mut().rev().find(|block| block.get("type").is_some_and(|kind| kind == "text"));
    if let Some(text) = text.and_then(Value::as_object_mut).filter(|_| !citations.is_empty()) {
        text.insert("citations".into(), citations.into());
    }
    blocks
}

/// A block that Anthropic has sent.
pub(super) fn own_block(part: Part) -> Option<Map<String, Value>> {
    let is_own = part.kind == PartKind::Opaque && part.extra.kinds.iter().any(|kind| kind == KIND);
    (is_own && part.extra.fields.get("type").is_some_and(Value::is_string)).then(|| part.extra.fields.into())
}

/// A reference as Anthropic has it ("Citations"). Those of others lack what Anthropic wants back with them, and are left out.
pub(super) fn citation(annotation: Annotation) -> Option<Value> {
    const KINDS: &[&str] = &[
        "char_location",
        "page_location",
        "content_block_location",
        "search_result_location",
        "web_search_result_location",
    ];
    KINDS.contains(&annotation.kind.as_str()).then_some(annotation.json)
}

/// A call without its input, which a stream tells in fragments.
pub(super) fn tool_use(call: &ToolCall) -> Map<String, Value> {
    let mut block = Map::new();
    for (name, text) in [("type", "tool_use"), ("id", &tool_id::told(&call.id)), ("name", &call.name)] {
        block.insert(name.into(), text.into());
    }
    block.insert("input".into(), Map::new().into());
    block
}

/// The arguments as an object. What is none, as where the answer was cut off, is told as the text that it is.
fn input(arguments: &str) -> Value {
    match serde_json::from_str(arguments.trim()) {
        Ok(input @ Value::Object(_)) => input,
        Ok(Value::Null) => Map::new().into(),
        _ if arguments.trim().is_empty() => Map::new().into(),
        _ => json!({ "arguments": arguments }),
    }
}
