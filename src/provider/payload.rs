//! The body of a request.

use bytes::{Buf, Bytes, buf::Chain};
use http_body_util::Full;

/// The body of a request, in pieces that are never copied into one. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Payload([Bytes; 3]);

/// The same as it is sent.
pub(super) type Outgoing = Full<Chain<Bytes, Chain<Bytes, Bytes>>>;

impl Payload {
    /// The pieces in their order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().filter(|piece| !piece.is_empty())
    }

    /// The body to send.
    pub(super) fn outgoing(self) -> Outgoing {
        let [head, middle, tail] = self.0;
        Full::new(head.chain(middle.chain(tail)))
    }
}

impl From<Bytes> for Payload {
    fn from(body: Bytes) -> Self {
        Self([body, Bytes::new(), Bytes::new()])
    }
}

impl From<[Bytes; 3]> for Payload {
    fn from(pieces: [Bytes; 3]) -> Self {
        Self(pieces)
    }
}
