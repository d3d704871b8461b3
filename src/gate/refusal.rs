//! Why the gate turns a call away. Each door says it in its own protocol.

use crate::catalog;
use std::time::Duration;

/// How long a caller should stay away where nothing better is known.
const SOON: Duration = Duration::from_secs(1);

/// Why a call is not served. The texts are for callers and hold no secret.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No token, or one that is unknown, expired or revoked.
    #[error("a valid token is needed: authorization: Bearer rota_…")]
    TokenInvalid,
    /// The token's role may not do this.
    #[error("this token's role may not call this")]
    RoleNotAllowed,
    /// This replica takes no calls any more.
    #[error("this replica is shutting down")]
    Draining,
    /// This replica serves as much as it may.
    #[error("this replica serves as much as it may")]
    Overloaded,
    /// The tenant has as many calls at once as it may.
    #[error("this tenant has more calls at once than this replica takes from one")]
    TenantCalls {
        /// When to come again.
        retry_after: Duration,
    },
    /// The tenant begins calls faster than it may.
    #[error("this tenant begins more calls a second than this replica takes from one")]
    TenantRate {
        /// When to come again.
        retry_after: Duration,
    },
    /// The requests of the tenant that are being served are as large, together, as they may be.
    #[error("this tenant's requests are larger, together, than this replica holds of one")]
    TenantBytes {
        /// When to come again.
        retry_after: Duration,
    },
    /// The tenant watches as many pools as it may.
    #[error("this tenant watches more pools at once than this replica takes from one")]
    TenantWatches {
        /// When to come again.
        retry_after: Duration,
    },
    /// The request did not come in whole in time.
    #[error("the request did not come in whole in time")]
    TooSlow,
    /// The client's deadline has passed before there was an answer.
    #[error("the deadline has passed")]
    Late,
    /// The client has not read its answer in time.
    #[error("the answer was not read in time")]
    Unread,
    /// Serving the call has panicked. The log says more.
    #[error("internal error")]
    Panicked,
    /// The token could not be looked up.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
}

impl Refusal {
    /// When the caller should come again, where that helps.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Draining | Self::Overloaded | Self::Catalog(catalog::Error::DatabaseUnavailable) => {
                Some(SOON)
            }
            Self::TenantCalls { retry_after }
            | Self::TenantRate { retry_after }
            | Self::TenantBytes { retry_after }
            | Self::TenantWatches { retry_after } => Some(*retry_after),
            Self::TokenInvalid
            | Self::RoleNotAllowed
            | Self::TooSlow
            | Self::Late
            | Self::Unread
            | Self::Panicked
            | Self::Catalog(_) => None,
        }
    }
}
