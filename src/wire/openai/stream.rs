//! What the chunks of a streamed chat completion mean (OpenAI API reference, "Chat completion chunk":
//! <https://platform.openai.com/docs/api-reference/chat-streaming>). The last frame is `[DONE]`.

mod plain;

use super::{
    answer::{Completion, OneChoice, check_end, completion},
    message::{SoFar, Spoken, Text, annotations},
    think::Think,
};
use crate::wire::{
    Annotation, AnswerHead, ChatEvent, Content, RareEvent, ReadError, ReadFrames, Reasoning, Said,
    answer::no_answer, lenient::object, tool_calls::ToolCalls,
};
use std::collections::BTreeMap;

/// The chunks of a streamed chat completion.
#[derive(Default)]
pub struct Chunks {
    choices: BTreeMap<i32, ChoiceSoFar>,
    /// Whether reasoning stands in the text.
    think_tags: bool,
    /// What the chunk before has said of the answer: most say the same.
    head: AnswerHead,
    /// The sources so far: Perplexity tells them in each chunk (<https://docs.perplexity.ai/api-reference/chat-completions-post>).
    sources: Vec<Annotation>,
}

#[derive(Default)]
struct ChoiceSoFar {
    calls: ToolCalls,
    reasoning: SoFar,
    think: Think,
    /// Whether it has said anything.
    said: bool,
}

impl Chunks {
    /// Of a server that writes its reasoning between `<think>` and `</think>`, or not.
    #[must_use]
    pub fn new(think_tags: bool) -> Self {
        Self { think_tags, ..Self::default() }
    }

    /// Reads one chunk: an event a choice.
    fn chunk(&mut self, data: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        if !self.think_tags
            && let Some(event) = plain::plain(data, &self.head)
        {
            self.choices.entry(event.index).or_default().said |= event.is_content();
            return Ok(vec![event]);
        }
        let mut chunk: Completion = object(data)?;
        chunk.check()?;
        let (head, usage) = (chunk.head(), chunk.usage());
        let is_news = head != self.head;
        let mut events = Vec::with_capacity(1);
        for choice in std::mem::take(&mut chunk.choices) {
            events.push(self.choice(choice, &head.id)?);
        }
        if events.is_empty() {
            // A chunk without choices is a sign of life all the same, unless it is an error of some other shape.
            if usage.is_none()
                && let error @ ReadError::Reported(_) = no_answer(data)
            {
                return Err(error);
            }
            events.push(ChatEvent::default());
        }
        let mut sources = annotations(chunk.citations.into_value());
        sources.retain(|source| !self.sources.contains(source));
        self.sources.extend(sources.clone());
        if let Some(first) = events.first_mut()
            && (is_news || !chunk.rest.is_empty() || !sources.is_empty())
        {
            let rare = first.rare();
            rare.head.clone_from(&head);
            rare.extra = chunk.rest;
            rare.annotations.extend(sources);
        }
        self.head = head;
        if let Some(last) = events.last_mut() {
            last.usage = usage;
        }
        Ok(events)
    }

    fn choice(&mut self, mut choice: OneChoice, answer: &str) -> Result<ChatEvent, ReadError> {
        choice.check()?;
        let index = choice.index.index().unwrap_or_default();
        let so_far = self.choices.entry(index).or_default();
        so_far.calls.of(answer);
        // Some servers end a stream with the whole message again: only what no delta has said is news, and that cannot
        // be told. Others send nothing but the whole message.
        let whole = choice.message.take().filter(|_| !so_far.said);
        let delta = choice
            .delta
            .or(whole)
            .unwrap_or_else(|| Box::new(Text { content: choice.text.into_value(), ..Text::default() }));
        let spoken = Spoken::read(*delta, &mut so_far.reasoning);
        let mut event = ChatEvent {
            index,
            reasoning_content: spoken.reasoning_content,
            reasoning: spoken.reasoning,
            refusal: spoken.refusal,
            ..ChatEvent::default()
        };
        let mut parts = Vec::new();
        match spoken.content {
            Content::Text(text) => event.content = text,
            Content::Parts(all) => {
                for part in all {
                    match part.text() {
                        Some(text) => event.content.push_str(text),
                        None => parts.push(part),
                    }
                }
            }
        }
        if self.think_tags {
            let (content, thought) = so_far.think.next(&event.content);
            event.content = content;
            think(&mut event, thought);
        }
        event.tool_calls = spoken.calls.into_iter().flat_map(|call| so_far.calls.next(call)).collect();
        if !choice.finish_reason.is_empty() {
            event.tool_calls.extend(so_far.calls.rest());
        }
        so_far.said |= event.is_content() || !parts.is_empty();
        check_end(&choice.finish_reason, !so_far.said)?;
        event.finish_reason = choice.finish_reason;
        let has_more = !(parts.is_empty()
            && spoken.annotations.is_empty()
            && choice.logprobs.is_null()
            && choice.stop_reason.is_empty()
            && spoken.rest.is_empty()
            && choice.rest.is_empty());
        if has_more {
            let mut rest = spoken.rest;
            rest.extend(choice.rest);
            event.rare = Some(Box::new(RareEvent {
                parts,
                annotations: spoken.annotations,
                logprobs: choice.logprobs.into_box(),
                stop_sequence: choice.stop_reason,
                delta_extra: rest,
                ..RareEvent::default()
            }));
        }
        Ok(event)
    }
}

impl ReadFrames for Chunks {
    const DONE_IS_END: bool = true;

    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        self.chunk(data).map(Said::Events)
    }

    fn whole(&mut self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        let mut reply = completion(body)?;
        if self.think_tags {
            super::think::split(&mut reply);
        }
        Ok(reply.into_events())
    }

    fn rest(&mut self) -> Vec<ChatEvent> {
        let mut events = Vec::new();
        for (index, choice) in &mut self.choices {
            let mut event =
                ChatEvent { index: *index, tool_calls: choice.calls.rest(), ..ChatEvent::default() };
            let (content, thought) = choice.think.rest();
            event.content = content;
            think(&mut event, thought);
            if event.is_content() {
                events.push(event);
            }
        }
        events
    }
}

fn think(event: &mut ChatEvent, thought: String) {
    if !thought.is_empty() {
        event.reasoning_content.push_str(&thought);
        event.reasoning.push(Reasoning { text: thought, ..Reasoning::default() });
    }
}

#[cfg(test)]
mod tests;
