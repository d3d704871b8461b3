//! The engine: makes one call out of as many attempts as it takes.
//!
//! It tries each member of the pool at most once, then the members of the fallback models, within one deadline and one
//! bound on attempts. A failure of the member moves the call on; a failure of the request ends it. A failure is written to
//! the state store before the next attempt or before the answer, so the next caller cannot get a key that has just failed.
//! Dropping a call drops the upstream request and releases the lease.
//!
//! `walk` goes over the pools and their members, `pick` asks for a member and waits for one, and `attempt` measures one
//! request and reports what became of it.
//!
//! When Redis is away, calls go on: the state store answers from what this replica knows, and the route says so.

mod attempt;
mod budget;
mod bulk;
mod count;
mod explain;
mod forward;
mod lease;
mod lease_guard;
mod min_latency;
mod pick;
mod reply;
mod route;
mod stream;
mod walk;

pub use budget::RetryBudget;
pub use explain::{ExplainInput, Explanation, Reason, explain};
pub use forward::ForwardAnswer;
pub use lease::{ClientLease, LEASE_TTL, LeaseReport};
pub use reply::{Reply, StreamEvent};
pub use route::{AttemptReport, Route};
pub use stream::Streamed;

use crate::{
    balance::{ErrorClass, Failure},
    catalog::{Catalog, ModelKey, Pool},
    provider::{Driver, Registry, Target},
    state::StateStore,
    telemetry::{Metrics, ModelLabels, ModelNames, Traces},
    wire::{
        ChatEvent, ChatReply, ChatRequest, ModerationReply, RerankReply, RerankRequest, SpeechReply,
        SpeechRequest, SpokenRequest, Voice,
    },
};
use attempt::CallMode;
use budget::RetryBudgets;
use bytes::Bytes;
use min_latency::MinLatencies;
use std::{sync::Arc, time::Duration};
use stream::Opened;
use tokio::time::Instant;
use walk::{ProviderRequest, Success};

/// One call to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The model and its fallbacks, in the order they are tried, as they were configured when the call came.
    chain: Vec<Arc<Pool>>,
    /// When the call came.
    began: Instant,
    /// When the answer must be on its way, whatever it is.
    deadline: Instant,
    /// At most this many attempts; 0: each usable config once.
    max_attempts: usize,
    /// About how many tokens it will use, for members that have a limit.
    tokens: u64,
    /// Whether it may be carried out twice. If not, only what a provider has certainly not carried out is tried again.
    repeatable: bool,
}

/// How to make a call.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// When the call came.
    pub began: Instant,
    /// When the answer must be on its way.
    pub deadline: Instant,
    /// At most this many attempts; 0: as the model's policy says.
    pub max_attempts: usize,
    /// Whether other models may serve.
    pub fallback: bool,
    /// About how many tokens it will use.
    pub tokens: u64,
}

/// A call that was served.
#[derive(Debug)]
pub struct Served<T> {
    /// The provider's answer.
    pub reply: T,
    /// The way it took.
    pub route: Route,
    /// From the call's arrival until now.
    pub latency: Duration,
}

/// Why a call was not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The model or its provider is disabled.
    #[error("the model is disabled")]
    Disabled,
    /// There is nothing to call with.
    #[error("no credential is configured for the model")]
    NoCredentials,
    /// There is, but it cannot be decrypted.
    #[error("the model's credential cannot be read")]
    Unreadable,
    /// The kind of provider does not do this.
    #[error("providers of kind {0} cannot do this")]
    Unsupported(&'static str),
    /// Nothing may serve now, and nothing was tried.
    #[error("all configs of the model are cooling down")]
    AllCooling {
        /// Until the first is back.
        retry_after: Duration,
        /// What that one waits for.
        class: ErrorClass,
    },
    /// Everything that could be tried has failed, or the request itself was refused.
    #[error("{}: {}", failure.class.name(), failure.message)]
    Upstream {
        /// The last failure.
        failure: Failure,
        /// Every attempt.
        route: Route,
        /// Until the first is back, where all are cooling.
        retry_after: Option<Duration>,
    },
}

/// See the module's documentation.
pub struct Engine {
    catalog: Catalog,
    state: Arc<dyn StateStore>,
    drivers: Registry,
    budgets: RetryBudgets,
    latencies: MinLatencies,
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl Engine {
    /// An engine on that catalog, that state and those drivers, which counts in those metrics and tells those traces.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        state: Arc<dyn StateStore>,
        drivers: Registry,
        budget: RetryBudget,
        metrics: Arc<Metrics>,
        traces: Traces,
    ) -> Self {
        let budgets = RetryBudgets::new(budget);
        Self { catalog, state, drivers, budgets, latencies: MinLatencies::default(), metrics, traces }
    }

    /// The state that calls are balanced by.
    #[must_use]
    pub fn state(&self) -> &dyn StateStore {
        self.state.as_ref()
    }

    /// A call of that model, with its fallbacks looked up.
    #[must_use]
    pub fn call(&self, pool: Arc<Pool>, options: CallOptions) -> Call {
        let policy = usize::try_from(pool.policy.max_attempts).unwrap_or(usize::MAX);
        let max_attempts = match (options.max_attempts, policy) {
            (0, bound) | (bound, 0) => bound,
            (one, other) => one.min(other),
        };
        let total = pool.policy.timeouts.total.map_or(options.deadline, |total| options.began + total);
        let deadline = options.deadline.min(total);
        let mut chain = vec![pool];
        if options.fallback {
            self.append_fallbacks(&mut chain, 0);
        }
        Call { chain, began: options.began, deadline, max_attempts, tokens: options.tokens, repeatable: true }
    }

    /// Adds the fallbacks of the pool at `at`, each followed by its own: the nearer a model stands to the one that was
    /// named, the earlier it is tried. Saving refuses cycles; a model that two others fall back to is tried once.
    fn append_fallbacks(&self, chain: &mut Vec<Arc<Pool>>, at: usize) {
        let fallbacks: Vec<ModelKey> = chain.get(at).map(|pool| pool.fallbacks.clone()).unwrap_or_default();
        for key in fallbacks {
            if chain.iter().any(|known| known.key == key) {
                continue;
            }
            if let Some(pool) = self.catalog.pool(&key) {
                chain.push(pool);
                self.append_fallbacks(chain, chain.len() - 1);
            }
        }
    }

    /// One chat completion.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat(&self, call: &Call, request: &ChatRequest) -> Result<Served<ChatReply>, CallError> {
        self.unary(call, &move |driver, target| driver.chat(target, request)).await
    }

    /// Judges a text.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn moderate(&self, call: &Call, text: &str) -> Result<Served<ModerationReply>, CallError> {
        self.unary(call, &move |driver, target| driver.moderate(target, text)).await
    }

    /// Writes a recording down.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn transcribe(
        &self,
        call: &Call,
        request: &SpeechRequest,
    ) -> Result<Served<SpeechReply>, CallError> {
        self.unary(call, &move |driver, target| driver.transcribe(target, request)).await
    }

    /// Puts documents in order.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn rerank(
        &self,
        call: &Call,
        request: &RerankRequest,
    ) -> Result<Served<RerankReply>, CallError> {
        self.unary(call, &move |driver, target| driver.rerank(target, request)).await
    }

    /// A call whose answer comes all at once.
    async fn unary<'a, T: Reply>(
        &'a self,
        call: &'a Call,
        request: &'a ProviderRequest<'a, T>,
    ) -> Result<Served<T>, CallError> {
        let Success { reply, mut attempt, route } = self.run(call, CallMode::Unary, request).await?;
        attempt.note(&reply);
        attempt.finish();
        Ok(Served { reply, route, latency: call.began.elapsed() })
    }

    /// One streamed chat completion. Returns at the first content; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat_stream(
        &self,
        call: &Call,
        request: &ChatRequest,
    ) -> Result<Streamed<ChatEvent>, CallError> {
        let open = async |driver: &dyn Driver, target: &Target| {
            Opened::at_content(driver.chat_stream(target, request).await?).await
        };
        self.streaming(call, &|driver, target| Box::pin(open(driver, target))).await
    }

    /// Reads a text aloud. Returns at the first audio; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn speak(&self, call: &Call, request: &SpokenRequest) -> Result<Streamed<Bytes>, CallError> {
        let open = async |driver: &dyn Driver, target: &Target| {
            Opened::at_content(driver.speak(target, request).await?).await
        };
        self.streaming(call, &|driver, target| Box::pin(open(driver, target))).await
    }

    /// The voices that can read aloud.
    ///
    /// # Errors
    /// [`CallError::Disabled`].
    pub fn voices(&self, call: &Call) -> Result<&'static [Voice], CallError> {
        let pool = call.chain.first().filter(|pool| pool.enabled).ok_or(CallError::Disabled)?;
        Ok(self.driver(pool)?.voices())
    }

    /// A call whose answer is streamed.
    async fn streaming<'a, E: StreamEvent>(
        &'a self,
        call: &'a Call,
        request: &'a ProviderRequest<'a, Opened<E>>,
    ) -> Result<Streamed<E>, CallError> {
        let Success { reply, attempt, route } = self.run(call, CallMode::Streaming, request).await?;
        let idle = attempt.stream_idle();
        Ok(Streamed::new(reply, Some(attempt), route, idle, call))
    }

    fn driver(&self, pool: &Pool) -> Result<&dyn Driver, CallError> {
        self.drivers.get(pool.kind.name).ok_or(CallError::Unsupported(pool.kind.name))
    }

    /// How metrics name the pool's model.
    fn model(&self, pool: &Pool) -> ModelLabels {
        self.metrics.model(pool.roster.id, || ModelNames {
            tenant: pool.key.tenant.clone(),
            provider: pool.key.provider.clone(),
            kind: pool.kind.telemetry_name,
            model_type: pool.key.model_type.name(),
            model: pool.key.model.clone(),
        })
    }
}

impl Call {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
