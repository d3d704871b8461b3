//! What errors of the HTTP client mean. No text of theirs is told: it may hold addresses.

use super::guard::{Refused, Unresolved};
use crate::balance::{ErrorClass, Failure};
use rustix::io::Errno;
use std::{error::Error, io};

/// Whether the provider has certainly not looked at the request: it goes once more, over another connection. HTTP/1.1
/// connections that were closed while idle are the client's own business.
pub(super) fn is_untouched(error: &hyper_util::client::legacy::Error) -> bool {
    causes(error).filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        error.is_remote()
            && match error.reason() {
                Some(h2::Reason::NO_ERROR) => error.is_go_away(),
                Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
                _ => false,
            }
    })
}

/// What an error of the HTTP client means, before there is an answer.
pub(super) fn failure_of_send(error: hyper_util::client::legacy::Error) -> Failure {
    let unsent = error.is_connect();
    told(&error).unwrap_or_else(|| {
        let message = if unsent { "the provider cannot be reached" } else { "the connection broke" };
        Failure { unsent, ..Failure::new(ErrorClass::Connection, message) }
    })
}

/// What an error within an answer means.
pub(super) fn failure(error: hyper::Error) -> Failure {
    told(&error).unwrap_or_else(broke)
}

/// The connection broke after the answer had begun.
pub(super) fn broke() -> Failure {
    Failure::new(ErrorClass::Connection, "the connection broke within the answer")
}

/// What the causes of an error tell, where they do. Takes their kind alone: their text holds addresses.
fn told(error: &(dyn Error + 'static)) -> Option<Failure> {
    for cause in causes(error) {
        if let Some(reason) = cause.downcast_ref::<Refused>() {
            return Some(refused(*reason));
        }
        if cause.is::<Unresolved>() {
            let message = "the provider's name cannot be resolved";
            return Some(Failure { unsent: true, ..Failure::new(ErrorClass::Connection, message) });
        }
        let io = cause.downcast_ref::<io::Error>();
        if io.is_some_and(is_ours) {
            let message = "this replica can open no more connections";
            return Some(Failure {
                unsent: true,
                ours: true,
                ..Failure::new(ErrorClass::Connection, message)
            });
        }
        if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
            || cause.downcast_ref().is_some_and(hyper::Error::is_timeout)
        {
            let unsent = error.downcast_ref().is_some_and(hyper_util::client::legacy::Error::is_connect);
            let message = "the provider did not answer in time";
            return Some(Failure { unsent, ..Failure::new(ErrorClass::Timeout, message) });
        }
    }
    None
}

/// An error and what caused it.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Whether this process or machine has run out of descriptors or memory.
fn is_ours(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

pub(super) fn refused(reason: Refused) -> Failure {
    Failure { unsent: true, ..Failure::new(ErrorClass::Connection, reason.to_string()) }
}
