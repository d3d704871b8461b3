//! The HTTP door: the protocols of OpenAI, Anthropic and Gemini, over HTTP/1.1 and HTTP/2. Programs that speak to these
//! vendors point here, and get Rota's balancing without a change.
//!
//! It translates between HTTP and the engine's requests, and decides nothing. `routes` says what a path asks for, `token`
//! and `origin` what the gate needs, `options` how a call is to be made, `receive` reads a body, `words` chooses the protocol's reader and writer, `call` makes the call,
//! `stream` and `body` send its answer, `models` lists what can be called, and `error` words what went wrong.
//!
//! When Redis or the database is away, calls go on as over gRPC.

mod body;
mod call;
mod door;
mod error;
mod models;
mod options;
mod origin;
mod receive;
mod routes;
mod server;
mod serving;
mod stream;
mod token;
mod way;
mod words;

pub use door::Door;
pub use origin::AllowedHosts;
pub use server::serve;
pub use serving::DoorOptions;
