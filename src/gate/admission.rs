//! The gate itself: a token, a role, limits, and a count of what is inside.
//!
//! Once the gate is closed, new calls are turned away, and the calls inside are waited for. When there are as many calls
//! inside as there may be, new ones are turned away before their request is read. While the database is away, tokens that
//! were seen before still open the gate. Tokens that were not are looked up by few at a time, so that whoever makes tokens up
//! leaves the database to others.

use super::{
    access::Operation,
    drain::Drain,
    panics::{ContainedBody, LastFrame, contained},
    peer::Peer,
    refusal::Refusal,
    tenant_limits::{CallLimits, PartysCall, TenantLimits},
};
use crate::{
    catalog::{Caller, Catalog, Recognised},
    telemetry::{CallSpan, InFlight, Metrics, Shed, Traces},
};
use http::HeaderMap;
use http_body::Body;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How many tokens are looked up in the database at once.
const LOOK_UPS: usize = 4;
/// How many more may wait for that.
const WAITING: usize = 1024;

/// See the module's documentation. Clones share all their state.
#[derive(Clone)]
pub struct Gate {
    catalog: Catalog,
    drain: Drain,
    limits: CallLimits,
    tenants: Arc<TenantLimits>,
    look_ups: Arc<LookUps>,
    metrics: Arc<Metrics>,
    traces: Traces,
}

/// Those who look up a token.
struct LookUps {
    turns: Semaphore,
    there: AtomicUsize,
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
        let look_ups = Arc::new(LookUps { turns: Semaphore::new(LOOK_UPS), there: AtomicUsize::new(0) });
        Self { catalog, drain, limits, tenants, look_ups, metrics, traces }
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
        }
    }

    /// Says who makes the call, by the secret of its token, and counts the call among its party's.
    ///
    /// # Errors
    /// Where the call is turned away.
    pub async fn admit(
        &self,
        inside: &mut Inside,
        peer: &Peer,
        token: Option<&str>,
    ) -> Result<(Arc<Caller>, PartysCall), Refusal> {
        if self.drain.closed.is_cancelled() {
            return Err(Refusal::Draining);
        }
        let caller = match token.map(|secret| self.catalog.authenticate_here(secret)) {
            None => None,
            Some(Recognised::As(caller)) => caller,
            Some(Recognised::NotYet(hash)) => self.look_up(hash).await?,
        };
        let caller = caller.ok_or(Refusal::TokenInvalid)?;
        let tenant = caller.tenant.as_deref();
        peer.has_shown_token(|| self.tenants.connect(tenant));
        if !inside.operation.access.allows(caller.role) {
            return Err(Refusal::RoleNotAllowed);
        }
        // An operator belongs to no tenant: the one that its request names is not known before the request is read.
        let counted = self.noted(self.tenants.enter(tenant))?;
        if let Some(tenant) = tenant {
            inside.span.of_tenant(tenant);
        }
        Ok((caller, counted))
    }

    /// Asks the database for a token, when it is this one's turn.
    async fn look_up(&self, hash: [u8; 32]) -> Result<Option<Arc<Caller>>, Refusal> {
        let there = Waiting::new(&self.look_ups.there);
        if there.before >= LOOK_UPS + WAITING {
            return self.noted(Err(Refusal::Overloaded));
        }
        let _turn = self.look_ups.turns.acquire().await;
        Ok(self.catalog.look_up_token(hash).await?)
    }

    /// Counts that the request of the call takes so many bytes now, until the call ends.
    ///
    /// # Errors
    /// Where that is too much, of its tenant or in all.
    pub fn hold(&self, call: &mut PartysCall, bytes: usize) -> Result<(), Refusal> {
        self.noted(call.hold(bytes))
    }

    /// Counts a refusal that is due to a limit.
    fn noted<T>(&self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        outcome.inspect_err(|refusal| match refusal {
            Refusal::TenantRate { .. } => self.metrics.shed(Shed::TenantRate),
            Refusal::TenantCalls { .. } => self.metrics.shed(Shed::TenantCalls),
            Refusal::TenantBytes { .. } => self.metrics.shed(Shed::TenantBytes),
            _ => self.metrics.shed(Shed::Overloaded),
        })
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

    /// How long a whole request may take to come.
    #[must_use]
    pub fn receive_timeout(&self) -> Duration {
        self.limits.receive_timeout
    }

    /// More than the requests of one party may take together, in bytes.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        self.limits.request_bytes.most.saturating_mul(2)
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

/// Counts one who waits, until it is dropped.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        Self { before: all.fetch_add(1, Relaxed), all }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
    }
}
