//! The door to our services: a token, a role, and a count of what is inside.
//!
//! Health and reflection pass without a token. While draining, new calls are turned away and those inside are waited
//! for. When the database is gone, tokens that have been seen before still open the door.

use super::{access, status};
use crate::catalog::{Caller, Catalog};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body_util::BodyExt;
use std::task::{Context, Poll};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// See the module's documentation.
#[derive(Clone)]
pub struct Gate {
    catalog: Catalog,
    draining: CancellationToken,
    stop: CancellationToken,
    inside: TaskTracker,
}

impl Gate {
    /// Turns calls away once `draining` is cancelled, counts in `inside` those that are on their way, and drops
    /// those that have not answered when `stop` is cancelled.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        draining: CancellationToken,
        stop: CancellationToken,
        inside: TaskTracker,
    ) -> Self {
        Self { catalog, draining, stop, inside }
    }

    async fn admit(&self, access: access::Access, headers: &HeaderMap) -> Result<Caller, Status> {
        if self.draining.is_cancelled() {
            return Err(status::draining());
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
        if access.allows(caller.role) { Ok(caller) } else { Err(status::role_not_allowed()) }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind the [`Gate`].
#[derive(Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(access) = access::of(request.uri().path()) else {
            return Box::pin(self.inner.call(request));
        };
        // The one that is ready, not its clone.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let gate = self.gate.clone();
        Box::pin(async move {
            let inside = gate.inside.token();
            match gate.admit(access, request.headers()).await {
                Ok(caller) => request.extensions_mut().insert(caller),
                Err(status) => return Ok(status.into_http()),
            };
            let response = tokio::select! {
                response = inner.call(request) => response?,
                // Dropping the call ends its upstream request and gives back what it held.
                () = gate.stop.cancelled() => return Ok(status::draining().into_http()),
            };
            // A stream is inside until its last frame is out, or its reader gone.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &inside;
                    frame
                }))
            }))
        })
    }
}
