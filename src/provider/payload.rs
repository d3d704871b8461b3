//! The body of a request.

use crate::wire::Pieces;
use bytes::{Buf, Bytes, buf::Chain};
use http_body_util::Full;

/// The body of a request, in pieces that are never copied into one. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Payload([Bytes; 5]);

/// The same as it is sent.
pub(super) type Outgoing = Full<Chain<Pair, Chain<Pair, Bytes>>>;
type Pair = Chain<Bytes, Bytes>;

impl Payload {
    /// The pieces in their order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().filter(|piece| !piece.is_empty())
    }

    /// The body to send.
    pub(super) fn outgoing(self) -> Outgoing {
        let [a, b, c, d, e] = self.0;
        Full::new(a.chain(b).chain(c.chain(d).chain(e)))
    }
}

impl From<Bytes> for Payload {
    fn from(body: Bytes) -> Self {
        [body, Bytes::new(), Bytes::new()].into()
    }
}

impl From<[Bytes; 3]> for Payload {
    fn from(pieces: [Bytes; 3]) -> Self {
        let [head, middle, tail] = pieces;
        Self([head, middle, tail, Bytes::new(), Bytes::new()])
    }
}

impl From<Pieces> for Payload {
    fn from(pieces: Pieces) -> Self {
        Self(pieces)
    }
}
