//! What errors of the HTTP client mean. No text of theirs is told: it may hold addresses.

use super::{
    guard::{Refused, Unreachable},
    pool::{Broken, Fate},
};
use crate::balance::{ErrorClass, Failure};
use rustix::io::Errno;
use std::{error::Error, io};

/// What an error of connecting means: nothing was sent.
pub(super) fn failure_of_connect(error: &(dyn Error + 'static)) -> Failure {
    let failure = told(error).unwrap_or_else(unreached);
    Failure { unsent: true, ..failure }
}

/// What an error of a request means, before there is an answer.
pub(super) fn failure_of_send(broken: &Broken) -> Failure {
    let unsent = broken.fate == Fate::Unsent;
    let failure = told(&broken.error);
    let failure = failure.unwrap_or_else(|| Failure::new(ErrorClass::Connection, "the connection broke"));
    Failure { unsent, ..failure }
}

/// No connection came about.
pub(super) fn unreached() -> Failure {
    Failure { unsent: true, ..Failure::new(ErrorClass::Connection, "the provider cannot be reached") }
}

/// An answer, or a connection, did not come in time.
pub(super) fn late() -> Failure {
    Failure::new(ErrorClass::Timeout, "the provider did not answer in time")
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
        match cause.downcast_ref() {
            Some(Unreachable::Refused(reason)) => return Some(refused(*reason)),
            Some(Unreachable::Name(_)) => {
                let message = "the provider's name cannot be resolved";
                return Some(Failure::new(ErrorClass::Connection, message));
            }
            _ => {}
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
            return Some(late());
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
