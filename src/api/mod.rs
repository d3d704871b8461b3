//! The gRPC door. It reads messages, hands them on, and writes answers; it decides nothing.
//!
//! - `server`: the services behind one port. `http2`: one connection to it.
//! - `door`: takes each call through the gate. `receive`: how its request comes in. `send`: how its answer goes out.
//! - `measure`: what a request takes once it is decoded. `deadline`: the client's.
//! - `operations`: the RPCs, and what each asks of its caller.
//! - `admin`, `config`, `invoke`: a file or a folder for each service.
//! - `health`: `grpc.health.v1`.
//! - `pb`: the generated contract. `from_pb` and `to_pb` turn its messages into domain values and back.
//! - `room`: what an answer takes until its last frame is out.
//! - `status`: every error's code, reason and details, in one place.

mod admin;
mod config;
mod deadline;
mod door;
mod from_pb;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod health;
mod http2;
mod invoke;
mod json;
mod measure;
mod operations;
pub mod pb;
mod receive;
mod room;
mod send;
mod server;
mod status;
mod to_pb;

pub use admin::Admin;
pub use config::ConfigApi;
pub use door::{Door, DoorOptions};
pub use health::HealthApi;
pub use invoke::InvokeApi;
pub use server::{ServerOptions, Services, door, serve};
