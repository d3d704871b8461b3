//! The rows of which the drivers' tables of errors are made, and the table of what HTTP's statuses mean. Pure.

use crate::{balance::ErrorClass, wire::ProviderError};
use std::fmt;

/// One row of a table of errors: what an error that looks like this means.
#[derive(Debug)]
pub struct Rule {
    /// The statuses under which the row holds.
    pub status: Status,
    /// What the error says.
    pub pattern: Pattern,
    /// What it means.
    pub class: ErrorClass,
    /// The page that says so, or a public report of such an answer.
    pub source: &'static str,
}

/// The HTTP statuses under which a row holds. 200 stands for all successes: for an error inside a stream, or inside an
/// answer that claims to be one.
#[derive(Debug, Clone, Copy)]
pub enum Status {
    /// Every status.
    Any,
    /// Success, or a fault of the request (2xx, 4xx). A redirect or a server that fails says nothing about the key.
    Refusal,
    /// A fault of the request (4xx).
    Client,
    /// This status.
    Is(u16),
    /// One of these.
    In(&'static [u16]),
}

impl Status {
    /// Whether the row holds under that status.
    #[must_use]
    pub fn holds(self, status: u16) -> bool {
        let status = if (200..300).contains(&status) { 200 } else { status };
        match self {
            Self::Any => true,
            Self::Refusal => status == 200 || (400..500).contains(&status),
            Self::Client => (400..500).contains(&status),
            Self::Is(own) => own == status,
            Self::In(own) => own.contains(&status),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |status: u16| if status == 200 { "2xx".to_owned() } else { status.to_string() };
        match self {
            Self::Any => f.write_str("any"),
            Self::Refusal => f.write_str("2xx, 4xx"),
            Self::Client => f.write_str("4xx"),
            Self::Is(status) => f.write_str(&name(*status)),
            Self::In(list) => f.write_str(&list.iter().copied().map(name).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// What an error says, the most exact pattern first: where several rows fit, the first of them decides, and of two with
/// the same sort of pattern the upper one.
#[derive(Debug, Clone, Copy)]
pub enum Pattern {
    /// The error's code, its type, or one of its reasons.
    Code(&'static str),
    /// The error's whole text; `*` stands for one word, `**` for any text. Under 400 and 403, where providers repeat what
    /// callers wrote, only this and a code blame a credential.
    Sentence(&'static str),
    /// What stands anywhere in the error's text, in lower case.
    Words(&'static str),
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
            Self::Sentence(_) => 1,
            Self::Words(_) => 2,
            Self::Word(_) => 3,
            Self::Anything => 4,
        }
    }

    pub(super) fn fits(self, said: &Said) -> bool {
        match self {
            Self::Code(name) | Self::Word(name) => said.names.contains(&name),
            Self::Sentence(pattern) => is_like(said.text, pattern),
            Self::Words(words) => said.start.contains(words),
            Self::Anything => true,
        }
    }
}

/// An error, made ready for many patterns.
pub(super) struct Said<'e> {
    names: Vec<&'e str>,
    text: &'e str,
    /// How the text begins, in lower case.
    start: String,
}

impl<'e> Said<'e> {
    /// What says why stands at the start; the rest may be the caller's request.
    const START: usize = 4096;

    pub(super) fn new(error: &'e ProviderError) -> Self {
        let names = [&error.code, &error.kind].into_iter().chain(&error.reasons).map(String::as_str);
        let text = error.message.as_deref().unwrap_or_default();
        let start = text.get(..text.floor_char_boundary(Self::START)).unwrap_or(text).to_lowercase();
        // Gateways add it to what the vendor said: <https://github.com/QuantumNous/new-api>.
        let text = text.rsplit_once(" (request id: ").map_or(text, |(text, _)| text).trim();
        Self { names: names.filter(|name| !name.is_empty()).collect(), text, start }
    }
}

/// Whether a text is that sentence, from its first character to its last.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((start, mut pattern)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    loop {
        let any = pattern.strip_prefix('*');
        let is_gap = |gap: &str| any.is_some() || !gap.contains(char::is_whitespace);
        let rest = any.unwrap_or(pattern);
        let Some((piece, next)) = rest.split_once('*') else {
            return text.strip_suffix(rest).is_some_and(is_gap);
        };
        match text.split_once(piece) {
            Some((gap, after)) if is_gap(gap) => (text, pattern) = (after, next),
            _ => return false,
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

    /// A whole sentence that decides whatever the status of the refusal.
    pub(super) const fn sentence(sentence: &'static str, class: ErrorClass, source: &'static str) -> Self {
        Self { status: Status::Refusal, pattern: Pattern::Sentence(sentence), class, source }
    }

    /// Words anywhere in a text, in lower case.
    pub(super) const fn words(words: &'static str, class: ErrorClass, source: &'static str) -> Self {
        Self { status: Status::Refusal, pattern: Pattern::Words(words), class, source }
    }

    /// A word that decides only where no status does.
    pub(super) const fn word(word: &'static str, class: ErrorClass, source: &'static str) -> Self {
        Self { status: Status::Is(200), pattern: Pattern::Word(word), class, source }
    }

    /// A status alone.
    pub(super) const fn status(status: Status, class: ErrorClass, source: &'static str) -> Self {
        Self { status, pattern: Pattern::Anything, class, source }
    }

    /// The row, for those statuses alone.
    pub(super) const fn under(self, status: Status) -> Self {
        Self { status, ..self }
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
    // A vendor's filter: the prompt is refused for what it says.
    Rule::status(
        Status::Is(451),
        ErrorClass::ContentFiltered,
        "https://platform.stepfun.com/docs/zh/api-reference/error-codes",
    ),
    // Somebody between cancelled it, and the caller did not; "try the request again".
    Rule::status(Status::Is(499), ErrorClass::ServerError, "https://docs.cohere.com/reference/errors"),
    Rule::status(Status::Client, ErrorClass::BadRequest, HTTP),
    Rule::status(Status::Any, ErrorClass::ServerError, HTTP),
];
