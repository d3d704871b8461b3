//! [`Problem`]s as gRPC's statuses with details.
//!
//! Details are `google.rpc` messages of at most [`MAX_DETAILS`] bytes in all, since they travel in a trailer, whose size
//! peers limit.

use super::to_pb;
use crate::{
    catalog::{Error, ResourceKind, Violation},
    gate::Refusal,
    invoke::{CallError, Route},
    problem::{Detail, Problem},
};
use prost::Message;
use prost_types::Any;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::pb::{
    BadRequest, ErrorInfo, QuotaFailure, ResourceInfo, RetryInfo, bad_request::FieldViolation, quota_failure,
};

const MAX_DETAILS: usize = 4096;
/// In bytes as a header carries them. Clients refuse answers whose headers, with the details, are over 8 KiB.
const MAX_MESSAGE: usize = 1024;
const MAX_NAME: usize = 256;
const MAX_VIOLATIONS: usize = 16;

/// The status of a call that the gate has turned away.
pub(super) fn from_refusal(refusal: Refusal) -> Status {
    status(refusal.into())
}

pub(super) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Status {
    status(Problem::invalid(field, description))
}

/// The status of a request whose bytes cannot be read, and the field where that is known.
pub(super) fn unreadable(field: &str, what: &str) -> Status {
    status(Problem::unreadable(field, what))
}

pub(super) fn not_found(kind: ResourceKind, name: &str) -> Status {
    status(Problem::not_found(kind, name))
}

/// The status of a catalog's refusal.
pub(super) fn from_catalog(error: Error) -> Status {
    status(error.into())
}

/// The status of a call that was not served.
pub(super) fn from_call(error: CallError) -> Status {
    status(error.into())
}

/// A problem in gRPC's words.
pub(super) fn status(problem: Problem) -> Status {
    let Problem { code, reason, message, retry_after, detail } = problem;
    let reply = Reply::new(code, &reason, &message);
    let reply = match &detail {
        Detail::Resource(kind, name) => reply.detail("google.rpc.ResourceInfo", &resource(*kind, name)),
        Detail::Quota(of) => {
            let violation = quota_failure::Violation {
                subject: (*of).to_owned(),
                description: message,
                ..Default::default()
            };
            reply.detail("google.rpc.QuotaFailure", &QuotaFailure { violations: vec![violation] })
        }
        _ => reply,
    };
    let reply = match retry_after {
        Some(after) => reply.retry(after),
        None => reply,
    };
    match detail {
        Detail::Violations(violations) => reply.violations(bad_request(violations)),
        Detail::Upstream(upstream) => reply.route(upstream.1),
        _ => reply,
    }
    .into()
}

fn bad_request(mut violations: Vec<Violation>) -> BadRequest {
    violations.truncate(MAX_VIOLATIONS);
    let field_violations = violations.into_iter().map(|violation| FieldViolation {
        field: shortened(&violation.field, MAX_NAME),
        description: shortened(&violation.description, MAX_NAME),
        ..FieldViolation::default()
    });
    BadRequest { field_violations: field_violations.collect() }
}

fn resource(kind: ResourceKind, name: &str) -> ResourceInfo {
    ResourceInfo {
        resource_type: kind.to_string(),
        resource_name: shortened(name, MAX_NAME),
        ..ResourceInfo::default()
    }
}

/// A status in the making.
struct Reply {
    code: Code,
    message: String,
    details: Vec<Any>,
}

impl Reply {
    fn new(code: Code, reason: &str, message: &str) -> Self {
        let info = ErrorInfo { reason: reason.to_owned(), domain: "rota".to_owned(), ..ErrorInfo::default() };
        Self { code, message: fitted(message), details: Vec::new() }.detail("google.rpc.ErrorInfo", &info)
    }

    /// Adds a detail where there is room for it.
    fn detail(mut self, name: &str, detail: &impl Message) -> Self {
        let any = Any { type_url: format!("type.googleapis.com/{name}"), value: detail.encode_to_vec() };
        let room = MAX_DETAILS.saturating_sub(self.size());
        if any.encoded_len() <= room {
            self.details.push(any);
        }
        self
    }

    fn retry(self, after: Duration) -> Self {
        self.detail("google.rpc.RetryInfo", &RetryInfo { retry_delay: Some(to_pb::duration(after)) })
    }

    /// Adds the fields that are wrong, as many of the first as there is room for.
    fn violations(self, mut request: BadRequest) -> Self {
        let room = self.room();
        while request.encoded_len() > room && request.field_violations.pop().is_some() {}
        self.detail("google.rpc.BadRequest", &request)
    }

    /// Adds the route. To make it fit, messages of attempts are cut first, and then attempts are left out.
    fn route(self, route: Route) -> Self {
        let mut route = to_pb::route(route);
        let room = self.room();
        for limit in [MAX_NAME, 96, 32, 0] {
            if route.encoded_len() <= room {
                break;
            }
            for attempt in &mut route.attempts {
                attempt.message = shortened(&attempt.message, limit);
            }
        }
        while route.encoded_len() > room && !route.attempts.is_empty() {
            // The first failures say least about why the call ended.
            route.attempts.remove(0);
        }
        self.detail("rota.v1.Route", &route)
    }

    /// How large one more detail may be, its name not counted.
    fn room(&self) -> usize {
        MAX_DETAILS.saturating_sub(self.size()).saturating_sub(64)
    }

    fn size(&self) -> usize {
        self.details.iter().map(|any| any.encoded_len() + 4).sum()
    }
}

impl From<Reply> for Status {
    fn from(reply: Reply) -> Self {
        let details = tonic_types::Status {
            code: i32::from(reply.code),
            message: reply.message.clone(),
            details: reply.details,
        };
        Self::with_details(reply.code, reply.message, details.encode_to_vec().into())
    }
}

/// Cuts the text so that it fits into [`MAX_MESSAGE`] when it is percent-encoded, as gRPC sends it.
fn fitted(text: &str) -> String {
    let mut room = MAX_MESSAGE;
    for (at, c) in text.char_indices() {
        let size = if c.is_ascii_alphanumeric() { 1 } else { 3 * c.len_utf8() };
        match room.checked_sub(size) {
            Some(left) => room = left,
            None => return format!("{}…", text.get(..at).unwrap_or_default()),
        }
    }
    text.to_owned()
}

fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::pb,
        balance::{ErrorClass, Failure},
        invoke::AttemptReport,
    };

    fn details(status: &Status) -> tonic_types::Status {
        tonic_types::Status::decode(status.details()).unwrap()
    }

    fn reason(status: &Status) -> String {
        ErrorInfo::decode(&*details(status).details[0].value).unwrap().reason
    }

    #[test]
    fn a_huge_route_is_cut_to_fit_a_trailer() {
        let attempt = AttemptReport {
            config_id: "0190".repeat(9).into(),
            config_name: "n".repeat(200).into(),
            class: Some(ErrorClass::Timeout),
            http_status: None,
            message: "m".repeat(500),
            latency: Duration::from_secs(1),
            cooldown: None,
            after_break: None,
        };
        let route = Route { attempts: vec![attempt; 200], ..Route::default() };
        let failure = Failure::new(ErrorClass::Timeout, "no answer in time");
        let status =
            from_call(CallError::Upstream { failure, route, retry_after: Some(Duration::from_secs(1)) });
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "UPSTREAM_TIMEOUT"));
        assert!(details(&status).encoded_len() <= MAX_DETAILS + MAX_MESSAGE);
        let route = pb::Route::decode(&*details(&status).details[2].value).unwrap();
        assert!(route.attempts.len() > 5);
    }

    #[test]
    fn a_message_fits_into_a_header_whatever_its_script() {
        for text in ["x", "é", "错误", "🎈", "%", "\n"] {
            let status = from_catalog(Error::NotFound(ResourceKind::Model, text.repeat(5000)));
            let encoded = status.into_http::<()>();
            let message = encoded.headers()["grpc-message"].len();
            let details = encoded.headers()["grpc-status-details-bin"].len();
            assert!((1000..=MAX_MESSAGE + 9).contains(&message), "{text}: {message}");
            assert!(message + details < 8000, "{text}: {message} + {details}");
        }
    }

    #[test]
    fn violations_are_listed_and_limited() {
        for letter in ["x", "é", "错", "🎈"] {
            let violation = Violation { field: letter.repeat(1000), description: letter.repeat(1000) };
            let status = from_catalog(Error::Invalid(vec![violation; 1000]));
            assert_eq!(reason(&status), "INVALID_FIELD");
            assert!(status.message().chars().count() <= MAX_MESSAGE + 1);
            assert!(details(&status).encoded_len() <= MAX_DETAILS + MAX_MESSAGE);
            let bad = BadRequest::decode(&*details(&status).details[1].value).unwrap();
            assert!(!bad.field_violations.is_empty(), "{letter}");
        }
        let small = from_catalog(Error::invalid("tenant.id", "must not be empty"));
        let details = details(&small);
        assert_eq!(details.details[1].type_url, "type.googleapis.com/google.rpc.BadRequest");
        let bad = BadRequest::decode(&*details.details[1].value).unwrap();
        assert_eq!(bad.field_violations[0].field, "tenant.id");
    }
}
