//! The kinds of provider, their addresses, and the upstream that stands in for them.

mod anthropic;
mod bad_addresses;
mod cohere;
mod drivers;
mod drivers_beyond_chat;
mod gemini;
mod official_clients;
mod over_http;
mod peers;
mod scripted;
mod upstream_settings;
