//! Where calls of a provider and of a config go.

use crate::provider::{KindSpec, guard};
use url::Url;

/// A provider's address: its own, else the kind's.
pub fn provider_address<'a>(kind: &KindSpec, base_url: &'a str) -> &'a str {
    if base_url.is_empty() { kind.default_base_url.unwrap_or_default() } else { base_url }
}

/// A config's address: its own, else the provider's.
pub fn config_address<'a>(kind: &KindSpec, provider: &'a str, own: &'a str) -> &'a str {
    if own.is_empty() { provider_address(kind, provider) } else { own }
}

/// Whether two addresses have the same scheme, host and port. One that cannot be read is nobody's.
pub fn same_origin(one: &str, other: &str) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => guard::same_origin(&one, &other),
        _ => false,
    }
}
