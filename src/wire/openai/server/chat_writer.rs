//! Writes the answers to chats: whole (API reference, "The chat completion object") and streamed ("The chat completion chunk
//! object": <https://platform.openai.com/docs/api-reference/chat-streaming>). The order of chunks is the one that the
//! accumulator of OpenAI's Python client reads (`ChatCompletionStreamState`,
//! <https://github.com/openai/openai-python/blob/main/src/openai/lib/streaming/chat/_completions.py>).

use super::{
    frames,
    head::{self, Head, Kind},
    said,
    thoughts::Told,
};
use crate::wire::{
    ChatEvent, ChatReply, Choice, Content, ErrorReport, Output, RareEvent, Stamp, TokenUsage, ToolCall,
    WriteAnswer,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const WHOLE: Kind = Kind { object: "chat.completion", prefix: "chatcmpl-" };
const CHUNK: Kind = Kind { object: "chat.completion.chunk", prefix: "chatcmpl-" };

/// OpenAI gives at most so many choices (API reference, `n`).
const MOST_CHOICES: i32 = 128;

/// So many references of one choice are told.
const MOST_ANNOTATIONS: usize = 1024;

/// Writes the answer to one chat.
#[derive(Default)]
pub(super) struct ChatWriter {
    head: Head,
    /// Whether a stream tells its usage.
    usage_wanted: bool,
    /// Whether the caller knows functions, and no tools.
    functions: bool,
    choices: BTreeMap<i32, ChoiceSoFar>,
    usage: Option<TokenUsage>,
}

/// What a choice has told.
#[derive(Default)]
struct ChoiceSoFar {
    /// Whether it has said whose it is.
    begun: bool,
    /// Its calls' indices, in the order in which they began.
    calls: Vec<i32>,
    thoughts: Told,
    images: usize,
    /// References, until the choice ends: the accumulator takes a list of them once.
    annotations: Vec<Value>,
}

impl ChatWriter {
    pub(super) fn new(usage_wanted: bool, functions: bool) -> Self {
        Self { usage_wanted, functions, ..Self::default() }
    }

    fn finish_reason<'r>(&self, reason: &'r str) -> &'r str {
        match head::finish_reason(reason) {
            "tool_calls" if self.functions => "function_call",
            other => other,
        }
    }

    /// A whole choice.
    fn choice(&self, choice: &Choice, stamp: &Stamp) -> Value {
        let message = &choice.message;
        let text = message.content.text();
        let is_null = text.is_empty() && !(message.tool_calls.is_empty() && message.refusal.is_empty());
        let mut out = Map::new();
        out.insert("role".to_owned(), "assistant".into());
        out.insert("content".to_owned(), if is_null { Value::Null } else { text.into() });
        out.insert("refusal".to_owned(), some(&message.refusal));
        let (mut lists, calls) = (Vec::new(), &message.tool_calls);
        if !message.reasoning_content.is_empty() {
            out.insert("reasoning_content".to_owned(), message.reasoning_content.clone().into());
        }
        lists.push(("reasoning_details", Told::default().details(&message.reasoning)));
        if self.functions {
            out.extend(calls.first().map(|call| ("function_call".to_owned(), said::function(call))));
        } else {
            lists.push(("tool_calls", calls.iter().map(said::tool_call).collect()));
        }
        lists.push(("annotations", message.annotations.iter().filter_map(said::annotation).collect()));
        if let Content::Parts(parts) = &message.content {
            lists.push(("images", said::images(parts, 0)));
            let audio = said::audio(parts, &format!("audio_{}", stamp.id), stamp.created);
            out.extend(audio.map(|audio| ("audio".to_owned(), audio)));
        }
        let lists = lists.into_iter().filter(|(_, items)| !items.is_empty());
        out.extend(lists.map(|(name, items)| (name.to_owned(), items.into())));
        let mut whole = json!({
            "index": choice.index,
            "message": out,
            "logprobs": said::logprobs(choice.logprobs.as_deref()),
            "finish_reason": self.finish_reason(&choice.finish_reason),
        });
        end_with(&mut whole, &choice.stop_sequence);
        whole
    }

    /// Appends a chunk. Where usage is told, each says that it is not told there (API reference, `stream_options`).
    fn chunk(&mut self, stamp: &Stamp, choice: Value, out: &mut Vec<u8>) {
        let mut chunk = self.head.piece(stamp, CHUNK, vec![choice]);
        if self.usage_wanted {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        frames::event(&frames::write(&chunk), out);
    }

    /// The choices that begin with that one: all before it begin first, as accumulators count.
    fn begun(&self, index: i32) -> Vec<i32> {
        let begun = |index: &i32| self.choices.get(index).is_some_and(|choice| choice.begun);
        if begun(&index) {
            return Vec::new();
        }
        let before = 0..index.clamp(0, MOST_CHOICES);
        before.chain([index]).filter(|index| !begun(index)).collect()
    }

    /// What an event adds to a choice, in the order in which it is told.
    fn deltas(&mut self, event: &ChatEvent) -> Vec<Map<String, Value>> {
        let functions = self.functions;
        let choice = self.choices.entry(event.index).or_default();
        let mut deltas = Vec::new();
        let mut thought = Map::new();
        if !event.reasoning_content.is_empty() {
            thought.insert("reasoning_content".to_owned(), event.reasoning_content.clone().into());
        }
        let details = choice.thoughts.details(&event.reasoning);
        if !details.is_empty() {
            thought.insert("reasoning_details".to_owned(), details.into());
        }
        deltas.push(thought);
        let mut text = Map::new();
        for (name, said) in [("content", &event.content), ("refusal", &event.refusal)] {
            if !said.is_empty() {
                text.insert(name.to_owned(), said.clone().into());
            }
        }
        if let Some(rare) = &event.rare {
            let images = said::images(&rare.parts, choice.images);
            choice.images += images.len();
            if !images.is_empty() {
                text.insert("images".to_owned(), images.into());
            }
        }
        deltas.push(text);
        deltas.extend(event.tool_calls.iter().filter_map(|call| choice.call(call, functions)));
        deltas.retain(|delta| !delta.is_empty());
        deltas
    }

    /// Takes note of what has no place in a delta, or only at the end.
    fn keep(&mut self, event: &ChatEvent) {
        if let Some(usage) = event.usage {
            self.usage.get_or_insert_default().update(usage);
        }
        let Some(rare) = &event.rare else { return };
        self.head.learn(&rare.head);
        if !rare.annotations.is_empty() {
            let choice = self.choices.entry(event.index).or_default();
            let room = MOST_ANNOTATIONS.saturating_sub(choice.annotations.len());
            choice.annotations.extend(rare.annotations.iter().filter_map(said::annotation).take(room));
        }
    }
}

impl ChoiceSoFar {
    /// A call, or a fragment of one. What begins a call says all of it, and what follows the arguments alone.
    fn call(&mut self, call: &ToolCall, functions: bool) -> Option<Map<String, Value>> {
        let known = self.calls.iter().position(|index| *index == call.index);
        let number = known.unwrap_or(self.calls.len());
        if known.is_none() {
            self.calls.push(call.index);
        } else if call.arguments.is_empty() {
            return None;
        }
        let gain = || json!({"arguments": call.arguments});
        if functions {
            let said = if known.is_none() { said::function(call) } else { gain() };
            return (number == 0).then(|| Map::from_iter([("function_call".to_owned(), said)]));
        }
        let mut said = if known.is_none() { said::tool_call(call) } else { json!({"function": gain()}) };
        said["index"] = number.into();
        Some(Map::from_iter([("tool_calls".to_owned(), json!([said]))]))
    }
}

impl WriteAnswer for ChatWriter {
    fn whole(&mut self, stamp: &Stamp, output: Output) -> Vec<u8> {
        let Output::Chat(reply) = output else { return Vec::new() };
        let ChatReply { head, choice, more_choices, usage, .. } = *reply;
        self.head.learn(&head);
        let choices = std::iter::once(&choice).chain(&more_choices);
        let choices = choices.map(|choice| self.choice(choice, stamp)).collect();
        let mut answer = self.head.piece(stamp, WHOLE, choices);
        if let Some(usage) = usage {
            answer.insert("usage".to_owned(), head::usage(&usage));
        }
        frames::write(&answer)
    }

    fn event(&mut self, stamp: &Stamp, event: ChatEvent, out: &mut Vec<u8>) {
        self.keep(&event);
        let logprobs = event.rare.as_ref().and_then(|rare| rare.logprobs.as_deref());
        if !event.is_content() && logprobs.is_none() {
            return;
        }
        for index in self.begun(event.index) {
            self.choices.entry(index).or_default().begun = true;
            let delta = [("role".to_owned(), "assistant".into()), ("content".to_owned(), "".into())];
            self.chunk(stamp, choice(index, Map::from_iter(delta), &Value::Null, None), out);
        }
        let mut logprobs = said::logprobs(logprobs);
        let mut deltas = self.deltas(&event);
        if deltas.is_empty() && !logprobs.is_null() {
            deltas.push(Map::new());
        }
        for delta in deltas {
            let said = std::mem::take(&mut logprobs);
            self.chunk(stamp, choice(event.index, delta, &said, None), out);
        }
        if event.finish_reason.is_empty() {
            return;
        }
        self.tell_annotations(stamp, event.index, out);
        let reason = self.finish_reason(&event.finish_reason);
        let mut last = choice(event.index, Map::new(), &Value::Null, Some(reason));
        end_with(&mut last, event.rare.as_ref().map_or("", |rare| &rare.stop_sequence));
        self.chunk(stamp, last, out);
    }

    fn heard(&mut self, event: &ChatEvent) {
        if let Some(RareEvent { head, .. }) = event.rare.as_deref() {
            self.head.learn(head);
        }
        if !event.is_content() {
            return;
        }
        let choice = self.choices.entry(event.index).or_default();
        choice.begun = true;
        choice.thoughts.heard(&event.reasoning);
        for call in &event.tool_calls {
            choice.call(call, false);
        }
    }

    fn frame(&mut self, _name: &str, data: &[u8], out: &mut Vec<u8>) {
        frames::frame(data, out);
    }

    fn end(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        let open: Vec<_> = self.choices.keys().copied().collect();
        for index in open {
            self.tell_annotations(stamp, index, out);
        }
        let told = self.usage.take().filter(|_| self.usage_wanted);
        self.head.end(stamp, CHUNK, told, out);
    }

    fn error(&mut self, _stamp: &Stamp, error: &ErrorReport, out: &mut Vec<u8>) {
        head::failure(error, out);
    }

    fn keep_alive(&self) -> &'static [u8] {
        frames::KEEP_ALIVE
    }
}

impl ChatWriter {
    fn tell_annotations(&mut self, stamp: &Stamp, index: i32, out: &mut Vec<u8>) {
        let held = self.choices.get_mut(&index).map(|choice| std::mem::take(&mut choice.annotations));
        if let Some(held) = held.filter(|held| !held.is_empty()) {
            let delta = Map::from_iter([("annotations".to_owned(), held.into())]);
            self.chunk(stamp, choice(index, delta, &Value::Null, None), out);
        }
    }
}

/// A choice of a chunk.
fn choice(index: i32, delta: Map<String, Value>, logprobs: &Value, finish_reason: Option<&str>) -> Value {
    json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason})
}

/// The sequence that ended a choice, as vLLM tells it
/// (<https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>).
fn end_with(choice: &mut Value, sequence: &str) {
    if !sequence.is_empty() {
        choice["stop_reason"] = sequence.into();
    }
}

fn some(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

#[cfg(test)]
mod tests;
