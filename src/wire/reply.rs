//! What a chat's answer says, whole or in pieces, as the drivers and the edge share it.

use super::{Annotation, Content, Keys, Message, Part, Reasoning, ToolCall};
use serde_json::Value;

/// What the provider counted. The contract says what is part of what; the readers hold every vendor to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Tokens in.
    pub prompt: u32,
    /// Tokens out, those of the reasoning among them.
    pub completion: u32,
    /// Both.
    pub total: u32,
    /// Of those in: from the provider's cache.
    pub cached: u32,
    /// Of those in: written into the provider's cache.
    pub cache_write: u32,
    /// Of those out: spent on reasoning.
    pub reasoning: u32,
    /// Of those in: audio.
    pub prompt_audio: u32,
    /// Of those out: audio.
    pub completion_audio: u32,
}

impl TokenUsage {
    /// Adds what another answer used.
    pub fn add(&mut self, other: Self) {
        self.prompt = self.prompt.saturating_add(other.prompt);
        self.completion = self.completion.saturating_add(other.completion);
        self.total = self.total.saturating_add(other.total);
        self.cached = self.cached.saturating_add(other.cached);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
        self.prompt_audio = self.prompt_audio.saturating_add(other.prompt_audio);
        self.completion_audio = self.completion_audio.saturating_add(other.completion_audio);
    }

    /// Takes later counts of the same answer: they are totals so far, and a zero says nothing.
    pub fn update(&mut self, later: Self) {
        let pairs = [
            (&mut self.prompt, later.prompt),
            (&mut self.completion, later.completion),
            (&mut self.total, later.total),
            (&mut self.cached, later.cached),
            (&mut self.cache_write, later.cache_write),
            (&mut self.reasoning, later.reasoning),
            (&mut self.prompt_audio, later.prompt_audio),
            (&mut self.completion_audio, later.completion_audio),
        ];
        for (own, later) in pairs {
            if later > 0 {
                *own = later;
            }
        }
        self.total = self.total.max(self.prompt.saturating_add(self.completion));
    }
}

/// What an answer says about itself, once. Empty strings mean "not there".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerHead {
    /// The provider's id of the answer.
    pub id: String,
    /// The provider's id of the request, from its headers.
    pub request_id: String,
    /// The model's name as returned.
    pub model: String,
    /// The provider's fingerprint.
    pub system_fingerprint: String,
    /// The service tier that was used.
    pub service_tier: String,
}

impl AnswerHead {
    /// Takes what a later word says.
    pub(super) fn update(&mut self, later: Self) {
        let Self { id, request_id, model, system_fingerprint, service_tier } = later;
        for (own, later) in [
            (&mut self.id, id),
            (&mut self.request_id, request_id),
            (&mut self.model, model),
            (&mut self.system_fingerprint, system_fingerprint),
            (&mut self.service_tier, service_tier),
        ] {
            if !later.is_empty() {
                *own = later;
            }
        }
    }
}

/// One whole answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatReply {
    /// What it says about itself.
    pub head: AnswerHead,
    /// The first choice.
    pub choice: Choice,
    /// Those after the first.
    pub more_choices: Vec<Choice>,
    /// What it used; none where the provider does not say.
    pub usage: Option<TokenUsage>,
    /// What the provider sent beside all that.
    pub extra: Keys,
}

/// One of an answer's choices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Its index.
    pub index: i32,
    /// The assistant's message.
    pub message: Message,
    /// Such as `stop`.
    pub finish_reason: String,
    /// The stop sequence that ended it.
    pub stop_sequence: String,
    /// The tokens' log probabilities, as the provider sent them.
    pub logprobs: Option<Box<Value>>,
    /// What the provider sent beside the message.
    pub extra: Keys,
}

/// One piece of a streamed answer. A default one says nothing, and is a sign of life.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatEvent {
    /// Which choice.
    pub index: i32,
    /// New text.
    pub content: String,
    /// New reasoning, as plain text.
    pub reasoning_content: String,
    /// New reasoning, as its provider needs it back.
    pub reasoning: Vec<Reasoning>,
    /// New refusal.
    pub refusal: String,
    /// Fragments of tool calls.
    pub tool_calls: Vec<ToolCall>,
    /// In the choice's last event.
    pub finish_reason: String,
    /// In the stream's last event, where the provider tells it.
    pub usage: Option<TokenUsage>,
    /// What is rare.
    pub rare: Option<Box<RareEvent>>,
}

/// What few pieces of a streamed answer have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RareEvent {
    /// What the answer says about itself, in the first event that tells it.
    pub head: AnswerHead,
    /// Whole parts that are no text.
    pub parts: Vec<Part>,
    /// What the answer refers to.
    pub annotations: Vec<Annotation>,
    /// The tokens' log probabilities.
    pub logprobs: Option<Box<Value>>,
    /// The stop sequence that ended the choice.
    pub stop_sequence: String,
    /// What the provider sent in the delta beside all that.
    pub delta_extra: Keys,
    /// What the provider sent beside the delta.
    pub extra: Keys,
}

impl RareEvent {
    /// Adds what came later.
    pub(super) fn join(&mut self, later: Self) {
        let Self { head, parts, annotations, logprobs, stop_sequence, delta_extra, extra } = later;
        self.head.update(head);
        self.parts.extend(parts);
        self.annotations.extend(annotations);
        self.logprobs = logprobs.or(self.logprobs.take());
        if !stop_sequence.is_empty() {
            self.stop_sequence = stop_sequence;
        }
        self.delta_extra.extend(delta_extra);
        self.extra.extend(extra);
    }
}

impl ChatEvent {
    /// Whether this is content in the sense of the first-content rule: text, reasoning, refusal, a tool call, media, or
    /// the end of the choice. Role-only deltas and pings are not.
    #[must_use]
    pub fn is_content(&self) -> bool {
        !(self.content.is_empty()
            && self.reasoning_content.is_empty()
            && self.reasoning.is_empty()
            && self.refusal.is_empty()
            && self.tool_calls.is_empty()
            && self.finish_reason.is_empty())
            || self.rare.as_ref().is_some_and(|rare| !rare.parts.is_empty())
    }

    /// Whether it says anything at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.is_content() && self.usage.is_none() && self.rare.is_none()
    }

    /// What is rare, to be written.
    pub fn rare(&mut self) -> &mut RareEvent {
        self.rare.get_or_insert_default()
    }
}

impl ChatReply {
    /// All choices, in their order.
    pub fn choices_mut(&mut self) -> impl Iterator<Item = &mut Choice> {
        std::iter::once(&mut self.choice).chain(&mut self.more_choices)
    }

    /// The events that the whole answer would have been as a stream: one a choice.
    #[must_use]
    pub fn into_events(self) -> Vec<ChatEvent> {
        let Self { head, choice, more_choices, usage, extra } = self;
        let mut events: Vec<_> = std::iter::once(choice).chain(more_choices).map(ChatEvent::from).collect();
        if let Some(first) = events.first_mut()
            && (head != AnswerHead::default() || !extra.is_empty())
        {
            first.rare().head = head;
            first.rare().extra = extra;
        }
        if let Some(last) = events.last_mut() {
            last.usage = usage;
        }
        events
    }
}

impl From<Choice> for ChatEvent {
    fn from(choice: Choice) -> Self {
        let Choice { index, message, finish_reason, stop_sequence, logprobs, extra } = choice;
        let content = message.content.text();
        let parts = match message.content {
            Content::Text(_) => Vec::new(),
            Content::Parts(parts) => parts.into_iter().filter(|part| part.text().is_none()).collect(),
        };
        let mut delta_extra = message.extra.fields;
        delta_extra.extend(extra);
        let rare = RareEvent {
            parts,
            annotations: message.annotations,
            logprobs,
            stop_sequence,
            delta_extra,
            ..RareEvent::default()
        };
        Self {
            index,
            content,
            reasoning_content: message.reasoning_content,
            reasoning: message.reasoning,
            refusal: message.refusal,
            tool_calls: message.tool_calls,
            finish_reason,
            usage: None,
            rare: (rare != RareEvent::default()).then(|| Box::new(rare)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Media, PartKind};

    #[test]
    fn a_whole_answer_is_an_event_a_choice() {
        let usage = TokenUsage { prompt: 2, completion: 3, total: 5, ..TokenUsage::default() };
        let text = |text: &str| text.to_owned();
        let image = Part::from(PartKind::Image(Media::default()));
        let message = Message {
            content: Content::Parts(vec![PartKind::Text(text("a")).into(), image.clone()]),
            tool_calls: vec![ToolCall { id: text("c"), ..ToolCall::default() }],
            reasoning_content: text("r"),
            refusal: text("no"),
            ..Message::default()
        };
        let choice = |index| Choice {
            index,
            message: message.clone(),
            finish_reason: text("stop"),
            ..Choice::default()
        };
        let head = AnswerHead { id: text("x"), ..AnswerHead::default() };
        let reply = ChatReply {
            head: head.clone(),
            choice: choice(0),
            more_choices: vec![choice(1)],
            usage: Some(usage),
            ..ChatReply::default()
        };
        let event = |index, head, usage| ChatEvent {
            index,
            content: text("a"),
            reasoning_content: text("r"),
            refusal: text("no"),
            tool_calls: message.tool_calls.clone(),
            finish_reason: text("stop"),
            usage,
            rare: Some(Box::new(RareEvent { head, parts: vec![image.clone()], ..RareEvent::default() })),
            ..ChatEvent::default()
        };
        let expected = [event(0, head, None), event(1, AnswerHead::default(), Some(usage))];
        assert_eq!(reply.into_events(), expected);
    }

    #[test]
    fn later_counts_are_totals_and_a_zero_says_nothing() {
        let mut usage =
            TokenUsage { prompt: 115, cached: 100, completion: 1, total: 116, ..TokenUsage::default() };
        usage.update(TokenUsage { completion: 7, ..TokenUsage::default() });
        let expected =
            TokenUsage { prompt: 115, cached: 100, completion: 7, total: 122, ..TokenUsage::default() };
        assert_eq!(usage, expected);
    }
}
