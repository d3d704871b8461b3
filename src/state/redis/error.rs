//! Errors of the client library, as ours.

use crate::state::StateError;
use fred::prelude::Error;

/// The text holds no key, no value and no password.
pub(super) fn state_error(error: Error) -> StateError {
    // Of what the system says fred keeps the form for programmers alone.
    let details = error.details();
    let said = details.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
    StateError(format!("{:?}: {}", error.kind(), said.map_or(details, |(message, _)| message)))
}
