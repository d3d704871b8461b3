//! Reads the details that come with an error.

use std::time::Duration;

use prost::Message;
use rota::api::pb::{Attempt, ErrorClass, Route};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Code and reason. Fails where the error is not one of ours.
pub fn told(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("not one of ours: {status:?}"));
    assert_eq!(info.domain, "rota");
    (status.code(), info.reason)
}

/// For comparing with [`told`].
pub fn error(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

/// How long to stay away, by RetryInfo.
pub fn retry_after(status: &Status) -> Duration {
    let info = status.get_details_retry_info().unwrap_or_else(|| panic!("no RetryInfo: {status:?}"));
    info.retry_delay.expect("RetryInfo without a delay")
}

/// The route that the call took.
pub fn route(status: &Status) -> Route {
    let details = tonic_types::Status::decode(status.details()).unwrap().details;
    let route = details.iter().find(|any| any.type_url.ends_with("/rota.v1.Route"));
    Route::decode(&*route.unwrap_or_else(|| panic!("no Route: {status:?}")).value).unwrap()
}

/// Why each attempt failed, in order; unspecified for the one that served.
pub fn classes(attempts: &[Attempt]) -> Vec<ErrorClass> {
    attempts.iter().map(Attempt::error_class).collect()
}

/// A span of the contract.
pub fn span(duration: Option<prost_types::Duration>) -> Duration {
    Duration::try_from(duration.expect("no duration")).expect("a negative duration")
}
