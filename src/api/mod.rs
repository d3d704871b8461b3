//! The gRPC door. It reads messages, hands them on, and writes answers; it decides nothing.
//!
//! - `server`: the services behind one port.
//! - `layer`: takes each call through the gate.
//! - `operations`: the RPCs, and what each asks of its caller.
//! - `admin`, `config`, `invoke`: a file or a folder for each service.
//! - `health`: `grpc.health.v1`.
//! - `pb`: the generated contract. `from_pb` and `to_pb` turn its messages into domain values and back.
//! - `room`: what an answer takes until its last frame is out.
//! - `status`: every error's code, reason and details, in one place.

mod admin;
mod config;
mod from_pb;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod health;
mod invoke;
mod json;
mod layer;
mod operations;
pub mod pb;
mod room;
mod server;
mod status;
mod to_pb;

pub use admin::Admin;
pub use config::ConfigApi;
pub use health::HealthApi;
pub use invoke::InvokeApi;
pub use layer::GateLayer;
pub use server::{ServerOptions, Services, router, serve};
