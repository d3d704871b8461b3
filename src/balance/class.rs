//! Why attempts fail, and whose failure it is.

use std::time::Duration;

/// Why an attempt failed. The one vocabulary for retries, cooldowns, answers and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Too many requests or tokens.
    RateLimited,
    /// The account has no quota or credit left.
    QuotaExhausted,
    /// The provider refuses the credential.
    Authentication,
    /// No connection, or it broke.
    Connection,
    /// No answer in time.
    Timeout,
    /// The provider failed.
    ServerError,
    /// 404 or 410 of one deployment, 403 for one model.
    ModelUnavailable,
    /// The provider refuses the request itself.
    BadRequest,
    /// The provider's content filter refuses the request.
    ContentFiltered,
    /// The request is longer than the model's context.
    ContextTooLong,
    /// The caller went away.
    Cancelled,
}

/// What a failure of one member says of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of this member alone: its credential may well serve other models.
    Member,
    /// Of the credential: every pool of the tenant that uses it learns at once.
    Credential,
    /// Of the address, as this replica sees it: nothing was sent.
    Address,
    /// The same, by a limit that the pool has set for itself: it says nothing to other pools.
    AddressOfPool,
}

impl Scope {
    /// Whether it says nothing of a member or its credential.
    #[must_use]
    pub const fn is_of_address(self) -> bool {
        matches!(self, Self::Address | Self::AddressOfPool)
    }

    /// Its name in the scripts.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            // A store that keeps no addresses counts it as the member's.
            Self::Member | Self::Address | Self::AddressOfPool => "member",
            Self::Credential => "credential",
        }
    }
}

impl ErrorClass {
    /// Every class, in the order of the contract.
    pub const ALL: [Self; 11] = [
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::Authentication,
        Self::Connection,
        Self::Timeout,
        Self::ServerError,
        Self::ModelUnavailable,
        Self::BadRequest,
        Self::ContentFiltered,
        Self::ContextTooLong,
        Self::Cancelled,
    ];

    /// Whether another member may do better. Where not, nothing cools, and the call ends; but a request that is too long for
    /// one model may fit another.
    #[must_use]
    pub const fn moves_on(self) -> bool {
        !matches!(self, Self::BadRequest | Self::ContentFiltered | Self::ContextTooLong | Self::Cancelled)
    }

    /// Whose failure it is. Rate limits are counted per credential and model by every vendor we know.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::Authentication | Self::QuotaExhausted => Scope::Credential,
            _ => Scope::Member,
        }
    }

    /// Whether a health check that succeeds ends the cooldown. Listing models succeeds while rate limited or without
    /// quota, so it says nothing of those.
    #[must_use]
    pub const fn health_check_ends(self) -> bool {
        matches!(self, Self::Authentication | Self::Connection | Self::Timeout | Self::ServerError)
    }

    /// The name in logs, error reasons (`UPSTREAM_` + name) and the state store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "RATE_LIMITED",
            Self::QuotaExhausted => "QUOTA_EXHAUSTED",
            Self::Authentication => "AUTHENTICATION",
            Self::Connection => "CONNECTION",
            Self::Timeout => "TIMEOUT",
            Self::ServerError => "SERVER_ERROR",
            Self::ModelUnavailable => "MODEL_UNAVAILABLE",
            Self::BadRequest => "BAD_REQUEST",
            Self::ContentFiltered => "CONTENT_FILTERED",
            Self::ContextTooLong => "CONTEXT_TOO_LONG",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The class of that [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// One failed attempt, as a driver reports it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Why it failed.
    pub class: ErrorClass,
    /// The provider's HTTP status; none where no answer came.
    pub http_status: Option<u16>,
    /// How long the provider asks callers to stay away (Retry-After or a reset header).
    pub retry_after: Option<Duration>,
    /// Whether nothing of the request was sent, so that the failure is the address's.
    pub unsent: bool,
    /// Whether this replica had no means to connect, such as a descriptor: that says nothing of the member.
    pub ours: bool,
    /// Where this replica had no room for the call: whose part of it was used up. Other members would not help.
    pub full: Option<Full>,
    /// What the failure rests on, where that says little about the credential.
    pub doubt: Doubt,
    /// The provider's text, shortened and without secrets: callers see it.
    pub message: String,
}

/// Whose part of something that this replica's calls share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of all.
    Replica,
    /// The tenant's.
    Tenant,
}

/// What may be wrong with the verdict on a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing.
    #[default]
    None,
    /// It blames the credential by its status or its words alone (400, 403), and providers repeat what callers wrote. This
    /// is a hash of the words: two credentials that are refused with the same words show that the request is at fault.
    Words(u64),
    /// An answer came, was billed, and says nothing. It is asked for once more at most.
    Billed,
    /// The request cannot be written for this kind of provider; another kind may take it. This is the field.
    Unwritable(String),
}

impl Failure {
    /// A failure without an HTTP answer.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            http_status: None,
            retry_after: None,
            unsent: false,
            ours: false,
            full: None,
            doubt: Doubt::None,
            message: message.into(),
        }
    }

    /// This replica has no room for what the call needs.
    pub fn no_room(full: Full, what: &str) -> Self {
        let message = match full {
            Full::Replica => format!("this replica has no room for {what}"),
            Full::Tenant => format!("this replica has no more room for {what} of one tenant"),
        };
        Self { ours: true, full: Some(full), ..Self::new(ErrorClass::Connection, message) }
    }

    /// Whether it is a fact about the address, as this replica sees it: no resolver, connection, TLS or proxy led there.
    #[must_use]
    pub fn is_of_address(&self) -> bool {
        self.unsent && matches!(self.class, ErrorClass::Connection | ErrorClass::Timeout)
    }

    /// Whether the provider has certainly done nothing of what was asked: it was not reached, or has turned the caller
    /// away at the door.
    #[must_use]
    pub fn is_before_work(&self) -> bool {
        self.unsent || matches!(self.http_status, Some(401 | 429))
    }

    /// Whether the provider has certainly used no tokens: it was not reached, or has refused the request.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        self.unsent || matches!(self.http_status, Some(400..=499 | 503 | 529))
    }

    /// Whether the same request may well be served by the same member a moment later: such failures come singly from
    /// healthy providers.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self.class {
            ErrorClass::ServerError => {
                self.retry_after.is_none() && matches!(self.http_status, Some(500 | 502))
            }
            ErrorClass::Connection => !self.unsent && !self.ours,
            _ => false,
        }
    }

    /// How long the provider asks to wait, where that is all it asks for.
    #[must_use]
    pub const fn asked_wait(&self) -> Option<Duration> {
        match self.class {
            ErrorClass::RateLimited | ErrorClass::ServerError => self.retry_after,
            _ => None,
        }
    }
}
