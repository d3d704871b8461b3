//! Turns the bytes of a streamed answer into [`ChatEvent`]s, in two steps: a [`Decoder`] cuts the bytes into frames, and a
//! vendor's [`ReadFrames`] says what each frame means.
//!
//! Invariants: memory is bounded by the decoder, nothing is read after the first error, and a stream never ends well
//! before the provider has said that it is done.

use super::{ChatEvent, ProviderError, ReadError};
use std::collections::VecDeque;

/// One frame of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its type; empty where none is given.
    pub name: String,
    /// What it holds.
    pub data: Vec<u8>,
}

/// Cuts a stream's bytes into frames. It gives the frames that are whole, in their order, and `None` until more bytes
/// have come.
pub trait Decoder: Iterator<Item = Frame> + Send + 'static {
    /// Takes the next bytes, cut anywhere.
    ///
    /// # Errors
    /// When the bytes are no frames, or a frame is too large. The frames before it can still be taken, and no more bytes.
    fn push(&mut self, bytes: &[u8]) -> Result<(), ReadError>;
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
    /// Reads the data of the next frame. It is never empty, and never that of an `error` frame.
    ///
    /// # Errors
    /// When the data is not the protocol, or reports an error.
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError>;

    /// Reads JSON that came in place of a stream.
    ///
    /// # Errors
    /// When the body is not the protocol, or reports an error.
    fn whole(self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError>;
}

/// Reads one streamed answer: takes bytes, gives events.
pub struct StreamReader<D, F> {
    decoder: D,
    frames: F,
    /// Why the decoder takes no more bytes. It is told after the frames before it.
    undecodable: Option<ReadError>,
    /// Events of the last frame that are not taken yet.
    ready: VecDeque<ChatEvent>,
    /// Whether a finish reason has come.
    finished: bool,
    /// Whether nothing is read any more: after an error, or after the provider's own end.
    closed: bool,
}

impl<D: Decoder, F: ReadFrames> StreamReader<D, F> {
    /// A reader of frames that this decoder cuts and this vendor sends.
    pub fn new(decoder: D, frames: F) -> Self {
        Self { decoder, frames, undecodable: None, ready: VecDeque::new(), finished: false, closed: false }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.closed && self.undecodable.is_none() {
            self.undecodable = self.decoder.push(bytes).err();
        }
    }

    /// Whether the stream is over, whatever bytes follow. What is over needs no [`end`](Self::end).
    pub fn is_closed(&self) -> bool {
        self.closed && self.ready.is_empty()
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`ReadError::EndedEarly`] when the provider has not said that it is done.
    pub fn end(&mut self) -> Result<(), ReadError> {
        let done = self.closed || self.finished;
        self.closed = true;
        if done { Ok(()) } else { Err(ReadError::EndedEarly) }
    }

    /// Reads JSON that came in place of a stream.
    ///
    /// # Errors
    /// When the body is not the protocol, or reports an error.
    pub fn whole(self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        self.frames.whole(body)
    }

    /// The next frame that says something.
    fn frame(&mut self) -> Option<Frame> {
        self.decoder.find(|frame| !frame.data.trim_ascii().is_empty())
    }

    fn read(&mut self, frame: &Frame) -> Result<(), ReadError> {
        let data = frame.data.trim_ascii();
        if frame.name == "error" {
            return Err(ReadError::Reported(Box::new(ProviderError::read(data))));
        }
        match self.frames.read(data)? {
            Said::Events(events) => {
                self.finished |= events.iter().any(|event| !event.finish_reason.is_empty());
                self.ready.extend(events);
            }
            Said::End => self.closed = true,
        }
        Ok(())
    }
}

/// Gives what the bytes so far say; `None` until more have come, or for ever once the stream
/// [is over](StreamReader::is_closed).
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
            let read = match self.frame() {
                Some(frame) => self.read(&frame),
                None => Err(self.undecodable.take()?),
            };
            if let Err(error) = read {
                self.closed = true;
                return Some(Err(error));
            }
        }
    }
}
