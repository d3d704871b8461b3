//! The gate itself: a token, a role, limits, and a count of what is inside.
//!
//! Once the gate is closed, new calls are turned away, and the calls inside are waited for. When there are as many calls
//! inside as there may be, new ones are turned away before anything is done for them. While the database is away, tokens that
//! were seen before still open the gate.

use super::{
    access::Operation,
    drain::Drain,
    panics::{ContainedBody, LastFrame, contained},
    receive::TimedBody,
    refusal::Refusal,
    tenant_limits::{CallLimits, TenantCall, TenantLimits},
};
use crate::{
    catalog::{Caller, Catalog},
    telemetry::{CallSpan, InFlight, Metrics, Shed, Traces},
};
use http::HeaderMap;
use http_body::Body;
use std::{sync::Arc, time::Instant};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// See the module's documentation. Clones share all their state.
#[derive(Clone)]
pub struct Gate {
    catalog: Catalog,
    drain: Drain,
    limits: CallLimits,
    tenants: Arc<TenantLimits>,
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl Gate {
    /// A gate that is closed by `drain` and has those limits.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        drain: Drain,
        limits: CallLimits,
        metrics: Arc<Metrics>,
        traces: Traces,
    ) -> Self {
        let tenants = Arc::new(TenantLimits::new(limits));
        Self { catalog, drain, limits, tenants, metrics, traces }
    }

    /// Counts a call that has come, until what is returned is dropped. `headers` may hold the trace that it belongs to.
    #[must_use]
    pub fn enter(&self, operation: Operation, headers: &HeaderMap) -> Inside {
        Inside {
            _token: self.drain.enter(),
            _in_flight: self.metrics.begin(),
            metrics: self.metrics.clone(),
            span: self.traces.call(operation.name, headers),
            operation,
            began: Instant::now(),
            outcome: None,
            tenant: None,
        }
    }

    /// Says who makes the call, by the secret of its token.
    ///
    /// # Errors
    /// Where the call is turned away.
    pub async fn admit(&self, inside: &mut Inside, token: Option<&str>) -> Result<Arc<Caller>, Refusal> {
        if self.drain.closed.is_cancelled() {
            return Err(Refusal::Draining);
        }
        // The one at the gate is inside already.
        if self.drain.inside() > self.limits.max_calls {
            self.metrics.shed(Shed::Overloaded);
            return Err(Refusal::Overloaded);
        }
        let caller = match token {
            Some(secret) => self.catalog.authenticate(secret).await?,
            None => None,
        };
        let caller = caller.ok_or(Refusal::TokenInvalid)?;
        if !inside.operation.access.allows(caller.role) {
            return Err(Refusal::RoleNotAllowed);
        }
        // An operator belongs to no tenant: the one that its request names is not known before the request is read.
        if let Some(tenant) = &caller.tenant {
            let counted = self.tenants.enter(tenant);
            inside.tenant = counted.inspect_err(|refusal| match refusal {
                Refusal::TenantRate { .. } => self.metrics.shed(Shed::TenantRate),
                _ => self.metrics.shed(Shed::TenantCalls),
            })?;
            inside.span.of_tenant(tenant);
        }
        Ok(caller)
    }

    /// Runs a call. Its panic ends this call alone.
    ///
    /// # Errors
    /// Where it panics, or where the calls inside are ended. Dropping a call ends its upstream request and gives back what
    /// it held.
    pub async fn run<T>(&self, inside: &Inside, call: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::select! {
            answer = inside.span.run(self.contained(call)) => answer,
            () = self.drain.stop.cancelled() => Err(Refusal::Draining),
        }
    }

    /// Runs what needs no token and is not counted. Its panic ends it alone.
    ///
    /// # Errors
    /// Where it panics.
    pub async fn contained<T>(&self, call: impl Future<Output = T>) -> Result<T, Refusal> {
        contained(call, &self.metrics).await.ok_or(Refusal::Panicked)
    }

    /// Bounds how long the body of a request may take to come. It fails with `late`.
    pub fn received<B: Body>(&self, body: B, late: fn() -> B::Error) -> TimedBody<B> {
        TimedBody::new(body, self.limits.receive_timeout, late)
    }

    /// Contains panics in the body of an answer. The body ends with `last` then.
    pub fn contained_body<B: Body>(&self, body: B, last: LastFrame<B>) -> ContainedBody<B> {
        ContainedBody::new(body, last, self.metrics.clone())
    }
}

/// One call, from its arrival to the last frame of its answer.
pub struct Inside {
    _token: TaskTrackerToken,
    _in_flight: InFlight,
    metrics: Arc<Metrics>,
    span: CallSpan,
    operation: Operation,
    began: Instant,
    outcome: Option<&'static str>,
    /// Its place among its tenant's calls.
    tenant: Option<TenantCall>,
}

impl Inside {
    /// Says how the call has ended, as metrics and traces name it. A call that is dropped before was left by its reader.
    pub fn ended(&mut self, outcome: &'static str) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or("CANCELLED");
        self.metrics.call(self.operation.name, outcome, self.began.elapsed());
        self.span.end(outcome);
    }
}
