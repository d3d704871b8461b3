//! The rows of which the drivers' tables of errors are made, and the table of what HTTP's statuses mean. Pure.

use crate::{balance::ErrorClass, wire::ProviderError};

/// One row of a table of errors: what an error that looks like this means.
#[derive(Debug)]
pub struct Rule {
    /// The statuses under which the row holds.
    pub status: Status,
    /// What the error says.
    pub pattern: Pattern,
    /// What it means.
    pub class: ErrorClass,
    /// The page that says so; empty: no page does, but answers look like this.
    pub source: &'static str,
}

/// The HTTP statuses under which a row holds.
#[derive(Debug, Clone, Copy)]
pub enum Status {
    /// Every status.
    Any,
    /// Success, or a fault of the request (2xx, 4xx). A redirect or a server that fails says nothing about the key.
    Refusal,
    /// Success: an error inside a stream, or inside an answer that claims to be one.
    Success,
    /// A fault of the request (4xx).
    Client,
    /// This status.
    Is(u16),
}

impl Status {
    pub(super) fn holds(self, status: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Refusal => matches!(status, 200..300 | 400..500),
            Self::Success => (200..300).contains(&status),
            Self::Client => (400..500).contains(&status),
            Self::Is(own) => own == status,
        }
    }
}

/// What an error says, the most exact pattern first: where several rows fit, the first of them decides, and of two with
/// the same sort of pattern the upper one.
#[derive(Debug, Clone, Copy)]
pub enum Pattern {
    /// The error's code, its type, or one of its reasons.
    Code(&'static str),
    /// The error's text.
    Text {
        /// The error's type, or the name of its `google.rpc.Code`; empty: it has no type.
        kind: &'static str,
        /// How the text begins.
        start: &'static str,
        /// What else stands in it.
        part: &'static str,
    },
    /// A code, a type or a reason that is no more than a word for a status.
    Word(&'static str),
    /// Whatever it says.
    Anything,
}

impl Pattern {
    /// How exact it is; the lower, the more exact.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Code(_) => 0,
            Self::Text { .. } => 1,
            Self::Word(_) => 2,
            Self::Anything => 3,
        }
    }

    pub(super) fn fits(self, error: &ProviderError) -> bool {
        match self {
            Self::Code(name) | Self::Word(name) => {
                name == error.code || name == error.kind || error.reasons.iter().any(|reason| name == reason)
            }
            Self::Text { kind, start, part } => {
                let typed = kind == error.kind || (!kind.is_empty() && kind == error.status);
                let says = |text: &str| text.starts_with(start) && text.contains(part);
                typed && error.message.as_deref().is_some_and(says)
            }
            Self::Anything => true,
        }
    }
}

impl Rule {
    /// A code about money, which means the same under any status.
    pub(super) const fn money(code: &'static str, source: &'static str) -> Self {
        let class = ErrorClass::QuotaExhausted;
        Self { status: Status::Any, pattern: Pattern::Code(code), class, source }
    }

    /// A code that decides whatever the status of the refusal.
    pub(super) const fn code(code: &'static str, class: ErrorClass, source: &'static str) -> Self {
        Self { status: Status::Refusal, pattern: Pattern::Code(code), class, source }
    }

    /// A text that says more than its type and status: the type, how the text begins, what else is in it.
    pub(super) const fn text(
        [kind, start, part]: [&'static str; 3],
        class: ErrorClass,
        source: &'static str,
    ) -> Self {
        Self { status: Status::Any, pattern: Pattern::Text { kind, start, part }, class, source }
    }

    /// A word that decides only where no status does.
    pub(super) const fn word(word: &'static str, class: ErrorClass, source: &'static str) -> Self {
        Self { status: Status::Success, pattern: Pattern::Word(word), class, source }
    }

    /// A status alone.
    pub(super) const fn status(status: Status, class: ErrorClass, source: &'static str) -> Self {
        Self { status, pattern: Pattern::Anything, class, source }
    }
}

const HTTP: &str = "https://www.rfc-editor.org/rfc/rfc9110#section-15";

/// What the statuses mean with every vendor that says nothing else.
pub(super) const STATUSES: &[Rule] = &[
    Rule::status(Status::Is(401), ErrorClass::Authentication, HTTP),
    Rule::status(Status::Is(402), ErrorClass::QuotaExhausted, HTTP),
    Rule::status(Status::Is(403), ErrorClass::ModelUnavailable, HTTP),
    Rule::status(Status::Is(404), ErrorClass::ModelUnavailable, HTTP),
    Rule::status(Status::Is(410), ErrorClass::ModelUnavailable, HTTP),
    Rule::status(Status::Is(408), ErrorClass::Timeout, HTTP),
    Rule::status(Status::Is(504), ErrorClass::Timeout, HTTP),
    Rule::status(
        Status::Is(429),
        ErrorClass::RateLimited,
        "https://www.rfc-editor.org/rfc/rfc6585#section-4",
    ),
    // Somebody between cancelled it, and the caller did not; "try the request again".
    Rule::status(Status::Is(499), ErrorClass::ServerError, "https://docs.cohere.com/reference/errors"),
    Rule::status(Status::Client, ErrorClass::BadRequest, HTTP),
    Rule::status(Status::Any, ErrorClass::ServerError, HTTP),
];
