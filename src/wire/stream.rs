//! Turns the bytes of a streamed answer into [`ChatEvent`]s, in three steps: a [`Decoder`] cuts the bytes into frames, a
//! vendor's [`ReadFrames`] says what each frame means, and the [`StreamReader`] puts what that says into the contract's
//! order: one finish reason a choice, behind all that the choice says, and the usage once, in the last event.
//!
//! Invariants: memory is bounded by the decoder, nothing is read after the first error, and a stream never ends well
//! before the provider has said that it is done.

use super::{AnswerHead, ChatEvent, ProviderError, RareEvent, ReadError, TokenUsage, mend::Halves};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::BuildHasher as _,
    mem,
};

/// One frame of a stream. An empty one is a sign of life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its type; empty where none is given.
    pub name: String,
    /// What it holds.
    pub data: Vec<u8>,
    /// Whether it is JSON that stands outside of the protocol's frames.
    pub stray: bool,
}

/// Cuts a stream's bytes into frames. It gives the frames that are whole, in their order, and `None` until more bytes
/// have come.
pub trait Decoder: Iterator<Item = Frame> + Send + 'static {
    /// Takes the next bytes, cut anywhere.
    ///
    /// # Errors
    /// When the bytes are no frames, or a frame is too large. The frames before it can still be taken, and no more bytes.
    fn push(&mut self, bytes: &[u8]) -> Result<(), ReadError>;

    /// Takes what has come for all there is: what is not ended yet is a frame too.
    fn end(&mut self);
}

/// What one frame says.
pub enum Said {
    /// What is new. A frame that says nothing is an empty event, because it is a sign of life all the same.
    Events(Vec<ChatEvent>),
    /// The provider is done.
    End,
}

/// Says what a vendor's frames mean, one after the other.
pub trait ReadFrames: Send + 'static {
    /// Whether `[DONE]` alone says that the provider is done, without a finish reason before it.
    const DONE_IS_END: bool = false;

    /// Whether the stream may end behind any frame.
    const END_IS_OPEN: bool = false;

    /// Reads the data of the next frame, which is JSON. It is never empty, and never that of an `error` frame.
    ///
    /// # Errors
    /// When the data is not the protocol, or reports an error.
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError>;

    /// Reads JSON that came in place of a stream.
    ///
    /// # Errors
    /// When the body is not the protocol, or reports an error.
    fn whole(&mut self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError>;

    /// What was held back, when nothing more comes.
    fn rest(&mut self) -> Vec<ChatEvent> {
        Vec::new()
    }
}

/// Reads one streamed answer: takes bytes, cut anywhere, gives what they say; `None` until more bytes have come, or for ever
/// once it is over.
pub trait ReadStream: Iterator<Item = Result<Self::Said, ReadError>> + Send + 'static {
    /// What it gives.
    type Said: Send + 'static;

    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8]);

    /// Says that no more bytes come. What is left, and how the stream ends, can be taken then.
    fn end(&mut self);

    /// Whether every choice has its finish reason: only the usage may follow.
    fn is_finished(&self) -> bool;

    /// Whether all of it is read, whatever bytes follow.
    fn is_closed(&self) -> bool;
}

/// Reads one streamed answer: takes bytes, gives events.
#[expect(clippy::struct_excessive_bools, reason = "what has happened so far, each by itself")]
pub struct StreamReader<D, F> {
    decoder: D,
    frames: F,
    /// Why the decoder takes no more bytes. It is told after the frames before it.
    undecodable: Option<ReadError>,
    /// Events that are not taken yet.
    ready: VecDeque<ChatEvent>,
    order: Order,
    /// Whether a frame that means something has come.
    begun: bool,
    /// Whether the provider has said that it is done.
    done: bool,
    /// Whether no more bytes come.
    ended: bool,
    /// Whether nothing is read any more: after an error, or at the end.
    closed: bool,
}

impl<D: Decoder, F: ReadFrames> StreamReader<D, F> {
    /// A reader of frames that this decoder cuts and this vendor sends.
    pub fn new(decoder: D, frames: F) -> Self {
        Self {
            decoder,
            frames,
            undecodable: None,
            ready: VecDeque::new(),
            order: Order::default(),
            begun: false,
            done: false,
            ended: false,
            closed: false,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.ended && self.undecodable.is_none() {
            self.undecodable = self.decoder.push(bytes).err();
        }
    }

    /// Says that no more bytes come. What is left, and how the stream ends, can be taken then.
    pub fn end(&mut self) {
        if !mem::replace(&mut self.ended, true) && self.undecodable.is_none() {
            self.decoder.end();
        }
    }

    /// Whether every choice has its finish reason: only the usage may follow.
    pub fn is_finished(&self) -> bool {
        self.order.is_finished()
    }

    /// Whether all of it is read, whatever bytes follow.
    pub fn is_closed(&self) -> bool {
        self.closed && self.ready.is_empty()
    }

    fn read(&mut self, frame: &Frame) -> Result<(), ReadError> {
        let data = frame.data.trim_ascii();
        if frame.name == "error" && !data.is_empty() {
            return Err(ReadError::Reported(Box::new(ProviderError::read(data))));
        }
        if data.is_empty() {
            self.ready.push_back(ChatEvent::default());
            return Ok(());
        }
        if frame.stray {
            return self.stray(data);
        }
        if data == b"[DONE]" {
            self.done = F::DONE_IS_END || self.order.is_finished();
            self.ended = true;
            return Ok(());
        }
        // A word between the events, as proxies put there.
        if !matches!(data.first(), Some(b'{' | b'[')) {
            self.ready.push_back(ChatEvent::default());
            return Ok(());
        }
        self.begun = true;
        match self.frames.read(data)? {
            Said::Events(events) => self.take(events),
            Said::End => (self.done, self.ended) = (true, true),
        }
        if self.order.is_overfull {
            self.ready.clear();
            return Err(ReadError::TooLarge);
        }
        Ok(())
    }

    /// JSON outside of frames: the answer as a whole where nothing came before, and else an error or nothing.
    fn stray(&mut self, data: &[u8]) -> Result<(), ReadError> {
        let error = serde_json::from_slice::<Value>(data)
            .ok()
            .and_then(|value| ProviderError::in_place_of_answer(&value));
        if let Some(error) = error {
            return Err(ReadError::Reported(Box::new(error)));
        }
        if !mem::replace(&mut self.begun, true) {
            let events = self.frames.whole(data)?;
            self.take(events);
            self.done = true;
        }
        Ok(())
    }

    fn take(&mut self, events: Vec<ChatEvent>) {
        self.ready.extend(events.into_iter().map(|event| self.order.next(event)));
    }

    /// What follows when all frames are read.
    fn last(&mut self) -> Option<Result<ChatEvent, ReadError>> {
        self.closed = true;
        if !(self.done || self.order.is_finished()) {
            return Some(Err(ReadError::EndedEarly));
        }
        let rest = self.frames.rest();
        self.take(rest);
        if self.order.choices.is_empty() {
            let billed = self.order.usage.is_some();
            return Some(Err(if billed { ReadError::NoMessage } else { ReadError::EndedEarly }));
        }
        self.ready.extend(self.order.end());
        self.ready.pop_front().map(Ok)
    }
}

impl<R: ReadStream + ?Sized> ReadStream for Box<R> {
    type Said = R::Said;

    fn push(&mut self, bytes: &[u8]) {
        R::push(self, bytes);
    }

    fn end(&mut self) {
        R::end(self);
    }

    fn is_finished(&self) -> bool {
        R::is_finished(self)
    }

    fn is_closed(&self) -> bool {
        R::is_closed(self)
    }
}

impl<D: Decoder, F: ReadFrames> ReadStream for StreamReader<D, F> {
    type Said = ChatEvent;

    fn push(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    fn end(&mut self) {
        self.end();
    }

    fn is_finished(&self) -> bool {
        self.is_finished()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

impl<D: Decoder, F: ReadFrames> Iterator for StreamReader<D, F> {
    type Item = Result<ChatEvent, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.closed {
                return None;
            }
            // Behind the provider's own end nothing is read.
            let frame = if self.done { None } else { self.decoder.next() };
            let read = match (frame, &mut self.undecodable) {
                (Some(frame), _) => {
                    let read = self.read(&frame);
                    // What broke off in the middle of a frame cannot be read.
                    if self.ended
                        && !self.done
                        && read == Err(ReadError::MALFORMED)
                        && !self.order.is_finished()
                    {
                        Err(ReadError::EndedEarly)
                    } else {
                        read
                    }
                }
                (None, Some(_)) => Err(self.undecodable.take()?),
                (None, None) if self.ended => return self.last(),
                (None, None) => return None,
            };
            if let Err(error) = read {
                self.closed = true;
                return Some(Err(error));
            }
        }
    }
}

/// So many keys are known again.
const MAX_TOLD: usize = 64;

/// So many choices, and so many calls and pieces of reasoning of one, are kept apart.
const MAX_PLACES: usize = 4096;

/// Puts events into the contract's order.
#[derive(Default)]
struct Order {
    choices: BTreeMap<i32, ChoiceSoFar>,
    usage: Option<TokenUsage>,
    /// Hashes of what was said beside the deltas, by its key.
    told: HashMap<String, u64>,
    /// What was counted beside the usage. It comes with that, once.
    counts: Map<String, Value>,
    /// What the answer has said about itself so far.
    head: AnswerHead,
    /// What came before the first content and belongs into one event with it.
    held: RareEvent,
    /// Whether content has come.
    begun: bool,
    /// Whether it has more choices, calls or pieces of reasoning than are kept apart.
    is_overfull: bool,
}

/// What is kept of a choice until it ends.
#[derive(Default)]
struct ChoiceSoFar {
    finish_reason: String,
    stop_sequence: String,
    content: Halves,
    reasoning: Halves,
    arguments: BTreeMap<i32, Halves>,
}

impl Order {
    fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|choice| !choice.finish_reason.is_empty())
    }

    fn next(&mut self, mut event: ChatEvent) -> ChatEvent {
        if let Some(usage) = event.usage.take() {
            self.usage.get_or_insert_default().update(usage);
        }
        if event.is_content() {
            let choice = self.choices.entry(event.index).or_default();
            finish(&mut choice.finish_reason, mem::take(&mut event.finish_reason));
            event.content = choice.content.next(event.content);
            event.reasoning_content = choice.reasoning.next(event.reasoning_content);
            for call in &mut event.tool_calls {
                let halves = choice.arguments.entry(call.index).or_default();
                call.arguments = halves.next(mem::take(&mut call.arguments));
            }
            let pieces = event.reasoning.iter().filter_map(|piece| usize::try_from(piece.index).ok());
            self.is_overfull |= choice.arguments.len().max(pieces.max().unwrap_or(0)) > MAX_PLACES;
            self.is_overfull |= self.choices.len() > MAX_PLACES;
        }
        if let Some(mut rare) = event.rare.take() {
            if !rare.stop_sequence.is_empty() {
                self.choices.entry(event.index).or_default().stop_sequence =
                    mem::take(&mut rare.stop_sequence);
            }
            rare.head = self.news(mem::take(&mut rare.head));
            // Some say the same in each chunk.
            rare.extra.retain(|name, value| self.is_news(name, value));
            for name in ["usage", "usageMetadata"] {
                if let Some(counts) = rare.extra.shift_remove(name) {
                    self.counts.insert(name.to_owned(), counts);
                }
            }
            event.rare = (*rare != RareEvent::default()).then_some(rare);
        }
        if !self.begun && !event.is_content() {
            // Nobody reads an event that comes before the first content.
            if let Some(rare) = event.rare.take() {
                self.held.join(*rare);
            }
        } else if !mem::replace(&mut self.begun, true) && self.held != RareEvent::default() {
            let mut rare = mem::take(&mut self.held);
            if let Some(own) = event.rare.take() {
                rare.join(*own);
            }
            event.rare = Some(Box::new(rare));
        }
        event
    }

    /// Whether this has not been told yet. Nobody says more than a few things again and again.
    fn is_news(&mut self, name: &str, value: &Value) -> bool {
        let hash = self.told.hasher().hash_one(value);
        if let Some(told) = self.told.get_mut(name) {
            return mem::replace(told, hash) != hash;
        }
        if self.told.len() < MAX_TOLD {
            self.told.insert(name.to_owned(), hash);
        }
        true
    }

    /// What of this has not been told yet.
    fn news(&mut self, head: AnswerHead) -> AnswerHead {
        let mut news = AnswerHead::default();
        let fields = [
            (&mut self.head.id, head.id, &mut news.id),
            (&mut self.head.request_id, head.request_id, &mut news.request_id),
            (&mut self.head.model, head.model, &mut news.model),
            (&mut self.head.system_fingerprint, head.system_fingerprint, &mut news.system_fingerprint),
            (&mut self.head.service_tier, head.service_tier, &mut news.service_tier),
        ];
        for (known, said, new) in fields {
            if known.is_empty() && !said.is_empty() {
                new.clone_from(&said);
                *known = said;
            }
        }
        news
    }

    /// The last events: what was held back, and how each choice ends.
    fn end(&mut self) -> Vec<ChatEvent> {
        let mut events = Vec::new();
        for (index, mut choice) in mem::take(&mut self.choices) {
            let mut event = ChatEvent {
                index,
                content: choice.content.rest(),
                reasoning_content: choice.reasoning.rest(),
                finish_reason: choice.finish_reason,
                ..ChatEvent::default()
            };
            if !choice.stop_sequence.is_empty() {
                event.rare().stop_sequence = choice.stop_sequence;
            }
            if !event.is_empty() {
                events.push(event);
            }
        }
        if events.is_empty() {
            events.push(ChatEvent::default());
        }
        if !mem::replace(&mut self.begun, true)
            && self.held != RareEvent::default()
            && let Some(first) = events.first_mut()
        {
            first.rare().join(mem::take(&mut self.held));
        }
        if let Some(last) = events.last_mut() {
            last.usage = self.usage.take();
            if !self.counts.is_empty() {
                last.rare().extra.extend(mem::take(&mut self.counts));
            }
        }
        events
    }
}

/// Two finish reasons are one: the later, unless it says less.
fn finish(known: &mut String, said: String) {
    if known.is_empty() || !(said.is_empty() || said == "stop") {
        *known = said;
    }
}
