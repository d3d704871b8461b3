//! The engine: makes one call out of as many attempts as it takes.
//!
//! Each member of the pool is tried at most once, then those of the fallback models, all within one deadline and one
//! bound on attempts. A failure that is the member's moves on; one that is the request's ends the call. A failure is
//! written to the state store before the next attempt or before the answer, so that the next caller cannot be given a
//! key that has just failed. Dropping a call drops the upstream request and gives back what it held.
//!
//! When Redis is away, calls go on: the state store answers from what this replica knows, and the route says so.

mod attempts;
mod budget;
mod bulk;
mod count;
mod explain;
mod forward;
mod held;
mod lease;
mod pace;
mod route;
mod stream;

pub use budget::RetryBudget;
pub use explain::{Explained, Reason, Setting, explain};
pub use forward::ForwardAnswer;
pub use lease::{Granted, LEASE_TTL, Report};
pub use route::{Attempt, Route};
pub use stream::{StreamEvent, Streamed};

use crate::{
    balance::{ErrorClass, Failure},
    catalog::{Catalog, ModelKey, Pool},
    provider::{
        ChatEvent, ChatReply, ChatRequest, Driver, Drivers, ModerationReply, RerankReply, RerankRequest,
        SpeechReply, SpeechRequest, SpokenRequest, Target, TokenUsage, Voice,
    },
    state::StateStore,
    telemetry::{AttemptSpan, Metrics, Model, ModelNames, Traces},
};
use attempts::{Shape, TryOne};
use budget::Budgets;
use bytes::Bytes;
use pace::Paces;
use std::{sync::Arc, time::Duration};
use stream::Opened;
use tokio::time::Instant;

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
    drivers: Drivers,
    budgets: Budgets,
    paces: Paces,
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl Engine {
    /// An engine on that catalog, that state and those drivers, which counts in those metrics and tells those traces.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        state: Arc<dyn StateStore>,
        drivers: Drivers,
        budget: RetryBudget,
        metrics: Arc<Metrics>,
        traces: Traces,
    ) -> Self {
        let budgets = Budgets::new(budget);
        Self { catalog, state, drivers, budgets, paces: Paces::default(), metrics, traces }
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
        let tell = |reply: &ChatReply, span: &mut AttemptSpan| {
            span.model(&reply.model);
            span.finished(&reply.finish_reason);
            reply.usage
        };
        self.whole(call, tell, &move |driver, target| driver.chat(target, request)).await
    }

    /// Judges a text.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn moderate(&self, call: &Call, text: &str) -> Result<Served<ModerationReply>, CallError> {
        self.whole(call, |_, _| TokenUsage::default(), &move |driver, target| driver.moderate(target, text))
            .await
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
        let unknown = |_: &SpeechReply, _: &mut AttemptSpan| TokenUsage::default();
        self.whole(call, unknown, &move |driver, target| driver.transcribe(target, request)).await
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
        self.whole(call, |reply, _| reply.usage, &move |driver, target| driver.rerank(target, request)).await
    }

    /// A call that is answered at once. `tell` reads from a reply what it used, nothing where that is not told, and tells
    /// the span what else is known.
    async fn whole<'a, T: Send>(
        &'a self,
        call: &'a Call,
        tell: fn(&T, &mut AttemptSpan) -> TokenUsage,
        attempt: &'a TryOne<'a, T>,
    ) -> Result<Served<T>, CallError> {
        let mut won = self.run(call, Shape::Whole, attempt).await?;
        let usage = tell(&won.reply, &mut won.span);
        won.used(usage.total);
        won.span.used(usage.prompt, usage.completion);
        self.metrics.tokens(&won.model, usage.prompt, usage.completion);
        Ok(won.served(call))
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
        self.streamed(call, &|driver, target| Box::pin(open(driver, target))).await
    }

    /// Reads a text aloud. Returns at the first audio; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn speak(&self, call: &Call, request: &SpokenRequest) -> Result<Streamed<Bytes>, CallError> {
        let open = async |driver: &dyn Driver, target: &Target| {
            Opened::at_content(driver.speak(target, request).await?).await
        };
        self.streamed(call, &|driver, target| Box::pin(open(driver, target))).await
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
    async fn streamed<'a, E: StreamEvent>(
        &'a self,
        call: &'a Call,
        open: &'a TryOne<'a, Opened<E>>,
    ) -> Result<Streamed<E>, CallError> {
        let won = self.run(call, Shape::Streamed, open).await?;
        self.metrics.first_content(&won.model, call.began.elapsed());
        Ok(Streamed::new(won, call, self.metrics.clone()))
    }

    fn driver(&self, pool: &Pool) -> Result<&dyn Driver, CallError> {
        self.drivers.get(pool.kind.name).ok_or(CallError::Unsupported(pool.kind.name))
    }

    /// How metrics name the pool's model.
    fn named(&self, pool: &Pool) -> Model {
        self.metrics.model(pool.roster.id, || ModelNames {
            tenant: pool.key.tenant.clone(),
            provider: pool.key.provider.clone(),
            kind: pool.kind.name,
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
