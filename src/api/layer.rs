//! Takes every call of our services through the gate. This layer reads what the gate needs from gRPC's headers, and says
//! in gRPC's words what the gate answers.
//!
//! Health and reflection need no token, and only their panics are contained.

use super::{operations, room, status};
use crate::gate::{Gate, Inside, Refusal};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

/// Puts services behind a [`Gate`].
#[derive(Clone)]
pub struct GateLayer(Arc<Gate>);

impl GateLayer {
    /// Puts services behind that gate.
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        Self(Arc::new(gate))
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { gate: self.0.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready, not its clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let gate = self.gate.clone();
        let mut request = request.map(|body| {
            let late = || status::from_refusal(Refusal::TooSlow);
            if body.is_end_stream() { body } else { Body::new(gate.received(body, late)) }
        });
        Box::pin(async move {
            // In the future, since making it may panic as well.
            let call = |request| async move { inner.call(request).await };
            let Some(operation) = operations::at(request.uri().path()) else {
                return match gate.contained(call(request)).await {
                    Ok(response) => Ok(response?.map(|body| Body::new(gate.contained_body(body, panicked)))),
                    Err(refusal) => Ok(status::from_refusal(refusal).into_http()),
                };
            };
            let mut inside = gate.enter(operation, request.headers());
            let caller = match gate.admit(&mut inside, bearer(request.headers())).await {
                Ok(caller) => caller,
                Err(refusal) => return Ok(refuse(inside, refusal)),
            };
            request.extensions_mut().insert(caller);
            let mut response = match gate.run(&inside, call(request)).await {
                Ok(response) => response?,
                Err(refusal) => return Ok(refuse(inside, refusal)),
            };
            // An error before the first message has no trailers but these.
            note_status(&mut inside, response.headers());
            let room = room::kept(response.extensions_mut());
            // A stream is inside until its last frame is out, or its reader gone.
            Ok(response.map(|body| {
                let body = gate.contained_body(body, panicked);
                Body::new(body.map_frame(move |frame| {
                    let _until_dropped = &room;
                    if let Some(trailers) = frame.trailers_ref() {
                        note_status(&mut inside, trailers);
                    }
                    frame
                }))
            }))
        })
    }
}

/// Reads the secret in `authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

fn refuse(mut inside: Inside, refusal: Refusal) -> Response<Body> {
    let status = status::from_refusal(refusal);
    inside.ended(code_name(status.code()));
    status.into_http()
}

/// Notes the status where these headers hold it.
fn note_status(inside: &mut Inside, headers: &HeaderMap) {
    if let Some(code) = headers.get("grpc-status") {
        inside.ended(code_name(Code::from_bytes(code.as_bytes())));
    }
}

/// Makes the trailers of an answer that has panicked.
fn panicked() -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status::from_refusal(Refusal::Panicked).add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// Names a code as the protocol does.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
