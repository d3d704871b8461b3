//! What every door tells of a call that was not served: its code, its reason, and what else helps. One table; each door
//! writes a [`Problem`] in its own protocol.
//!
//! Nothing here can hold a secret: the texts are ours, or come from a driver that has cleaned them.

use crate::{
    balance::{ErrorClass, Failure, Full},
    catalog::{Caller, Error, ResourceKind, Violation},
    gate::Refusal,
    invoke::{CallError, Route},
};
use std::{borrow::Cow, time::Duration};
use tonic::Code;

/// How long a caller should stay away where nothing better is known.
const SOON: Duration = Duration::from_secs(1);
/// How many characters of a caller's own text an answer repeats, as in the catalog.
const MAX_SHOWN: usize = 64;

/// Why a call was not served.
#[derive(Debug)]
pub struct Problem {
    /// The [canonical code](https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto).
    pub code: Code,
    /// The reason, in capitals with underscores.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// When to come again, where that helps.
    pub retry_after: Option<Duration>,
    /// What else is known.
    pub detail: Detail,
}

/// What is known of a problem beside its reason.
#[derive(Debug)]
pub enum Detail {
    /// Nothing.
    None,
    /// The fields that are wrong.
    Violations(Vec<Violation>),
    /// What is missing, there already, or in use.
    Resource(ResourceKind, String),
    /// What there is too much of.
    Quota(&'static str),
    /// The way of a call whose attempts have failed, and its last failure.
    Upstream(Box<(Failure, Route)>),
}

impl Problem {
    fn new(code: Code, reason: impl Into<Cow<'static, str>>, message: String) -> Self {
        Self { code, reason: reason.into(), message, retry_after: None, detail: Detail::None }
    }

    fn retry(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    fn about(self, kind: ResourceKind, name: String) -> Self {
        Self { detail: Detail::Resource(kind, name), ..self }
    }

    /// One field of the request is not as it must be.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Error::invalid(field, description).into()
    }

    /// The bytes of the request cannot be read. `field` is empty where it is not known.
    #[must_use]
    pub fn unreadable(field: &str, what: &str) -> Self {
        if !field.is_empty() {
            return Self::invalid(field, format!("cannot be read: {what}"));
        }
        Self::new(Code::InvalidArgument, "INVALID_FIELD", format!("the request cannot be read: {what}"))
    }

    /// What the request names is not there.
    #[must_use]
    pub fn not_found(kind: ResourceKind, name: &str) -> Self {
        Error::NotFound(kind, name.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()).into()
    }
}

/// The tenant that a request is about: the token's own tenant or, with an operator's token, the tenant that is named in
/// `field`.
///
/// # Errors
/// Where that is another tenant's, or none.
pub fn tenant(caller: &Caller, named: &str, field: &str) -> Result<String, Problem> {
    match &caller.tenant {
        Some(own) if named.is_empty() || named == own => Ok(own.clone()),
        // Whether it exists is not this caller's business.
        Some(_) => Err(Problem::not_found(ResourceKind::Tenant, named)),
        None if named.is_empty() => Err(Problem::invalid(field, "is required with an operator's token")),
        None => Ok(named.to_owned()),
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (text, retry_after) = (refusal.to_string(), refusal.retry_after());
        let (code, reason) = match refusal {
            Refusal::TokenInvalid => (Code::Unauthenticated, "TOKEN_INVALID"),
            Refusal::RoleNotAllowed => (Code::PermissionDenied, "ROLE_NOT_ALLOWED"),
            Refusal::Draining => (Code::Unavailable, "DRAINING"),
            Refusal::Overloaded => (Code::Unavailable, "OVERLOADED"),
            Refusal::TenantCalls { .. }
            | Refusal::TenantRate { .. }
            | Refusal::TenantBytes { .. }
            | Refusal::TenantWatches { .. } => (Code::ResourceExhausted, "TENANT_LIMIT"),
            Refusal::TooSlow => (Code::DeadlineExceeded, "REQUEST_TOO_SLOW"),
            Refusal::Late => (Code::DeadlineExceeded, "DEADLINE_PASSED"),
            Refusal::Unread => (Code::DeadlineExceeded, "ANSWER_NOT_READ"),
            Refusal::Panicked => (Code::Internal, "INTERNAL"),
            Refusal::Catalog(error) => return error.into(),
        };
        Self { retry_after, ..Self::new(code, reason, text) }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(violations) => Self {
                detail: Detail::Violations(violations),
                ..Self::new(Code::InvalidArgument, "INVALID_FIELD", text)
            },
            Error::NotFound(kind, name) => {
                Self::new(Code::NotFound, not_found_reason(kind), text).about(kind, name)
            }
            Error::AlreadyExists(kind, name) => {
                Self::new(Code::AlreadyExists, "ALREADY_EXISTS", text).about(kind, name)
            }
            Error::InUse(kind, name) => Self::new(Code::FailedPrecondition, "IN_USE", text).about(kind, name),
            Error::StaleRevision { .. } => Self::new(Code::Aborted, "STALE_REVISION", text),
            Error::Quota { of, .. } => Self {
                detail: Detail::Quota(of),
                ..Self::new(Code::ResourceExhausted, "QUOTA_EXCEEDED", text)
            },
            Error::TooManyChanges(_) => Self::new(Code::ResourceExhausted, "TENANT_LIMIT", text).retry(SOON),
            Error::NotEnoughConfigs(_) => Self::new(Code::FailedPrecondition, "NOT_ENOUGH_CONFIGS", text),
            Error::SecretUnreadable => Self::new(Code::FailedPrecondition, "SECRET_UNREADABLE", text),
            Error::DatabaseUnavailable => {
                Self::new(Code::Unavailable, "DATABASE_UNAVAILABLE", text).retry(SOON)
            }
            Error::Unusable | Error::Internal => Self::new(Code::Internal, "INTERNAL", text),
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::Disabled => Self::new(Code::FailedPrecondition, "MODEL_DISABLED", text),
            CallError::NoCredentials => {
                Self::new(Code::FailedPrecondition, "CREDENTIALS_NOT_CONFIGURED", text)
            }
            CallError::Unreadable => Self::new(Code::FailedPrecondition, "SECRET_UNREADABLE", text),
            CallError::Unsupported(_) => Self::invalid("key.model_type", text),
            CallError::Unwritable { field, why } => Self::invalid(field, why),
            CallError::AllCooling { retry_after, class } => {
                let code = match class {
                    ErrorClass::RateLimited | ErrorClass::QuotaExhausted => Code::ResourceExhausted,
                    _ => Code::Unavailable,
                };
                Self::new(code, "ALL_CONFIGS_COOLING_DOWN", text).retry(retry_after)
            }
            CallError::TooManyLeases { first_ends, .. } => {
                Self::new(Code::ResourceExhausted, "TENANT_LIMIT", text).retry(first_ends)
            }
            CallError::Upstream { failure, route, retry_after } => {
                let problem = match failure.full {
                    Some(Full::Replica) => Self::new(Code::Unavailable, "OVERLOADED", text).retry(SOON),
                    Some(Full::Tenant) => {
                        Self::new(Code::ResourceExhausted, "TENANT_LIMIT", text).retry(SOON)
                    }
                    None => {
                        let reason = format!("UPSTREAM_{}", failure.class.name());
                        Self { retry_after, ..Self::new(upstream_code(failure.class), reason, text) }
                    }
                };
                Self { detail: Detail::Upstream(Box::new((failure, route))), ..problem }
            }
        }
    }
}

const fn upstream_code(class: ErrorClass) -> Code {
    match class {
        ErrorClass::RateLimited | ErrorClass::QuotaExhausted => Code::ResourceExhausted,
        ErrorClass::Connection | ErrorClass::ServerError => Code::Unavailable,
        ErrorClass::Timeout => Code::DeadlineExceeded,
        ErrorClass::Authentication | ErrorClass::ModelUnavailable => Code::FailedPrecondition,
        ErrorClass::BadRequest | ErrorClass::ContentFiltered | ErrorClass::ContextTooLong => {
            Code::InvalidArgument
        }
        ErrorClass::Cancelled => Code::Cancelled,
    }
}

const fn not_found_reason(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Tenant => "TENANT_NOT_FOUND",
        ResourceKind::Provider => "PROVIDER_NOT_FOUND",
        ResourceKind::Credential => "CREDENTIAL_NOT_FOUND",
        ResourceKind::Model => "MODEL_NOT_FOUND",
        ResourceKind::Config => "CONFIG_NOT_FOUND",
        ResourceKind::Token => "TOKEN_NOT_FOUND",
        ResourceKind::Lease => "LEASE_NOT_FOUND",
        ResourceKind::Alias => "ALIAS_NOT_FOUND",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_reason() {
        for class in ErrorClass::ALL {
            let failure = Failure::new(class, "x");
            let error = CallError::Upstream { failure, route: Route::default(), retry_after: None };
            assert_eq!(Problem::from(error).reason, format!("UPSTREAM_{}", class.name()));
        }
    }
}
