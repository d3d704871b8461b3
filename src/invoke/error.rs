//! Why a call is not served.

use super::route::Route;
use crate::balance::{ErrorClass, Failure};
use std::time::Duration;

/// Why a call was not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The model or its provider is disabled.
    #[error("the model is disabled")]
    Disabled,
    /// The model has no credential or config to call with.
    #[error("no credential is configured for the model")]
    NoCredentials,
    /// The model has a credential, but it cannot be decrypted.
    #[error("the model's credential cannot be read")]
    Unreadable,
    /// Providers of this kind do not do what was asked for.
    #[error("providers of kind {0} cannot do this")]
    Unsupported(&'static str),
    /// No provider of the chain can be sent what was asked for.
    #[error("{field}: {why}")]
    Unwritable {
        /// The path of the field.
        field: String,
        /// Why not.
        why: String,
    },
    /// No config may serve now, and none was tried.
    #[error("all configs of the model are cooling down")]
    AllCooling {
        /// Until the first config is back; zero where that is not known.
        retry_after: Duration,
        /// Why that one cannot serve.
        class: ErrorClass,
    },
    /// The model has as many leases of clients as it may have.
    #[error("the model has {most} leases, and may have no more: release leases that are done with")]
    TooManyLeases {
        /// How many it may have.
        most: u32,
        /// In how long the first of them ends, unless it is renewed.
        first_ends: Duration,
    },
    /// Everything that could be tried has failed, or the request itself was refused.
    #[error("{}: {}", failure.class.name(), failure.message)]
    Upstream {
        /// The last failure.
        failure: Failure,
        /// Every attempt.
        route: Route,
        /// Until the first config is back, where that is known.
        retry_after: Option<Duration>,
    },
}

impl CallError {
    /// The way of a call whose attempts have failed.
    pub(super) fn route(self) -> Option<Route> {
        match self {
            Self::Upstream { route, .. } => Some(route),
            _ => None,
        }
    }
}
