//! The gRPC edge: authenticates, validates, converts. It decides nothing.
//!
//! - `server`: the services behind one port.
//! - `gate`: who may call what, and what is in flight.
//! - `admin`, `config`, `invoke`: a file a service.
//! - `convert`: messages to domain values and back.
//! - `status`: every error's code, reason and details, in one place.

mod access;
mod admin;
mod config;
mod convert;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gate;
mod invoke;
mod server;
mod status;

pub use admin::Admin;
pub use config::ConfigApi;
pub use gate::Gate;
pub use invoke::InvokeApi;
pub use server::{ServerOptions, router};

/// The generated contract. Used here and by clients (the demo, the tests), nowhere else.
#[expect(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the protos hold the documentation"
)]
pub mod pb {
    tonic::include_proto!("rota.v1");

    /// The compiled protos with their comments, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rota.binpb"));
}
