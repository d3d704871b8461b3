//! Requests in the words of a vendor's protocol. A config whose kind speaks that protocol gets the bytes as they came. For
//! every other the request is translated.

use super::{
    call::Call,
    engine::Engine,
    error::CallError,
    reply::{Reply, StreamEvent},
    stream::Streamed,
    unary::Served,
};
use crate::wire::{ChatEvent, Endpoint, FieldError, Frame, Input, Output, TokenUsage};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::sync::{Arc, OnceLock};

/// Reads a request for translation, once, when the first config needs it.
pub type ReadInput = Box<dyn Fn(&[u8]) -> Result<Input, FieldError> + Send + Sync>;

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
    /// A frame of a provider that speaks the protocol, and what it says.
    Same {
        /// The frame.
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
    fn usage(&self) -> Option<TokenUsage> {
        match self {
            Self::Same { usage, .. } => *usage,
            Self::Translated(Output::Chat(reply)) => reply.usage,
            Self::Translated(_) => None,
        }
    }
}

impl Reply for Piece {}

impl StreamEvent for Piece {
    fn is_content(&self) -> bool {
        match self {
            Self::Same { events, .. } => events.iter().any(ChatEvent::is_content),
            Self::Translated(event) => event.is_content(),
            Self::Bytes(bytes) => !bytes.is_empty(),
        }
    }
}

impl Engine {
    /// Serves a request in the words of a protocol. A stream returns at its first content; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn relay(
        self: &Arc<Self>,
        _call: Call,
        _request: Arc<RelayRequest>,
    ) -> Result<Relayed, CallError> {
        Err(CallError::Unsupported("relay"))
    }
}
