//! What goes wrong, as HTTP has it: a status, headers that tell clients whether to come again, and a body in the words of
//! the client's protocol.
//!
//! The clients of OpenAI and Anthropic retry by themselves
//! (<https://github.com/openai/openai-python#retries>). `x-should-retry` tells them not to once Rota's own attempts are spent,
//! and to go on where another replica can serve.

use super::{body::Body, origin::Foreign, routes::Nowhere, way::route_headers};
use crate::{
    balance::{ErrorClass, Failure},
    catalog,
    gate::Refusal,
    invoke::{CallError, Route},
    problem::{Detail, Problem},
    wire::{Endpoint, ErrorReport, FieldError, Protocol, anthropic, gemini, openai},
};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use tonic::Code;

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// The longest text of an error, in characters.
const MAX_MESSAGE: usize = 1024;

/// Why a request is not answered as it should be.
#[derive(Debug)]
pub struct Fault {
    /// What its protocol tells.
    pub report: ErrorReport,
    /// What metrics and traces call it.
    pub outcome: &'static str,
    should_retry: Option<bool>,
    allow: Option<&'static str>,
    route: Option<Box<Route>>,
}

impl Fault {
    fn new(status: StatusCode, outcome: &'static str, reason: &str, message: impl Into<String>) -> Self {
        let report = ErrorReport {
            status: status.as_u16(),
            reason: reason.to_owned(),
            message: shortened(message.into()),
            ..ErrorReport::default()
        };
        Self { report, outcome, should_retry: Some(false), allow: None, route: None }
    }

    /// The body is larger than it may be.
    pub fn too_large(most: usize) -> Self {
        let message = format!("the body has more than {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "OUT_OF_RANGE", "REQUEST_TOO_LARGE", message)
    }

    /// The body is of a kind that is not read.
    pub fn unsupported(what: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_ARGUMENT", "INVALID_FIELD", what)
    }

    /// The request cannot be read.
    pub fn unreadable(what: &str) -> Self {
        Problem::unreadable("", what).into()
    }

    /// The name of the model means nothing, or several.
    pub fn of_model(status: StatusCode, message: String) -> Self {
        let (outcome, reason) = match status {
            StatusCode::NOT_FOUND => ("NOT_FOUND", "MODEL_NOT_FOUND"),
            _ => ("INVALID_ARGUMENT", "INVALID_FIELD"),
        };
        let mut fault = Self::new(status, outcome, reason, message);
        "model".clone_into(&mut fault.report.field);
        fault
    }

    /// Names the field as that endpoint does, where a driver has named it in the words of chat completions.
    pub fn of_endpoint(mut self, endpoint: Endpoint) -> Self {
        let report = &mut self.report;
        if endpoint == Endpoint::Responses && !report.field.is_empty() {
            let field = openai::server::responses::field(&report.field);
            if let Some(why) = report.message.strip_prefix(&report.field) {
                report.message = format!("{field}{why}");
            }
            report.field = field;
        }
        self
    }

    /// Tells a client of that protocol, of the request with that id.
    pub fn response(self, protocol: Protocol, id: &str) -> Response<Body> {
        let body = match protocol {
            Protocol::OpenAi => openai::server::error::body(&self.report),
            Protocol::Anthropic => anthropic::server::error::body(&self.report, id),
            Protocol::Gemini => gemini::server::error::body(&self.report),
        };
        let status = match protocol {
            Protocol::Anthropic => anthropic::server::error::status(self.report.status),
            _ => self.report.status,
        };
        let mut response = Response::new(Body::small(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(should) = self.should_retry {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if should { "true" } else { "false" }));
        }
        if let Some(after) = self.report.retry_after {
            // Whole seconds (RFC 9110, section 10.2.3), never too early; OpenAI's clients know milliseconds too.
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000) as u64));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(after.as_millis() as u64));
        }
        if self.outcome == "UNAUTHENTICATED" {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(route) = &self.route {
            route_headers(route, headers);
        }
        response
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        let (status, outcome) = status(&problem);
        let Problem { reason, message, retry_after, detail, .. } = problem;
        let mut fault = Self::new(status, outcome, &reason, message);
        fault.report.retry_after = retry_after;
        fault.should_retry = match &*reason {
            "DRAINING" | "OVERLOADED" => Some(true),
            // The client's own rule: nothing was tried yet, and it is told when to come again.
            "TENANT_LIMIT" | "DATABASE_UNAVAILABLE" => None,
            _ => Some(false),
        };
        match detail {
            Detail::Violations(violations) => {
                let told: Vec<_> = violations
                    .iter()
                    .map(|violation| format!("{}: {}", field(&violation.field), violation.description))
                    .collect();
                fault.report.message = shortened(told.join("; "));
                fault.report.field =
                    violations.first().map(|first| field(&first.field).to_owned()).unwrap_or_default();
            }
            Detail::Upstream(upstream) => fault.route = Some(Box::new(upstream.1)),
            _ => {}
        }
        fault
    }
}

/// The name of a field of the contract in a request over HTTP.
fn field(name: &str) -> &str {
    if name == "key" || name.starts_with("key.") {
        return "model";
    }
    name.strip_prefix("parameters.").unwrap_or(name)
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let is_token = matches!(refusal, Refusal::TokenInvalid);
        let mut fault = Self::from(Problem::from(refusal));
        if is_token {
            "a valid token of Rota is needed: authorization: Bearer rota_…"
                .clone_into(&mut fault.report.message);
        }
        fault
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Problem::from(error).into()
    }
}

impl From<catalog::Error> for Fault {
    fn from(error: catalog::Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<FieldError> for Fault {
    fn from(error: FieldError) -> Self {
        if error.field.is_empty() {
            return Self::unreadable(&error.why);
        }
        Problem::invalid(error.field, error.why).into()
    }
}

impl From<Foreign> for Fault {
    fn from(foreign: Foreign) -> Self {
        let (status, outcome, reason, message) = match foreign {
            Foreign::NoHost => (
                StatusCode::BAD_REQUEST,
                "INVALID_ARGUMENT",
                "INVALID_FIELD",
                "the header Host stands there once",
            ),
            Foreign::Host => (
                StatusCode::FORBIDDEN,
                "PERMISSION_DENIED",
                "HOST_NOT_ALLOWED",
                "this host is not known here: name it in --allowed-hosts",
            ),
            Foreign::Origin => (
                StatusCode::FORBIDDEN,
                "PERMISSION_DENIED",
                "ORIGIN_NOT_ALLOWED",
                "pages of other origins may not call this",
            ),
        };
        Self::new(status, outcome, reason, message)
    }
}

impl From<Nowhere> for Fault {
    fn from(nowhere: Nowhere) -> Self {
        match nowhere {
            Nowhere::NotFound => Self::new(
                StatusCode::NOT_FOUND,
                "NOT_FOUND",
                "PATH_NOT_FOUND",
                "there is nothing at this path",
            ),
            Nowhere::Method(allowed) => Self {
                allow: Some(allowed),
                ..Self::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "UNIMPLEMENTED",
                    "METHOD_NOT_ALLOWED",
                    format!("this path takes {allowed}"),
                )
            },
        }
    }
}

/// The status, and the name of the code.
fn status(problem: &Problem) -> (StatusCode, &'static str) {
    let status = match &problem.detail {
        Detail::Upstream(upstream) if upstream.0.full.is_none() => Some(of_class(&upstream.0)),
        _ => None,
    };
    let (usual, name) = match problem.code {
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT"),
        Code::OutOfRange => (StatusCode::PAYLOAD_TOO_LARGE, "OUT_OF_RANGE"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
        Code::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "ALREADY_EXISTS"),
        Code::Aborted => (StatusCode::CONFLICT, "ABORTED"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED"),
        Code::FailedPrecondition => (StatusCode::BAD_REQUEST, "FAILED_PRECONDITION"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        Code::DeadlineExceeded if problem.reason == "REQUEST_TOO_SLOW" => {
            (StatusCode::REQUEST_TIMEOUT, "DEADLINE_EXCEEDED")
        }
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED"),
        Code::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "CANCELLED"),
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
            (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL")
        }
    };
    (status.unwrap_or(usual), name)
}

/// The status that the vendors' clients make the class's own exception of.
fn of_class(failure: &Failure) -> StatusCode {
    let own = failure.http_status.and_then(|status| StatusCode::from_u16(status).ok());
    match failure.class {
        ErrorClass::RateLimited | ErrorClass::QuotaExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorClass::Authentication => StatusCode::UNAUTHORIZED,
        ErrorClass::Connection => StatusCode::BAD_GATEWAY,
        ErrorClass::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorClass::ServerError => own.filter(StatusCode::is_server_error).unwrap_or(StatusCode::BAD_GATEWAY),
        ErrorClass::ModelUnavailable => StatusCode::NOT_FOUND,
        ErrorClass::BadRequest => own
            .filter(|own| matches!(own.as_u16(), 400 | 404 | 405 | 409 | 413 | 415 | 422))
            .unwrap_or(StatusCode::BAD_REQUEST),
        ErrorClass::ContentFiltered | ErrorClass::ContextTooLong => StatusCode::BAD_REQUEST,
        ErrorClass::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
