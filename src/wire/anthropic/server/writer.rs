//! Writes the answer to one request, whole or as a stream (<https://docs.claude.com/en/api/messages-streaming>).

use super::{
    answer::{Ending, citation, counts, envelope, own_block, whole},
    error,
    stream::{Blocks, Said, event, frame},
};
use crate::wire::{
    AnswerHead, ChatEvent, ErrorReport, Output, RareEvent, Reasoning, Stamp, TokenUsage, WriteAnswer,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Writes what comes of one request.
///
/// Frames that are handed on and events that are translated make one message: first the frames, and behind them, where the
/// answer goes on elsewhere, the events. A stream that has begun takes no more frames.
#[derive(Default)]
pub struct Writer {
    thinks_late: bool,
    blocks: Blocks,
    state: State,
    ending: Ending,
    usage: TokenUsage,
}

/// How far a stream is.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    #[default]
    Silent,
    /// `message_start` is told.
    Begun,
    /// `message_delta` is told: why the message ends.
    Ending,
    /// `message_stop` is told.
    Over,
}

impl Writer {
    /// For a request that has asked for thinking, or has not. Where it has not, clients take the first block for the text:
    /// thinking stands behind it.
    pub(super) fn of(shows_thinking: bool) -> Self {
        let thinks_late = !shows_thinking;
        Self { thinks_late, blocks: Blocks::new(thinks_late), ..Self::default() }
    }

    fn begin(&mut self, stamp: &Stamp, head: &AnswerHead, out: &mut Vec<u8>) {
        if self.state > State::Silent {
            return;
        }
        self.state = State::Begun;
        let mut message = envelope(stamp, head);
        message.insert("content".into(), Vec::<Value>::new().into());
        message.insert("stop_reason".into(), Value::Null);
        message.insert("stop_sequence".into(), Value::Null);
        // Most providers count at the end, which `message_delta` tells: those counts are totals and replace these.
        message.insert("usage".into(), counts(TokenUsage::default()).into());
        event(&json!({"type": "message_start", "message": message}), out);
    }

    /// Takes note of how the message ends.
    fn note(&mut self, said: &ChatEvent) {
        if !said.finish_reason.is_empty() {
            self.ending.finish_reason.clone_from(&said.finish_reason);
        }
        if let Some(rare) = said.rare.as_ref().filter(|rare| !rare.stop_sequence.is_empty()) {
            self.ending.stop_sequence.clone_from(&rare.stop_sequence);
        }
        self.ending.refusal.push_str(&said.refusal);
        self.ending.calls |= !said.tool_calls.is_empty();
        if let Some(usage) = said.usage {
            self.usage.update(usage);
        }
    }

    /// Takes note of a frame that is handed on. Returns its type.
    fn pass(&mut self, data: &[u8]) -> Option<String> {
        let passed: Passed = serde_json::from_slice(data).ok()?;
        match passed.kind.as_str() {
            "message_start" => self.state = State::Begun,
            "content_block_start" => {
                let kind = passed.content_block.map(|block| block.kind).unwrap_or_default();
                self.blocks.passed_start(passed.index, &kind);
            }
            "content_block_stop" => self.blocks.passed_stop(),
            "message_delta" => self.state = State::Ending,
            "message_stop" => self.state = State::Over,
            _ => {}
        }
        Some(passed.kind)
    }
}

/// What matters of a frame that is handed on.
#[derive(Deserialize)]
struct Passed {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    index: u32,
    #[serde(default)]
    content_block: Option<PassedBlock>,
}

#[derive(Deserialize)]
struct PassedBlock {
    #[serde(rename = "type", default)]
    kind: String,
}

impl WriteAnswer for Writer {
    fn whole(&mut self, stamp: &Stamp, output: Output) -> Vec<u8> {
        let answer = match output {
            Output::Chat(reply) => whole(stamp, *reply, self.thinks_late),
            Output::Tokens(count) => json!({ "input_tokens": count }),
            _ => json!({}),
        };
        answer.to_string().into_bytes()
    }

    fn event(&mut self, stamp: &Stamp, said: ChatEvent, out: &mut Vec<u8>) {
        // A message has one choice.
        if said.index != 0 || said.is_empty() {
            return;
        }
        self.note(&said);
        let ChatEvent { content, reasoning_content, mut reasoning, refusal, tool_calls, rare, .. } = said;
        let RareEvent { head, parts, annotations, .. } = rare.map(|rare| *rare).unwrap_or_default();
        self.begin(stamp, &head, out);
        if reasoning.is_empty() && !reasoning_content.is_empty() {
            reasoning.push(Reasoning { text: reasoning_content, ..Reasoning::default() });
        }
        let texts = [content, refusal].into_iter().filter(|text| !text.is_empty());
        let all = (reasoning.into_iter().map(Said::Thought))
            .chain(texts.map(Said::Text))
            .chain(annotations.into_iter().filter_map(citation).map(Said::Citation))
            .chain(parts.into_iter().filter_map(own_block).map(Said::Block))
            .chain(tool_calls.into_iter().map(Said::Call));
        for each in all {
            self.blocks.say(each, out);
        }
    }

    fn heard(&mut self, event: &ChatEvent) {
        self.note(event);
    }

    fn frame(&mut self, name: &str, data: &[u8], out: &mut Vec<u8>) {
        // The SDKs read an event by its name, and some servers send none.
        let kind = if name == "content_block_delta" { None } else { self.pass(data) };
        let named = if name.is_empty() { kind.as_deref().unwrap_or_default() } else { name };
        frame(named, data, out);
    }

    fn end(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        if self.state < State::Ending {
            self.begin(stamp, &AnswerHead::default(), out);
            self.blocks.finish(out);
            let delta = std::mem::take(&mut self.ending).delta();
            event(&json!({"type": "message_delta", "delta": delta, "usage": counts(self.usage)}), out);
        }
        if self.state < State::Over {
            event(&json!({"type": "message_stop"}), out);
        }
        self.state = State::Over;
    }

    fn error(&mut self, _: &Stamp, failure: &ErrorReport, out: &mut Vec<u8>) {
        event(&error::value(failure), out);
        self.state = State::Over;
    }

    fn keep_alive(&self) -> &'static [u8] {
        b"event: ping\ndata: {\"type\": \"ping\"}\n\n"
    }
}

#[cfg(test)]
mod tests;
