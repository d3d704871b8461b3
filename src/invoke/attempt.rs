//! One attempt: one call of one member, from the pick to the last piece of its answer.

use super::{
    call::{Call, CallMode},
    engine::Engine,
    latencies::Latencies,
    lease_guard::LeaseGuard,
    reply::Reply,
};
use crate::{
    balance::{Cooldown, ErrorClass, Failure},
    catalog::{Catalog, Pool, PoolMember},
    state::Lease,
    telemetry::{AttemptFacts, AttemptSpan, Metrics, ModelLabels},
    wire::TokenUsage,
};
use futures::FutureExt;
use std::{mem, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// What an attempt holds, and who it tells what became of it. Dropping it releases the lease and counts the tokens used;
/// dropped before it has served or failed, its caller went away.
pub(super) struct Attempt {
    pool: Arc<Pool>,
    config_id: Arc<str>,
    mode: CallMode,
    call_began: Instant,
    call_deadline: Instant,
    began: Instant,
    /// When it must have been served. From then on, only the call's deadline ends it.
    end: Instant,
    served: bool,
    /// Whether its failure was noted.
    failed: bool,
    /// What the provider has told last: some tell with every piece what was used so far.
    usage: Option<TokenUsage>,
    /// None where the model is not balanced.
    lease: Option<LeaseGuard>,
    latencies: Arc<Latencies>,
    catalog: Catalog,
    metrics: Arc<Metrics>,
    model: ModelLabels,
    span: AttemptSpan,
}

impl Attempt {
    /// Begins the attempt of that number, from 1, at a member that was picked.
    pub(super) fn begin(
        engine: &Engine,
        call: &Call,
        mode: CallMode,
        number: usize,
        pool: &Arc<Pool>,
        member: &PoolMember,
        lease: Option<LeaseGuard>,
    ) -> Self {
        let began = Instant::now();
        let span = engine.traces.attempt(&AttemptFacts {
            tenant: &pool.key.tenant,
            provider: &pool.key.provider,
            kind: pool.kind.telemetry_name,
            model_type: pool.key.model_type.name(),
            model: &pool.key.model,
            upstream_model: &member.target.model,
            config_id: &member.id,
            config_name: &member.name,
            host: member.target.base_url.host_str(),
            port: member.target.base_url.port_or_known_default(),
            number,
            streamed: mode == CallMode::Streaming,
        });
        Self {
            pool: pool.clone(),
            config_id: member.id.clone(),
            mode,
            call_began: call.began,
            call_deadline: call.deadline,
            began,
            end: (began + mode.limit(&pool.policy.timeouts)).min(call.deadline),
            served: false,
            failed: false,
            usage: None,
            lease,
            latencies: engine.latencies.clone(),
            catalog: engine.catalog.clone(),
            metrics: engine.metrics.clone(),
            model: engine.model(pool),
            span,
        }
    }

    /// Does the provider's work of the attempt, within its limit.
    ///
    /// # Errors
    /// The failure of `work`, or a timeout.
    pub(super) fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> impl Future<Output = Result<T, Failure>> + Send {
        let late = |_| Err(Failure::new(ErrorClass::Timeout, "no answer in time"));
        timeout_at(self.end, self.span.run(work)).map(move |result| result.unwrap_or_else(late))
    }

    /// Since the attempt began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// How long the provider may pause between two pieces of its answer.
    pub(super) fn stream_idle(&self) -> Duration {
        self.pool.policy.timeouts.stream_idle
    }

    /// Whether the caller's deadline has ended it before its own limit did. That alone says nothing about the member.
    pub(super) fn is_cut_short(&self) -> bool {
        self.end == self.call_deadline && Instant::now() >= self.end
    }

    /// Whether its member is still configured. What is said of one that is gone would come back as its state.
    fn is_configured(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| self.catalog.has_member(&self.pool, lease.member()))
    }

    /// What it asks for when it is cut off: something only where the member had hung, and then no more than to be counted
    /// together with others. One caller may just have been impatient.
    fn cut(&self) -> Option<Cooldown> {
        let lease = self.lease.as_ref().filter(|_| !self.served && self.is_configured())?;
        let (pool, member) = (self.pool.roster.id, lease.member());
        let hung = self.latencies.has_hung(pool, self.mode, member, self.elapsed());
        hung.then(|| self.pool.policy.cooldowns.decide_cut(rand::random())).flatten()
    }

    /// Notes that the call is served: the whole answer has come, or its first content. Returns how long it took.
    pub(super) fn served(&mut self) -> Duration {
        let took = self.elapsed();
        self.metrics.attempt(&self.model, None, took);
        if let Some(lease) = &mut self.lease {
            lease.succeed();
        }
        if self.mode == CallMode::Streaming {
            self.span.first_content(took);
            self.metrics.first_content(&self.model, self.call_began.elapsed());
        }
        self.end = self.call_deadline;
        self.served = true;
        took
    }

    /// Notes what an answer, or a piece of one, tells about itself.
    pub(super) fn note(&mut self, reply: &impl Reply) {
        if let Some(model) = reply.model() {
            self.span.model(model);
        }
        if let Some(reason) = reply.finish_reason() {
            self.span.finished(reason);
        }
        let Some(usage) = reply.usage() else { return };
        self.span.used(usage.prompt, usage.completion);
        if let Some(lease) = &mut self.lease
            && usage.total > 0
        {
            lease.use_tokens(usage.total.into());
        }
        self.usage = Some(usage);
    }

    /// Notes that the attempt has failed: before it served, or in the middle of its answer. Unless it `cools`, the member
    /// goes unpunished. The failure is not written yet: the next `acquire` carries it, or
    /// [`write_failure`](Self::write_failure) writes it.
    ///
    /// Returns the cooldown that the failure asks for.
    pub(super) fn failed(&mut self, failure: &Failure, cools: bool) -> Option<Duration> {
        let class = failure.class.name();
        let cut_short = self.is_cut_short();
        self.failed = true;
        if !self.served {
            self.metrics.attempt(&self.model, Some(class), self.elapsed());
            if failure.is_refusal() {
                self.use_nothing();
            }
        }
        let cooldown = match cools {
            true if cut_short => self.cool_for(self.cut()),
            true => self.cool(failure),
            false => None,
        };
        tracing::debug!(
            tenant = self.pool.key.tenant,
            provider = self.pool.key.provider,
            model = self.pool.key.model,
            config = %self.config_id,
            class,
            status = failure.http_status,
            midstream = self.served,
            ?cooldown,
            "attempt failed"
        );
        mem::take(&mut self.span).failed(class, failure.http_status, cooldown);
        cooldown
    }

    /// Decides what a failure costs the member. Returns the cooldown that it asks for at once.
    pub(super) fn cool(&mut self, failure: &Failure) -> Option<Duration> {
        let cooldown = self.is_configured().then(|| self.pool.policy.cooldown(failure, rand::random()));
        self.cool_for(cooldown.flatten())
    }

    fn cool_for(&mut self, cooldown: Option<Cooldown>) -> Option<Duration> {
        let (lease, cooldown) = self.lease.as_mut().zip(cooldown)?;
        self.metrics.cooldown(&self.model, cooldown.class.name());
        let asked = asked_for(&cooldown);
        lease.fail_with(cooldown);
        asked
    }

    /// The request was refused or never sent: what was reserved is free again.
    pub(super) fn use_nothing(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.use_tokens(0);
        }
    }

    /// Ends a failed attempt whose member is tried again, and hands its hold on to the next.
    pub(super) fn hand_over(mut self) -> Option<LeaseGuard> {
        self.lease.take()
    }

    /// The failure that the next `acquire` has to carry.
    pub(super) fn failure(&self) -> Option<(&Lease, &Cooldown)> {
        self.lease.as_ref().and_then(LeaseGuard::failure)
    }

    /// Writes the failure when no `acquire` follows.
    pub(super) async fn write_failure(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.write_failure().await;
        }
    }

    /// The same without the failure that it has noted: it turned out to be the request's.
    pub(super) fn forgiven(mut self) -> Self {
        if let Some(lease) = &mut self.lease {
            lease.forgive();
        }
        self
    }

    /// Ends an attempt whose answer is complete.
    pub(super) fn finish(mut self) {
        mem::take(&mut self.span).served();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(usage) = self.usage {
            self.metrics.tokens(&self.model, usage.prompt, usage.completion);
        }
        // The caller went away: perhaps it has waited for long.
        if !self.failed
            && let Some(cooldown) = self.cut()
            && let Some(lease) = &self.lease
        {
            lease.fail_apart(cooldown);
        }
    }
}

/// What a cooldown asks for at once. One that takes several failures in a row has not asked for anything yet.
fn asked_for(cooldown: &Cooldown) -> Option<Duration> {
    (cooldown.trip_after <= 1).then_some(cooldown.duration)
}
