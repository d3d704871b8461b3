//! Rota seen from outside: the built program, called through its gRPC API, on real Redis and real PostgreSQL.
//!
//! One binary, a file a capability; `support` starts the servers. `make test` installs what they need.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected has failed; the `allow-…-in-tests` settings do not reach helpers"
)]
#![allow(
    clippy::assigning_clones,
    clippy::unnecessary_wraps,
    reason = "a table of requests is read, not timed, and the contract's message fields are options"
)]

mod admin;
mod anthropic;
mod audit;
mod backups;
mod bad_addresses;
mod bad_input;
mod bad_names;
mod balancing;
mod bulk;
mod calls;
mod clients;
mod cohere;
mod config;
mod config_models;
mod config_sets;
mod conformance;
mod conformance_config;
mod conformance_failures;
mod conformance_inherit;
mod conformance_listing;
mod conformance_names;
mod conformance_rotation;
mod conformance_streams;
mod counting;
mod deploy;
mod doctor;
mod drivers;
mod drivers_beyond_chat;
mod explain;
mod failover;
mod fallback;
#[cfg(target_os = "linux")]
mod faults;
mod fleet;
mod footprint;
mod forward;
mod gemini;
mod growth;
mod histories;
mod hostile;
mod house;
mod judging;
mod keys;
mod leases;
mod lifecycle;
mod manifests;
mod metrics;
mod monitoring;
mod official_clients;
mod overview;
mod peers;
mod policy;
mod protection;
mod python;
mod random_input;
mod redis_lost;
mod redis_topologies;
mod replicas;
mod rolling;
mod scale;
mod scripted;
mod secrets;
mod slow_readers;
mod speech;
mod speech_out;
mod state;
mod streaming;
mod support;
mod tenant_limits;
mod time_left;
mod together;
mod traces;
mod turns;
mod upstream_settings;
mod writers;
