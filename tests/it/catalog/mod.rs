//! What tenants configure: how it is written, read, encrypted and kept.

mod aliases;
pub mod config;
mod config_models;
mod config_sets;
mod conformance_config;
mod conformance_inherit;
pub mod conformance_listing;
mod conformance_names;
mod growth;
mod keys;
mod library;
mod poison;
mod released;
pub mod scale;
mod secrets;
mod switches;
mod writers;
