//! The generated contract. Used here and by clients (the demo, the tests), nowhere else.
#![expect(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the protos hold the documentation"
)]

tonic::include_proto!("rota.v1");

/// The compiled protos with their comments, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rota.binpb"));

pub use shared::WatchPoolResponse;

/// Messages of which many receive the same one.
pub mod shared {
    use super::PoolState;
    use prost::{
        DecodeError, Message,
        bytes::{Buf, BufMut, Bytes},
        encoding::{DecodeContext, WireType, message, skip_field},
    };

    /// The state of a pool, as a message or encoded.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct WatchPoolResponse {
        /// The state. It is always there in a message that was received.
        pub state: Option<PoolState>,
        /// The whole message, encoded. It goes out in place of the state.
        pub encoded: Option<Bytes>,
    }

    impl Message for WatchPoolResponse {
        fn encode_raw(&self, buffer: &mut impl BufMut) {
            match (&self.encoded, &self.state) {
                (Some(encoded), _) => buffer.put_slice(encoded),
                (None, Some(state)) => message::encode(1, state, buffer),
                (None, None) => {}
            }
        }

        fn merge_field(
            &mut self,
            tag: u32,
            wire_type: WireType,
            buffer: &mut impl Buf,
            context: DecodeContext,
        ) -> Result<(), DecodeError> {
            match tag {
                1 => message::merge(wire_type, self.state.get_or_insert_default(), buffer, context),
                _ => skip_field(wire_type, tag, buffer, context),
            }
        }

        fn encoded_len(&self) -> usize {
            match (&self.encoded, &self.state) {
                (Some(encoded), _) => encoded.len(),
                (None, Some(state)) => message::encoded_len(1, state),
                (None, None) => 0,
            }
        }

        fn clear(&mut self) {
            *self = Self::default();
        }
    }
}
