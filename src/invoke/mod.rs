//! The engine: makes one call out of as many attempts as it takes.
//!
//! Each member of the pool is tried at most once. A failure that is the member's moves on; one that is the request's
//! ends the call. A failure is written to the state store before the next attempt or before the answer, so that the
//! next caller cannot be given a key that has just failed. Dropping a call drops the upstream request and gives back
//! what it held.
//!
//! When the state store is gone, balanced calls fail with [`CallError::State`]; those of models without balancing do
//! not need it.

mod held;
mod route;
mod stream;

pub use route::{Attempt, Route};
pub use stream::LlmStream;

use crate::{
    balance::{Cooldowns, ErrorClass, Failure, LeaseId},
    catalog::Pool,
    provider::{ChatReply, ChatRequest, Driver, Drivers, EmbeddingReply, EmbeddingRequest, Target},
    state::{Acquire, Acquired, StateError, StateStore},
};
use futures::future::BoxFuture;
use held::Held;
use route::Trail;
use std::{sync::Arc, time::Duration};
use stream::Opened;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long the parts of a call may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// One attempt, of a call that is not streamed.
    pub attempt: Duration,
    /// Until the first content of a stream.
    pub first_token: Duration,
    /// Between two events of a stream.
    pub stream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            attempt: Duration::from_mins(5),
            first_token: Duration::from_mins(1),
            stream_idle: Duration::from_mins(1),
        }
    }
}

/// A trial that has not reported for this long is taken for lost, and another may go.
const MAX_TRIAL: Duration = Duration::from_mins(1);
/// How often a caller without an eligible member looks for the verdict of a trial: the pause grows between these.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// One call to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The model, as it was configured when the call came.
    pub pool: Arc<Pool>,
    /// When the call came.
    pub began: Instant,
    /// When the answer must be on its way, whatever it is.
    pub deadline: Instant,
    /// At most this many attempts; 0: as many as there are members.
    pub max_attempts: usize,
}

/// A call that was served.
#[derive(Debug)]
pub struct Served<T> {
    /// The provider's answer.
    pub reply: T,
    /// The way it took.
    pub route: Route,
    /// From [`Call::began`] until now.
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
    /// The state store cannot be reached.
    #[error(transparent)]
    State(#[from] StateError),
}

/// See the module's documentation.
pub struct Engine {
    state: Arc<dyn StateStore>,
    drivers: Drivers,
    cooldowns: Cooldowns,
    timeouts: Timeouts,
}

/// An attempt that served, with what it still holds.
struct Won<T> {
    reply: T,
    held: Option<Held>,
    trail: Trail,
}

impl Engine {
    /// An engine on that state and those drivers.
    pub fn new(state: Arc<dyn StateStore>, drivers: Drivers, timeouts: Timeouts) -> Self {
        Self { state, drivers, cooldowns: Cooldowns::default(), timeouts }
    }

    /// One chat completion.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat(&self, call: &Call, request: &ChatRequest) -> Result<Served<ChatReply>, CallError> {
        let won =
            self.run(call, self.timeouts.attempt, |driver, target| driver.chat(target, request)).await?;
        Ok(won.served(call))
    }

    /// Embeds texts.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn embed(
        &self,
        call: &Call,
        request: &EmbeddingRequest,
    ) -> Result<Served<EmbeddingReply>, CallError> {
        let won =
            self.run(call, self.timeouts.attempt, |driver, target| driver.embed(target, request)).await?;
        Ok(won.served(call))
    }

    /// One streamed chat completion. Returns at the first content; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat_stream(&self, call: &Call, request: &ChatRequest) -> Result<LlmStream, CallError> {
        let won = self
            .run(call, self.timeouts.first_token, |driver, target| {
                Box::pin(Opened::open(driver, target, request))
            })
            .await?;
        Ok(LlmStream::new(won, call, self.timeouts.stream_idle, self.cooldowns.clone()))
    }

    /// The attempt loop. `limit` bounds one attempt.
    async fn run<'a, T: Send>(
        &'a self,
        call: &'a Call,
        limit: Duration,
        attempt: impl Fn(&'a dyn Driver, &'a Target) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync,
    ) -> Result<Won<T>, CallError> {
        let pool = &*call.pool;
        if !pool.enabled {
            return Err(CallError::Disabled);
        }
        let driver = self.drivers.get(pool.kind.name).ok_or(CallError::Unsupported(pool.kind.name))?;
        if pool.members.is_empty() {
            return Err(if pool.unreadable { CallError::Unreadable } else { CallError::NoCredentials });
        }
        let mut trail = Trail::new(pool);
        let mut tried = Vec::new();
        let mut failed: Option<Held> = None;
        let mut look = FIRST_LOOK;
        loop {
            let (index, mut held) = if pool.balanced {
                let failure = failed.as_ref().and_then(Held::failure);
                let ask = Acquire {
                    pool: &pool.roster,
                    tried: &tried,
                    failed: failure,
                    lease: LeaseId::random(),
                    trial_ttl: limit.min(call.left()).min(MAX_TRIAL),
                    tokens: 0,
                    hold: None,
                };
                let acquired = match self.state.acquire(&ask).await {
                    Ok(acquired) => acquired,
                    Err(error) => return Err(trail.without_state(error)),
                };
                failed = None;
                match acquired {
                    Acquired::Granted { index, lease } => (index, Some(Held::new(self.state.clone(), lease))),
                    Acquired::TrialRunning if call.left() > look => {
                        sleep_until((Instant::now() + look).min(call.deadline)).await;
                        look = (look * 2).min(LAST_LOOK);
                        continue;
                    }
                    Acquired::TrialRunning => return Err(trail.exhausted(Some((look, ErrorClass::Timeout)))),
                    Acquired::Exhausted { first_back } => return Err(trail.exhausted(first_back)),
                }
            } else {
                (0, None)
            };
            let Some(member) = pool.members.get(index) else { return Err(trail.exhausted(None)) };
            tried.push(index);

            let began = Instant::now();
            let end = (began + limit).min(call.deadline);
            let outcome = timeout_at(end, attempt(driver, &member.target)).await;
            let failure = match outcome {
                Ok(Ok(reply)) => {
                    if let Some(held) = &mut held {
                        held.succeed();
                    }
                    trail.served(member, began.elapsed());
                    return Ok(Won { reply, held, trail });
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(ErrorClass::Timeout, "no answer in time"),
            };

            // The caller's deadline says nothing about the member; the attempt's own limit does.
            let cut_short = end == call.deadline && Instant::now() >= end;
            let cooldown = if cut_short || !pool.balanced {
                None
            } else {
                self.cooldowns.decide(&failure, rand::random())
            };
            trail.failed(member, &failure, began.elapsed(), cooldown.as_ref());
            tracing::debug!(
                tenant = pool.key.tenant, provider = pool.key.provider, model = pool.key.model,
                config = %member.id, class = failure.class.name(), status = failure.http_status,
                cooldown = ?cooldown.as_ref().map(|cooldown| cooldown.duration), "attempt failed"
            );
            let Some(mut held) = held else { return Err(trail.failed_with(failure, None)) };
            let attempts_left = call.max_attempts == 0 || tried.len() < call.max_attempts;
            if let Some(cooldown) = cooldown {
                held.fail_with(cooldown);
                if !attempts_left {
                    held.write_failure().await;
                }
            }
            if cut_short || !failure.class.moves_on() || !attempts_left {
                return Err(trail.failed_with(failure, None));
            }
            trail.remember(failure);
            failed = Some(held);
        }
    }
}

impl Call {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl<T> Won<T> {
    fn served(self, call: &Call) -> Served<T> {
        Served { reply: self.reply, route: self.trail.into_route(), latency: call.began.elapsed() }
    }
}
