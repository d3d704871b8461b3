//! One driver a protocol, behind one trait: addresses, signing, sending, limits, and what an error means. How requests are
//! written and answers are read stands in [`wire`](crate::wire).
//!
//! A driver makes one attempt at one [`Target`]. It never retries, never picks, and never reads the caller's metadata.
//! It fails with a [`Failure`](crate::balance::Failure) whose class tells the balancer what to think of it, and whose text
//! holds no secret. When the provider is gone, an attempt fails with `CONNECTION` or `TIMEOUT`; the engine decides what
//! comes next.

mod address;
mod anthropic;
mod body;
mod call;
mod classification;
mod classify;
mod client;
mod cohere;
mod connect;
mod disguise;
mod driver;
mod eyeballs;
#[cfg(test)]
mod fixtures;
mod forward;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gemini;
pub mod guard;
mod http_error;
mod judge;
mod kind;
mod openai;
mod payload;
mod pool;
mod prefill;
mod probe;
mod proxies;
mod redact;
mod registry;
mod relay;
mod reserved;
mod rules;
mod shares;
mod stamp;
mod stream;
mod target;
mod tokens;
mod whole;

pub use crate::wire::Switches;
pub use body::ByteStream;
pub use classification::classification;
pub use client::{BuildError, UpstreamClient, UpstreamOptions};
pub use driver::Driver;
pub use forward::{ForwardPath, ForwardReply, ForwardRequest, Forwarded, forwarded_headers};
pub use guard::{Networks, Reach, Refused, Unreachable, check_url, same_origin};
pub use kind::{CredentialField, KindSpec, ModelType};
pub use payload::Payload;
pub use prefill::{PREFIX_KINDS, takes_prefill};
pub use probe::probe;
pub use proxies::{Misread, Proxies};
pub use registry::{Registry, kind, kinds};
pub use relay::{RelayBody, RelayPiece, RelayTo, RelayedFrames, RelayedWhole, relayed_headers};
pub use reserved::Reserved;
pub use rules::{Pattern, Rule, Status};
pub use stream::ChatStream;
pub use target::{Fields, Target};
pub use tokens::{
    Countable, TokenCount, Vocabulary, answer_limit, count, estimate_chat, estimate_inputs, estimate_text,
};
pub use whole::{Room, Whole};
