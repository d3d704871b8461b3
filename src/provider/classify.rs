//! Decides what an error of a provider means: its code, its text and its status become a [`Failure`].
//!
//! Which error means what stands in tables of [`Rule`]s: each driver has its own, beside those of the texts and the
//! statuses that mean the same everywhere. Pure.
//! Invariants: no message of a failure holds a secret of the target, and every answer that is not a success gets some
//! class.

#[cfg(test)]
mod tests;
mod texts;

use super::{
    KindSpec, Target,
    redact::Redactor,
    rules::{Pattern, Rule, STATUSES, Said},
};
use crate::{
    balance::{Doubt, ErrorClass, Failure},
    wire::{ProviderError, ReadError, WriteError, retry_after::retry_after},
};
use http::{HeaderMap, StatusCode};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::SystemTime,
};

pub(super) use texts::TEXTS;

/// Says what one target's provider means, and takes the target's secrets out of its words.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    redactor: Redactor,
    tables: &'static [&'static [Rule]],
}

impl Classifier {
    /// By the tables of that kind.
    pub(super) fn new(kind: &'static KindSpec, target: &Target) -> Self {
        Self { redactor: Redactor::new(target), tables: kind.errors }
    }

    /// The failure that an answer without success is. `now` stands in for a missing `Date`.
    pub(super) fn answer(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Failure {
        let status = status.as_u16();
        let error = ProviderError::read(body);
        let message = match &error.message {
            _ if (300..400).contains(&status) => "redirects are not followed".to_owned(),
            Some(message) => self.redactor.clean(message),
            None => format!("the provider answered with status {status}"),
        };
        let failure = self.failure(&error, status, message);
        Failure { retry_after: retry_after(status, headers, now).or(failure.retry_after), ..failure }
    }

    /// The failure that an answer with success is when it cannot be read.
    pub(super) fn unread(&self, error: ReadError) -> Failure {
        match error {
            ReadError::Malformed(why) => {
                Failure { http_status: Some(200), ..Failure::new(ErrorClass::ServerError, why) }
            }
            ReadError::Reported(error) => {
                let message = error.message.as_deref().unwrap_or("the provider sent an error");
                self.failure(&error, error.status_in_code().unwrap_or(200), self.redactor.clean(message))
            }
            ReadError::NoMessage => Failure {
                http_status: Some(200),
                doubt: Doubt::Billed,
                ..Failure::new(ErrorClass::ServerError, "the provider's answer says nothing")
            },
            ReadError::EndedEarly => Failure::new(ErrorClass::Connection, "the stream ended early"),
            ReadError::TooLarge => {
                Failure::new(ErrorClass::ServerError, "an event of the stream is too large")
            }
        }
    }

    fn failure(&self, error: &ProviderError, status: u16, message: String) -> Failure {
        let said = Said::new(error);
        let rows = self.tables.iter().copied().chain([TEXTS, STATUSES]).flatten();
        let row = rows
            .filter(|row| row.status.holds(status) && row.pattern.fits(&said))
            .min_by_key(|row| row.pattern.rank());
        let class = row.map_or(ErrorClass::ServerError, |row| row.class);
        // A code or a whole sentence is the vendor's own; other words and a status may be what the caller's have led to.
        let is_exact = row.is_some_and(|row| matches!(row.pattern, Pattern::Code(_) | Pattern::Sentence(_)));
        let doubt = match &error.message {
            Some(words) if matches!(status, 400 | 403) && class.moves_on() && !is_exact => {
                let mut hasher = DefaultHasher::new();
                words.hash(&mut hasher);
                Doubt::Words(hasher.finish())
            }
            _ => Doubt::None,
        };
        Failure {
            http_status: Some(status),
            retry_after: retry_after(status, &error.headers, SystemTime::now()).or(error.retry_after),
            doubt,
            ..Failure::new(class, message)
        }
    }
}

/// A request that the provider cannot be sent is the request's fault.
impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let doubt = Doubt::Unwritable(error.field);
        Self { doubt, ..Self::new(ErrorClass::BadRequest, error.why) }
    }
}
