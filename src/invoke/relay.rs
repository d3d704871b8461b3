//! Requests in the words of a vendor's protocol. A config whose kind speaks that protocol gets the bytes as they came. For
//! every other the request is translated.

use super::{
    reply::{Reply, StreamEvent},
    stream::Streamed,
    unary::Served,
};
use crate::{
    provider::{RelayBody, RelayPiece, RelayedWhole},
    wire::{ChatEvent, Endpoint, FieldError, Frame, Glance, Input, Output, Passed, TokenUsage, TopLevel},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::sync::OnceLock;

/// Reads a request for translation, once, when the first config needs it.
pub type ReadInput = Box<dyn Fn(&Bytes) -> Result<Input, FieldError> + Send + Sync>;

/// A request of a client.
pub struct RelayRequest {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The body as it came.
    pub body: Bytes,
    /// Its media type: JSON, or a form with its boundary.
    pub content_type: HeaderValue,
    /// What stands behind the `?` and goes on.
    pub query: String,
    /// Those headers of the caller that go on to a provider that speaks the same protocol.
    pub headers: HeaderMap,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Reads it for a provider that does not.
    pub read: ReadInput,
    /// What was read.
    pub input: OnceLock<Result<Input, FieldError>>,
    /// What the body says of where it goes.
    pub top: TopLevel,
}

impl RelayRequest {
    /// What it asks for, for a provider that speaks another protocol. Read once.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn input(&self) -> Result<&Input, &FieldError> {
        self.input.get_or_init(|| (self.read)(&self.body)).as_ref()
    }

    /// The same, for a provider that speaks its own.
    pub(super) fn as_it_is(&self) -> RelayBody<'_> {
        RelayBody {
            endpoint: self.endpoint,
            body: &self.body,
            top: &self.top,
            content_type: &self.content_type,
            query: &self.query,
            headers: &self.headers,
            stream: self.stream,
        }
    }
}

/// What came of it.
pub enum Relayed {
    /// A whole answer.
    Whole(Box<Served<WholeAnswer>>),
    /// A streamed one, from its first content on.
    Stream(Box<RelayedStream>),
}

/// A streamed answer.
pub struct RelayedStream {
    /// The provider's headers, where it speaks the protocol; those that clients are told.
    pub headers: HeaderMap,
    /// The pieces.
    pub pieces: Streamed<Piece>,
}

/// A whole answer.
pub enum WholeAnswer {
    /// As the provider sent it.
    Same {
        /// Those headers of the provider that clients are told, its `content-type` among them.
        headers: HeaderMap,
        /// The body as it came, without the target's secrets.
        body: Bytes,
        /// What its reader has understood.
        usage: Option<TokenUsage>,
        /// The provider's name of the model, where it says it.
        model: String,
        /// Why it ends.
        finish_reason: String,
    },
    /// Of a provider that speaks another protocol.
    Translated(Output),
}

/// A piece of a streamed answer.
pub enum Piece {
    /// A frame of a provider that speaks the protocol, and what it says. The one that says nothing but `[DONE]` never comes:
    /// whoever writes the stream ends it. Other ends, such as Anthropic's `message_stop`, do.
    Same {
        /// The frame. Its data may have several lines.
        frame: Frame,
        /// What it says, to a reader.
        events: Vec<ChatEvent>,
    },
    /// Of a provider that speaks another protocol.
    Translated(ChatEvent),
    /// Bytes that have no frames, such as audio.
    Bytes(Bytes),
}

impl Reply for WholeAnswer {
    fn model(&self) -> Option<&str> {
        match self {
            Self::Same { model, .. } => Some(model),
            Self::Translated(Output::Chat(reply)) => Some(&reply.head.model),
            Self::Translated(_) => None,
        }
    }

    fn finish_reason(&self) -> Option<&str> {
        match self {
            Self::Same { finish_reason, .. } => Some(finish_reason),
            Self::Translated(Output::Chat(reply)) => Some(&reply.choice.finish_reason),
            Self::Translated(_) => None,
        }
    }

    fn usage(&self) -> Option<TokenUsage> {
        match self {
            Self::Same { usage, .. } => *usage,
            Self::Translated(Output::Chat(reply)) => reply.usage,
            Self::Translated(Output::Embeddings(reply)) => Some(reply.usage),
            Self::Translated(Output::Rerank(reply)) => Some(reply.usage),
            Self::Translated(_) => None,
        }
    }
}

impl Piece {
    /// What it says, as far as that is known.
    pub fn events(&self) -> &[ChatEvent] {
        match self {
            Self::Same { events, .. } => events,
            Self::Translated(event) => std::slice::from_ref(event),
            Self::Bytes(_) => &[],
        }
    }
}

impl From<RelayPiece> for Piece {
    fn from(piece: RelayPiece) -> Self {
        match piece {
            // Its frame is nobody's business.
            RelayPiece::Passed(Passed::Frame { events, hidden: true, .. }) => {
                Self::Same { frame: Frame::default(), events }
            }
            RelayPiece::Passed(Passed::Frame { frame, events, .. }) => Self::Same { frame, events },
            RelayPiece::Passed(Passed::Event(event)) => Self::Translated(event),
            RelayPiece::Bytes(bytes) => Self::Bytes(bytes),
        }
    }
}

impl From<RelayedWhole> for WholeAnswer {
    fn from(whole: RelayedWhole) -> Self {
        match whole {
            RelayedWhole::Same { headers, body, glance } => {
                let Glance { usage, model, finish_reason } = glance;
                Self::Same { headers, body, usage, model, finish_reason }
            }
            RelayedWhole::Chat(reply) => Self::Translated(Output::Chat(reply)),
        }
    }
}

impl Reply for Piece {
    fn finish_reason(&self) -> Option<&str> {
        self.events().iter().rev().map(|event| &*event.finish_reason).find(|reason| !reason.is_empty())
    }

    fn usage(&self) -> Option<TokenUsage> {
        self.events().iter().rev().find_map(|event| event.usage)
    }
}

impl StreamEvent for Piece {
    fn is_content(&self) -> bool {
        match self {
            Self::Bytes(bytes) => !bytes.is_empty(),
            _ => self.events().iter().any(ChatEvent::is_content),
        }
    }

    fn is_silent(&self) -> bool {
        match self {
            Self::Same { frame, events } => frame.data.is_empty() && events.is_empty(),
            Self::Translated(event) => event.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }

    fn is_hidden(&self) -> bool {
        matches!(self, Self::Same { frame, .. } if frame.data.is_empty())
    }

    fn size(&self) -> usize {
        match self {
            Self::Same { frame, .. } => frame.data.len(),
            _ => 0,
        }
    }
}
