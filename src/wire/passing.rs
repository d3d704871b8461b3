//! A stream that is handed on frame by frame, as the provider sent it. A reader beside it says what each frame means, so that
//! it is known when content comes, what was used, and whether it has failed or ended early.
//!
//! Invariants: those of [`StreamReader`](super::StreamReader). What is no frame of the protocol is skipped.

use super::{
    ChatEvent, Decoder, Endpoint, Frame, ProviderError, ReadError, ReadFrames, ReadStream, Said, anthropic,
    gemini,
    glance::reported,
    mend::Halves,
    openai,
    overheard::counts,
    scan::{Broken, Scan},
    sse::EventStream,
};
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

/// How many bytes of an event are held until it ends.
const MAX_EVENT: usize = 32 << 20;
/// So many choices are kept apart.
const MAX_CHOICES: usize = 4096;

/// What comes of a stream that is handed on.
#[derive(Debug, Clone, PartialEq)]
pub enum Passed {
    /// A frame as it came. An empty one is a sign of life. The one that says nothing but `[DONE]` is left out: whoever hands
    /// the stream on ends it.
    Frame {
        /// The frame.
        frame: Frame,
        /// What it says.
        events: Vec<ChatEvent>,
        /// Whether it is there only because the usage was asked for by nobody but us.
        hidden: bool,
    },
    /// What an answer says that came whole, in place of a stream.
    Event(ChatEvent),
}

/// Reads one such stream.
#[expect(clippy::struct_excessive_bools, reason = "what has happened so far, each by itself")]
pub struct Passing<F> {
    decoder: EventStream,
    frames: F,
    /// Whether chunks with nothing but the usage are hidden.
    hides_usage: bool,
    /// Why the decoder takes no more bytes. It is told after the frames before it.
    undecodable: Option<ReadError>,
    ready: VecDeque<ChatEvent>,
    choices: BTreeMap<i32, ChoiceSoFar>,
    billed: bool,
    begun: bool,
    done: bool,
    ended: bool,
    closed: bool,
}

/// A [`Passing`] of any protocol.
pub type AnyPassing = Box<dyn ReadStream<Said = Passed, Item = Result<Passed, ReadError>>>;

/// Reads a stream from that endpoint. See [`Passing::new`].
#[must_use]
pub fn passing(endpoint: Endpoint, hides_usage: bool) -> AnyPassing {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            Box::new(Passing::new(openai::stream::Chunks::default(), hides_usage))
        }
        Endpoint::Responses => Box::new(Passing::new(openai::responses::Events::default(), hides_usage)),
        Endpoint::Messages => Box::new(Passing::new(anthropic::stream::Events::default(), hides_usage)),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            Box::new(Passing::new(gemini::stream::Chunks::default(), hides_usage))
        }
        _ => Box::new(Passing::new(AnyEvents, hides_usage)),
    }
}

#[derive(Default)]
struct ChoiceSoFar {
    finished: bool,
    content: Halves,
}

impl<F: ReadFrames> Passing<F> {
    /// Reads events that are this vendor's frames. Where it `hides_usage`, the caller has not asked for the usage.
    pub fn new(frames: F, hides_usage: bool) -> Self {
        Self {
            decoder: EventStream::new(MAX_EVENT),
            frames,
            hides_usage,
            undecodable: None,
            ready: VecDeque::new(),
            choices: BTreeMap::new(),
            billed: false,
            begun: false,
            done: false,
            ended: false,
            closed: false,
        }
    }

    /// Reads a frame. None: there is nothing to hand on.
    fn read(&mut self, frame: Frame) -> Result<Option<Passed>, ReadError> {
        let data = frame.data.trim_ascii();
        if frame.name == "error" && !data.is_empty() {
            return Err(ReadError::Reported(Box::new(ProviderError::read(data))));
        }
        if frame.stray {
            return self.stray(data).map(|()| None);
        }
        if data == b"[DONE]" {
            self.done = F::DONE_IS_END || self.is_finished();
            self.ended = true;
            return Ok(None);
        }
        // A word between the events, as proxies put there.
        if !matches!(data.first(), Some(b'{' | b'[')) {
            return Ok(Some(Passed::Frame { frame: Frame::default(), events: Vec::new(), hidden: false }));
        }
        self.begun = true;
        let mut events = match self.frames.read(data)? {
            Said::Events(events) => events,
            Said::End => {
                (self.done, self.ended) = (true, true);
                Vec::new()
            }
        };
        self.take(&mut events)?;
        let hidden = self.hides_usage && is_usage(&events) && has_no_choices(data);
        Ok(Some(Passed::Frame { frame, events, hidden }))
    }

    /// JSON outside of frames: the answer as a whole where nothing came before, and else an error or nothing.
    fn stray(&mut self, data: &[u8]) -> Result<(), ReadError> {
        if let Some(error) = reported(data) {
            return Err(ReadError::Reported(Box::new(error)));
        }
        if !mem::replace(&mut self.begun, true) {
            let mut events = self.frames.whole(data)?;
            self.take(&mut events)?;
            self.ready.extend(events);
            self.done = true;
        }
        Ok(())
    }

    /// Takes note of what was said, and joins characters that were cut in two.
    fn take(&mut self, events: &mut [ChatEvent]) -> Result<(), ReadError> {
        for event in events {
            self.billed |= event.usage.is_some();
            if event.is_content() {
                let choice = self.choices.entry(event.index).or_default();
                choice.finished |= !event.finish_reason.is_empty();
                event.content = choice.content.next(mem::take(&mut event.content));
            }
        }
        if self.choices.len() > MAX_CHOICES { Err(ReadError::TooLarge) } else { Ok(()) }
    }

    /// How the stream ends, when all frames are read.
    fn last(&mut self) -> Option<Result<Passed, ReadError>> {
        self.closed = true;
        let is_whole = self.done || self.is_finished() || (F::END_IS_OPEN && self.begun);
        let says = !self.choices.is_empty() || self.frames.rest().iter().any(ChatEvent::is_content);
        match (is_whole, says) {
            (true, true) => None,
            (true, false) if self.billed => Some(Err(ReadError::NoMessage)),
            _ => Some(Err(ReadError::EndedEarly)),
        }
    }
}

impl<F: ReadFrames> ReadStream for Passing<F> {
    type Said = Passed;

    fn push(&mut self, bytes: &[u8]) {
        if !self.ended && self.undecodable.is_none() {
            self.undecodable = self.decoder.push(bytes).err();
        }
    }

    fn end(&mut self) {
        if !mem::replace(&mut self.ended, true) && self.undecodable.is_none() {
            self.decoder.end();
        }
    }

    fn is_finished(&self) -> bool {
        !F::END_IS_OPEN && !self.choices.is_empty() && self.choices.values().all(|choice| choice.finished)
    }

    fn is_closed(&self) -> bool {
        self.closed && self.ready.is_empty()
    }
}

impl<F: ReadFrames> Iterator for Passing<F> {
    type Item = Result<Passed, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(Passed::Event(event)));
            }
            if self.closed {
                return None;
            }
            // Behind the provider's own end nothing is read.
            let frame = if self.done { None } else { self.decoder.next() };
            let read = match (frame, &mut self.undecodable) {
                (Some(frame), _) => {
                    let read = self.read(frame);
                    // What broke off in the middle of a frame cannot be read.
                    if self.ended && !self.done && read == Err(ReadError::MALFORMED) && !self.is_finished() {
                        Err(ReadError::EndedEarly)
                    } else {
                        read
                    }
                }
                (None, Some(_)) => Err(self.undecodable.take()?),
                (None, None) if self.ended => return self.last(),
                (None, None) => return None,
            };
            match read {
                Ok(None) => {}
                Ok(Some(passed)) => return Some(Ok(passed)),
                Err(error) => {
                    self.closed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Whether a frame says nothing but what was used.
fn is_usage(events: &[ChatEvent]) -> bool {
    matches!(events, [event] if event.usage.is_some() && !event.is_content())
}

/// Whether a chunk has no choices, as that with the usage (OpenAI API reference, "stream_options").
fn has_no_choices(data: &[u8]) -> bool {
    let mut empty = false;
    let read = Scan::new(data).object(|scan, name| {
        let place = scan.value()?;
        if name == "choices" {
            let inner = data.get(place).and_then(|list| list.strip_prefix(b"[")?.strip_suffix(b"]"));
            empty = inner.is_some_and(|inner| inner.trim_ascii().is_empty());
        }
        Ok::<_, Broken>(())
    });
    read.is_ok() && empty
}

/// Events of a stream of which nothing is known but that they are JSON, such as those of pictures and of recordings: each
/// counts as content, and the stream may end at any of them.
#[derive(Debug, Default)]
pub struct AnyEvents;

impl ReadFrames for AnyEvents {
    const DONE_IS_END: bool = true;
    const END_IS_OPEN: bool = true;

    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        if let Some(error) = reported(data) {
            return Err(ReadError::Reported(Box::new(error)));
        }
        let mut usage = None;
        let scanned = Scan::new(data).object(|scan, name| {
            let place = scan.value()?;
            if name == "usage" {
                usage = data.get(place).and_then(counts);
            }
            Ok::<_, Broken>(())
        });
        scanned.map_err(|_| ReadError::MALFORMED)?;
        // What it says is not known. It is something.
        Ok(Said::Events(vec![ChatEvent { finish_reason: "stop".into(), usage, ..ChatEvent::default() }]))
    }

    fn whole(&mut self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        match self.read(body)? {
            Said::Events(events) => Ok(events),
            Said::End => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<F: ReadFrames>(
        text: &str,
        size: usize,
        frames: F,
        hides: bool,
    ) -> Vec<Result<Passed, ReadError>> {
        let mut reader = Passing::new(frames, hides);
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            reader.push(piece);
            out.extend(reader.by_ref());
        }
        reader.end();
        out.extend(reader.by_ref());
        assert!(reader.is_closed());
        out
    }

    /// The frames that are shown, as a client gets them, and how it ends.
    fn shown<F: ReadFrames>(text: &str, frames: F) -> (Vec<String>, Option<ReadError>) {
        let (mut out, mut error) = (Vec::new(), None);
        for passed in read(text, 7, frames, true) {
            match passed {
                Ok(Passed::Frame { frame, hidden: false, .. }) if !frame.data.is_empty() => {
                    out.push(String::from_utf8(frame.data).unwrap());
                }
                Ok(_) => {}
                Err(broken) => error = Some(broken),
            }
        }
        (out, error)
    }

    const CHUNK: &str = r#"{ "choices":[ {"delta":{"content":"a"},"x":1.50} ],"n":12345678901234567890 }"#;
    const END: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices": [ ],"usage":{"prompt_tokens":5,"completion_tokens":3}}"#;

    #[test]
    fn frames_are_kept_byte_for_byte_and_the_usage_is_hidden() {
        let text = format!(
            ": hi\r\rdata:{CHUNK}\r\n\r\nnoise\n\ndata: ok\n\ndata: {END}\n\ndata: {USAGE}\n\ndata: [DONE]\n\n"
        );
        let chunks = openai::stream::Chunks::default;
        assert_eq!(shown(&text, chunks()), (vec![CHUNK.to_owned(), END.to_owned()], None));
        for size in [1, 5, text.len()] {
            let all = read(&text, size, chunks(), false);
            let hidden = all.iter().filter(|one| matches!(one, Ok(Passed::Frame { hidden: true, .. })));
            assert_eq!(hidden.count(), 0);
            let used = all.iter().flatten().find_map(|one| match one {
                Passed::Frame { events, .. } => events.iter().find_map(|event| event.usage),
                Passed::Event(_) => None,
            });
            assert_eq!(used.unwrap().total, 8);
        }
        let with_end = format!(
            "data: {CHUNK}\n\ndata: {}\n\n",
            END.replace("}]}", "}],\"usage\":{\"prompt_tokens\":5}}")
        );
        assert_eq!(shown(&with_end, chunks()).0.len(), 2, "usage with a choice is shown");
    }

    #[test]
    fn a_stream_that_fails_or_ends_early_is_an_error() {
        let chunks = openai::stream::Chunks::default;
        let error = format!(
            "data: {CHUNK}\n\ndata: {{\"error\":{{\"message\":\"m\",\"code\":429}}}}\n\ndata: {END}\n\n"
        );
        assert!(
            matches!(shown(&error, chunks()), (frames, Some(ReadError::Reported(_))) if frames.len() == 1)
        );
        let named = "event: error\ndata: {\"message\":\"m\"}\n\n";
        assert!(matches!(shown(named, chunks()).1, Some(ReadError::Reported(_))));
        assert_eq!(shown(&format!("data: {CHUNK}\n\n"), chunks()).1, Some(ReadError::EndedEarly));
        assert_eq!(shown("data: {\"choi", chunks()).1, Some(ReadError::EndedEarly));
        assert_eq!(shown("", chunks()).1, Some(ReadError::EndedEarly));
        assert_eq!(
            shown(&format!("data: {USAGE}\n\ndata: [DONE]\n\n"), chunks()).1,
            Some(ReadError::NoMessage)
        );
        assert_eq!(shown("data: {\"type\":\"x\"", AnyEvents).1, Some(ReadError::EndedEarly));
    }

    #[test]
    fn a_whole_answer_in_place_of_a_stream_is_told_as_events() {
        let text = r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}"#;
        let all = read(text, 9, openai::stream::Chunks::default(), true);
        let [Ok(Passed::Event(event))] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((event.content.as_str(), event.finish_reason.as_str()), ("a", "stop"));
    }

    #[test]
    fn every_protocol_ends_in_its_own_way() {
        let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
        let (frames, error) = shown(&format!("{delta}{stop}"), anthropic::stream::Events::default());
        assert_eq!((frames.len(), error), (2, None), "the end is a frame as well");
        assert_eq!(shown(delta, anthropic::stream::Events::default()).1, Some(ReadError::EndedEarly));
        let chunk = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"}]}\n\n";
        assert_eq!(shown(chunk, gemini::stream::Chunks::default()).1, None);
        let any = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"a\"}\n\n";
        assert_eq!(shown(any, AnyEvents), (vec![any[6..any.len() - 2].to_owned()], None));
    }
}
