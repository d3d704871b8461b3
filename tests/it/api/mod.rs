//! What the gRPC door does: checks of requests, names, tenants and tokens, reads over many things.

mod admin;
mod audit;
mod bad_input;
mod bad_names;
mod malformed;
mod overview;
mod python;
mod random_input;
