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
