//! The kinds of provider, and how to aim each at a scripted upstream. A new one is a constant and a line of the macro.

use rota::scripted::Upstream;
use serde_json::{Value, json};

/// A kind whose credential is an `api_key`.
pub struct Kind {
    /// As in the contract.
    pub name: &'static str,
    /// The API's root behind the upstream's origin.
    path: &'static str,
    /// A rate limit as this vendor reports it in the middle of a stream, for [`Script::ErrorAfter`]. Has a `message`.
    ///
    /// [`Script::ErrorAfter`]: rota::scripted::Script::ErrorAfter
    pub limited: fn() -> Value,
}

pub const OPENAI: Kind = Kind {
    name: "openai",
    path: "/v1",
    limited: || json!({"message": "busy", "type": "rate_limit_error", "code": "rate_limit_exceeded"}),
};
pub const OPENAI_COMPATIBLE: Kind = Kind { name: "openai_compatible", ..OPENAI };
pub const AZURE_OPENAI: Kind = Kind { name: "azure_openai", path: "", ..OPENAI };
pub const ANTHROPIC: Kind = Kind {
    name: "anthropic",
    path: "/v1",
    limited: || json!({"message": "busy", "type": "rate_limit_error"}),
};
pub const COHERE: Kind =
    Kind { name: "cohere", path: "", limited: || json!({"message": "trial token rate limit exceeded"}) };
pub const GEMINI: Kind = Kind {
    name: "gemini",
    path: "/v1beta",
    limited: || json!({"code": 429, "message": "busy", "status": "RESOURCE_EXHAUSTED"}),
};

impl Kind {
    /// What goes into the provider's `base_url`.
    pub fn base_url(&self, upstream: &Upstream) -> String {
        format!("{}{}", upstream.origin(), self.path)
    }
}

/// Runs each test, a function of a [`Rota`](super::rota::Rota) and a [`Kind`], with every kind, and with one of them on
/// a Rota that keeps its state on Redis.
macro_rules! on_every_kind {
    ($($name:ident),* $(,)?) => {
        crate::support::kinds::on_kind!(openai, OPENAI, shared, $($name),*);
        crate::support::kinds::on_kind!(openai_compatible, OPENAI_COMPATIBLE, shared, $($name),*);
        crate::support::kinds::on_kind!(anthropic, ANTHROPIC, shared, $($name),*);
        crate::support::kinds::on_kind!(azure_openai, AZURE_OPENAI, shared, $($name),*);
        crate::support::kinds::on_kind!(gemini, GEMINI, shared, $($name),*);
        crate::support::kinds::on_kind!(cohere, COHERE, shared, $($name),*);
        crate::support::kinds::on_kind!(on_redis, OPENAI_COMPATIBLE, shared_on_redis, $($name),*);
    };
}
pub(crate) use on_every_kind;

/// Runs each test with that kind on that Rota, in a module of that name.
macro_rules! on_kind {
    ($module:ident, $kind:ident, $rota:ident, $($name:ident),*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let rota = crate::support::rota::Rota::$rota().await;
                super::$name(rota, &crate::support::kinds::$kind).await;
            })*
        }
    };
}
pub(crate) use on_kind;
