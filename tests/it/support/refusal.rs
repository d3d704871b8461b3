//! What a refused call says, decoded from its status details.

use std::time::Duration;

use prost::Message;
use rota::api::pb::Route;
use tonic::{Code, Status};
use tonic_types::pb::{BadRequest, ErrorInfo, QuotaFailure, ResourceInfo, RetryInfo};

/// A status with its `google.rpc` details.
#[derive(Debug, Default)]
pub struct Refusal {
    /// `ErrorInfo.reason`.
    pub reason: String,
    /// The fields of `BadRequest`.
    pub fields: Vec<String>,
    /// Type and name of `ResourceInfo`.
    pub resource: Option<(String, String)>,
    /// `RetryInfo`.
    pub retry_after: Option<Duration>,
    /// Of what `QuotaFailure` says that there may be no more.
    pub quota: Option<String>,
    /// The way the call took.
    pub route: Option<Route>,
}

/// Decodes a status that came from Rota's own code.
#[track_caller]
pub fn refusal(status: &Status) -> Refusal {
    let details = tonic_types::Status::decode(status.details()).expect("the details are google.rpc.Status");
    assert_eq!(details.code, i32::from(status.code()), "{status:?}");
    let size: usize = details.details.iter().map(Message::encoded_len).sum();
    assert!(size <= 4096, "{size} bytes of details");
    let mut refusal = Refusal::default();
    for any in &details.details {
        let value = any.value.as_slice();
        match any.type_url.trim_start_matches("type.googleapis.com/") {
            "google.rpc.ErrorInfo" => {
                let info = ErrorInfo::decode(value).unwrap();
                assert_eq!(info.domain, "rota");
                refusal.reason = info.reason;
            }
            "google.rpc.BadRequest" => {
                let violations = BadRequest::decode(value).unwrap().field_violations;
                assert!(violations.iter().all(|violation| !violation.description.is_empty()));
                refusal.fields = violations.into_iter().map(|violation| violation.field).collect();
            }
            "google.rpc.ResourceInfo" => {
                let info = ResourceInfo::decode(value).unwrap();
                refusal.resource = Some((info.resource_type, info.resource_name));
            }
            "google.rpc.RetryInfo" => {
                let delay = RetryInfo::decode(value).unwrap().retry_delay.expect("RetryInfo holds a delay");
                refusal.retry_after = Some(Duration::try_from(delay).unwrap());
            }
            "google.rpc.QuotaFailure" => {
                let violations = QuotaFailure::decode(value).unwrap().violations;
                refusal.quota = violations.into_iter().map(|violation| violation.subject).next();
            }
            "rota.v1.Route" => refusal.route = Some(Route::decode(value).unwrap()),
            other => panic!("an unknown detail: {other}"),
        }
    }
    refusal
}

/// The refusal of a call that must be refused with that code and reason.
#[track_caller]
pub fn refused<T>(result: Result<T, Status>, code: Code, reason: &str) -> Refusal {
    let Err(status) = result else { panic!("served, not {reason}") };
    assert_eq!((status.code(), refusal(&status).reason.as_str()), (code, reason), "{status:?}");
    refusal(&status)
}

/// The fields that a call is refused for.
#[track_caller]
pub fn invalid_fields<T>(result: Result<T, Status>) -> Vec<String> {
    refused(result, Code::InvalidArgument, "INVALID_FIELD").fields
}
