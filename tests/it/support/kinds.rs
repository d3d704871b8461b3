//! The kinds of provider, and how to aim each at a scripted upstream.

use rota::scripted::Upstream;

/// A kind whose credential is an `api_key`.
#[derive(Debug)]
pub struct Kind {
    /// As in the contract.
    pub name: &'static str,
    /// The API's root behind the upstream's origin.
    path: &'static str,
}

pub const OPENAI_COMPATIBLE: Kind = Kind { name: "openai_compatible", path: "/v1" };
pub const ANTHROPIC: Kind = Kind { name: "anthropic", path: "/v1" };
pub const GEMINI: Kind = Kind { name: "gemini", path: "/v1beta" };

impl Kind {
    /// What goes into the provider's `base_url`.
    pub fn base_url(&self, upstream: &Upstream) -> String {
        format!("{}{}", upstream.origin(), self.path)
    }
}
