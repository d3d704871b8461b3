//! Attacks by one party on what all share, beside calls of another: none of those fails, and they are about as quick as beside
//! the same load of ordinary calls. Each has a small form, which runs with the other tests, and a full one: `make attacks`.

#![expect(clippy::print_stdout, reason = "what an attack has measured is read with --nocapture")]

mod beside;
mod catalog;
mod door;
mod store;
mod upstream;
