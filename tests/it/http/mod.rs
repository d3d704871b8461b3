//! The HTTP doors: what SDKs make of them, bytes that stay as they are, failures, and requests that mean harm.

mod browsers;
mod bytes;
mod errors;
mod failover;
mod failures;
mod isolation;
mod malformed;
mod models;
mod pairs;
mod patience;
pub mod sixteen_faults;
