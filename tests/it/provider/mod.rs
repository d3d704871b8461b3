//! The kinds of provider, their addresses, and the upstream that stands in for them.

mod answers;
mod anthropic;
mod bad_addresses;
mod classification;
mod cohere;
mod connections;
mod drivers;
mod drivers_beyond_chat;
mod gemini;
mod official_clients;
mod over_http;
mod peers;
mod scripted;
mod tool_loop;
pub mod upstream_settings;
