//! The door to our services: a token, a role, and a count of what is inside.
//!
//! Health and reflection pass without a token. Once it is closed, new calls are turned away and those inside are waited
//! for; beyond a bound on those inside they are turned away too, before anything is done for them. When the database is gone, tokens that have been seen before still open the door.

use super::{access, status};
use crate::{
    catalog::{Caller, Catalog},
    gate::{
        CallLimits,
        panics::{ContainedBody, contained},
        receive::TimedBody,
        tenant_limits::{TenantCall, TenantLimits},
    },
    telemetry::{CallSpan, InFlight, Metrics, Shed, Traces},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

/// See the module's documentation.
#[derive(Clone)]
pub struct Gate {
    catalog: Catalog,
    closed: CancellationToken,
    stop: CancellationToken,
    inside: TaskTracker,
    limits: CallLimits,
    tenants: Arc<TenantLimits>,
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl Gate {
    /// Turns calls away once `closed` is cancelled and beyond those limits, counts in `inside` those that are on their
    /// way, and drops those that have not answered when `stop` is cancelled.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        closed: CancellationToken,
        stop: CancellationToken,
        inside: TaskTracker,
        limits: CallLimits,
        metrics: Arc<Metrics>,
        traces: Traces,
    ) -> Self {
        let tenants = Arc::new(TenantLimits::new(limits));
        Self { catalog, closed, stop, inside, limits, tenants, metrics, traces }
    }

    /// A call that has come in.
    fn enter(&self, method: &'static str, headers: &HeaderMap) -> Inside {
        Inside {
            _token: self.inside.token(),
            _in_flight: self.metrics.begin(),
            metrics: self.metrics.clone(),
            span: self.traces.call(method, headers),
            method,
            began: Instant::now(),
            code: None,
            tenant: None,
        }
    }

    async fn admit(
        &self,
        access: access::Access,
        headers: &HeaderMap,
    ) -> Result<(Arc<Caller>, Option<TenantCall>), Status> {
        if self.closed.is_cancelled() {
            return Err(status::draining());
        }
        // The one at the door is inside already.
        if self.inside.len() > self.limits.max_calls {
            self.metrics.shed(Shed::Overloaded);
            return Err(status::overloaded());
        }
        let secret = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, secret)| secret.trim());
        let caller = match secret {
            Some(secret) => self.catalog.authenticate(secret).await.map_err(status::from_catalog)?,
            None => None,
        };
        let caller = caller.ok_or_else(status::token_invalid)?;
        if !access.allows(caller.role) {
            return Err(status::role_not_allowed());
        }
        // An operator belongs to no tenant: the one that its request names is not known before the request is read.
        let counted = caller.tenant.as_deref().map(|tenant| self.tenants.enter(tenant)).transpose();
        let counted = counted.map_err(|over| {
            self.metrics.shed(over.shed);
            status::tenant_limit(over.shed, over.retry_after)
        })?;
        Ok((caller, counted.flatten()))
    }
}

/// One call, from the door to its last frame. Dropped before its status is out, its reader went away.
struct Inside {
    _token: TaskTrackerToken,
    _in_flight: InFlight,
    metrics: Arc<Metrics>,
    span: CallSpan,
    method: &'static str,
    began: Instant,
    code: Option<Code>,
    /// Its place among its tenant's calls.
    tenant: Option<TenantCall>,
}

impl Inside {
    fn refuse(mut self, status: Status) -> Response<Body> {
        self.code = Some(status.code());
        status.into_http()
    }

    /// Takes the status from headers that may hold it.
    fn look(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(code.as_bytes()));
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let code = code_name(self.code.unwrap_or(Code::Cancelled));
        self.metrics.call(self.method, code, self.began.elapsed());
        self.span.end(code);
    }
}

/// The code's name in the protocol.
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

/// The trailers of a call whose answer has panicked.
fn panicked() -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status::internal().add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { gate: Arc::new(self.clone()), inner }
    }
}

/// A service behind the [`Gate`], whose panics end with their own calls.
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
        let limit = gate.limits.receive_timeout;
        let mut request = request.map(|body| {
            if body.is_end_stream() { body } else { Body::new(TimedBody::new(body, limit, status::too_slow)) }
        });
        Box::pin(async move {
            let metrics = &gate.metrics;
            let call = |request| async move {
                let answer = contained(async move { inner.call(request).await }, metrics).await;
                answer.unwrap_or_else(|| Ok(status::internal().into_http()))
            };
            let Some((method, access)) = access::of(request.uri().path()) else {
                let response = call(request).await?;
                return Ok(
                    response.map(|body| Body::new(ContainedBody::new(body, panicked, metrics.clone())))
                );
            };
            let mut inside = gate.enter(method, request.headers());
            match gate.admit(access, request.headers()).await {
                Ok((caller, counted)) => {
                    inside.tenant = counted;
                    if let Some(tenant) = &caller.tenant {
                        inside.span.of_tenant(tenant);
                    }
                    request.extensions_mut().insert(caller)
                }
                Err(status) => return Ok(inside.refuse(status)),
            };
            let response = tokio::select! {
                response = inside.span.run(call(request)) => response?,
                // Dropping the call ends its upstream request and gives back what it held.
                () = gate.stop.cancelled() => return Ok(inside.refuse(status::draining())),
            };
            // An error before the first message has no trailers but these.
            inside.look(response.headers());
            // A stream is inside until its last frame is out, or its reader gone.
            Ok(response.map(|body| {
                let body = ContainedBody::new(body, panicked, metrics.clone());
                Body::new(body.map_frame(move |frame| {
                    if let Some(trailers) = frame.trailers_ref() {
                        inside.look(trailers);
                    }
                    frame
                }))
            }))
        })
    }
}

#[cfg(test)]
mod tests;
