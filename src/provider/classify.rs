//! Decides what an error of a provider means: its code, its text and its status become a [`Failure`].
//!
//! Which error means what stands in tables of [`Rule`]s: each driver has its own, beside that of all statuses. Pure.
//! Invariants: no message of a failure holds a secret of the target, and every answer that is not a success gets some
//! class.

#[cfg(test)]
mod tests;

use super::{
    KindSpec, Target,
    redact::Redactor,
    rules::{Rule, STATUSES},
};
use crate::{
    balance::{ErrorClass, Failure},
    wire::{ProviderError, ReadError, WriteError, retry_after::retry_after},
};
use http::{HeaderMap, StatusCode};
use std::time::SystemTime;

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
        let hint = retry_after(status, headers, now).or(error.retry_after);
        Failure { retry_after: hint, ..self.failure(&error, status, message) }
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
            ReadError::EndedEarly => Failure::new(ErrorClass::Connection, "the stream ended early"),
            ReadError::TooLarge => {
                Failure::new(ErrorClass::ServerError, "an event of the stream is too large")
            }
        }
    }

    fn failure(&self, error: &ProviderError, status: u16, message: String) -> Failure {
        Failure {
            http_status: Some(status),
            retry_after: error.retry_after,
            ..Failure::new(self.class(error, status), message)
        }
    }

    fn class(&self, error: &ProviderError, status: u16) -> ErrorClass {
        let rows = self.tables.iter().copied().chain([STATUSES]).flatten();
        rows.filter(|row| row.status.holds(status) && row.pattern.fits(error))
            .min_by_key(|row| row.pattern.rank())
            .map_or(ErrorClass::ServerError, |row| row.class)
    }
}

/// A request that the provider cannot be sent is the request's fault.
impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::new(ErrorClass::BadRequest, error.0)
    }
}
