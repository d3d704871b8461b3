//! The body of an answer, and what is held until its reader has it.

use crate::gate::{ContainedBody, Patience, ended_unread};
use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Why an answer does not go on: the connection, or the stream of HTTP/2, is broken off, so that nobody takes it for whole.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the answer is broken off")]
pub struct Broken;

/// A body.
pub enum Body {
    /// All at once.
    Whole {
        /// What is still to be sent.
        bytes: Option<Bytes>,
        /// Until it is.
        _held: Held,
    },
    /// In pieces. The length is known of a whole answer that is sent piece by piece.
    Pieces(Pieces, Option<u64>),
    /// In pieces that are made while it is sent.
    Made(Box<ContainedBody<Self>>),
}

type Pieces = BoxStream<'static, Result<Bytes, Broken>>;

/// What an answer holds until it is out: its call and its memory.
pub type Held = Option<Box<dyn Send>>;

/// How much of a large answer goes out at once, in bytes: a copy, so that what waits in a connection keeps no more.
const STRETCH: usize = 16 << 10;

impl Body {
    /// A small body that holds nothing.
    pub fn small(bytes: impl Into<Bytes>) -> Self {
        Self::Whole { bytes: Some(bytes.into()), _held: None }
    }

    /// An answer that is there as a whole.
    pub fn whole(bytes: Bytes, held: Held, patience: Duration) -> Self {
        if bytes.len() <= 4 * STRETCH {
            return Self::Whole { bytes: Some(bytes), _held: held };
        }
        let length = bytes.len() as u64;
        let pieces = stream::unfold((bytes, held), |(mut bytes, held)| async move {
            if bytes.is_empty() {
                return None;
            }
            let piece = bytes.split_to(bytes.len().min(STRETCH));
            Some((Ok(Bytes::copy_from_slice(&piece)), (bytes, held)))
        });
        let pieces = ended_unread(pieces.boxed(), Patience::Each(patience), || Err(Broken));
        Self::Pieces(pieces, Some(length))
    }

    /// An answer that comes in pieces.
    pub fn pieces(pieces: impl Stream<Item = Result<Bytes, Broken>> + Send + 'static) -> Self {
        Self::Pieces(pieces.boxed(), None)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Whole { bytes, .. } => Poll::Ready(
                bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            ),
            Self::Pieces(pieces, _) => {
                let piece = ready!(pieces.poll_next_unpin(cx));
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
            Self::Made(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { bytes, .. } => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Pieces(..) => false,
            Self::Made(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Made(body) => body.size_hint(),
            Self::Pieces(_, length) => length.map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}
