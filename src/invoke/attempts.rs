//! The attempt loop: pool after pool of the chain, member after member of a pool.

use super::{
    Call, CallError, Engine, Served, Setting, explain,
    held::Held,
    route::{Trail, asked_for},
};
use crate::{
    balance::{ErrorClass, Failure, LeaseId, Timeouts, WhenExhausted},
    catalog::{Pool, PoolMember},
    provider::{Driver, Target, connect_within},
    state::{Acquire, Acquired, Answer, StateStore},
    telemetry::{AttemptFacts, AttemptSpan, Model, Picked},
};
use futures::future::BoxFuture;
use std::{mem, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{Instrument, Span};

/// A trial that has not reported for this long is taken for lost, and another may go.
const MAX_TRIAL: Duration = Duration::from_secs(60);
/// How often a caller without an eligible member looks for the verdict of a trial: the pause grows between these.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(100);
/// Sent by Anthropic, and by others after it, when the whole provider is overloaded: another of its keys would not do
/// better.
const PROVIDER_OVERLOADED: u16 = 529;

/// An attempt that served, with what it still holds.
pub(super) struct Won<T> {
    pub(super) reply: T,
    pub(super) held: Option<Held>,
    pub(super) trail: Trail,
    pub(super) pool: Arc<Pool>,
    /// How metrics name the pool's model.
    pub(super) model: Model,
    pub(super) span: AttemptSpan,
}

/// Who of a pool comes next.
enum Next {
    /// This one.
    Member(usize, Option<Held>),
    /// None can; the first to come back, and what it waits for.
    Exhausted(Option<(Duration, ErrorClass)>),
}

/// What became of a pool.
#[expect(clippy::large_enum_variant, reason = "one a pool, and taken apart at once")]
enum Verdict<T> {
    Served(Won<T>),
    /// The next pool's turn; when the first of this one is back, where all are away.
    Over(Option<(Duration, ErrorClass)>),
}

/// One attempt, as the caller of the loop makes it.
pub(super) type TryOne<'a, T> =
    dyn Fn(&'a dyn Driver, &'a Target) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'a;

/// What kind of answer a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// All at once.
    Whole,
    /// In pieces, the first of which decides.
    Streamed,
    /// Whatever was asked for: only its head is waited for.
    Forwarded,
}

impl Shape {
    /// How long one attempt may take.
    fn limit(self, timeouts: &Timeouts) -> Duration {
        match self {
            Self::Whole | Self::Forwarded => timeouts.attempt,
            Self::Streamed => timeouts.first_token,
        }
    }
}

/// One call on its walk over the chain.
struct Walk<'a, T> {
    engine: &'a Engine,
    call: &'a Call,
    shape: Shape,
    attempt: &'a TryOne<'a, T>,
    /// How far it is, by pool.
    progress: Vec<Progress>,
    attempts: usize,
    trail: Trail,
}

/// How far a call is with one pool.
#[derive(Clone, Default)]
struct Progress {
    /// Whether the pool's retry budget knows of the call.
    counted: bool,
    /// Whether no more of its members are to be tried: the retry budget is spent, or too little time is left.
    spent: bool,
    /// Indices of the members tried.
    tried: Vec<usize>,
}

impl Engine {
    /// Tries until one serves.
    pub(super) async fn run<'a, T: Send>(
        &'a self,
        call: &'a Call,
        shape: Shape,
        attempt: &'a TryOne<'a, T>,
    ) -> Result<Won<T>, CallError> {
        let named = call.chain.first().ok_or(CallError::NoCredentials)?;
        if !named.enabled {
            return Err(CallError::Disabled);
        }
        let progress = vec![Progress::default(); call.chain.len()];
        let trail = Trail::new(named);
        Walk { engine: self, call, shape, attempt, progress, attempts: 0, trail }.go(named).await
    }
}

impl<'a, T: Send> Walk<'a, T> {
    async fn go(&mut self, named: &'a Pool) -> Result<Won<T>, CallError> {
        loop {
            let mut first_back: Option<(Duration, ErrorClass)> = None;
            for (place, pool) in self.call.chain.iter().enumerate() {
                match self.pool(place, pool).await? {
                    Verdict::Served(won) => return Ok(won),
                    Verdict::Over(Some(back)) if first_back.is_none_or(|first| back.0 < first.0) => {
                        first_back = Some(back);
                    }
                    Verdict::Over(_) => {}
                }
            }
            match first_back {
                Some((after, _))
                    if named.policy.when_exhausted == WhenExhausted::Wait
                        && self.someone_is_left()
                        && after < self.call.left() =>
                {
                    sleep_until(Instant::now() + after.max(FIRST_LOOK)).await;
                }
                None if self.attempts == 0 => {
                    return Err(unusable(named).unwrap_or_else(|| self.trail.exhausted(None)));
                }
                first_back => return Err(self.trail.exhausted(first_back)),
            }
        }
    }

    /// Whether waiting can bring a member that was not tried.
    fn someone_is_left(&self) -> bool {
        self.call.chain.iter().zip(&self.progress).any(|(pool, progress)| {
            unusable(pool).is_none() && !progress.spent && progress.tried.len() < pool.members.len()
        })
    }

    /// Whether no pool behind that one can be called.
    fn is_last(&self, place: usize) -> bool {
        self.call.chain.iter().skip(place + 1).all(|pool| unusable(pool).is_some())
    }

    /// Whether another member of the pool may be tried after a failure of that class.
    fn may_retry(&mut self, place: usize, pool: &Pool, class: ErrorClass) -> bool {
        let Some(progress) = self.progress.get_mut(place) else { return false };
        // Where nobody is left there will be no retry, and none is withdrawn.
        progress.spent = progress.tried.len() < pool.members.len()
            && (!self.engine.paces.allow(pool.roster.id, self.shape, self.call.left())
                || !self.engine.budgets.allows(pool.roster.id, class));
        !progress.spent
    }

    /// Tries the members of one pool.
    async fn pool(&mut self, place: usize, pool: &'a Arc<Pool>) -> Result<Verdict<T>, CallError> {
        let Some(progress) = self.progress.get_mut(place) else { return Ok(Verdict::Over(None)) };
        if unusable(pool).is_some() || progress.spent {
            return Ok(Verdict::Over(None));
        }
        if !mem::replace(&mut progress.counted, true) {
            self.engine.budgets.deposit(pool.roster.id);
        }
        let driver = self.engine.driver(pool)?;
        let limit = self.shape.limit(&pool.policy.timeouts);
        let connect = pool.policy.timeouts.connect;
        let last = self.is_last(place);
        let mut failed: Option<Held> = None;
        loop {
            let (index, mut held) = match self.next(place, pool, limit, &mut failed).await? {
                Next::Member(index, held) => (index, held),
                Next::Exhausted(back) => return Ok(Verdict::Over(back)),
            };
            let Some(member) = pool.members.get(index) else { return Ok(Verdict::Over(None)) };
            if let Some(progress) = self.progress.get_mut(place) {
                progress.tried.push(index);
            }
            self.attempts += 1;

            let (metrics, model) = (&self.engine.metrics, self.engine.named(pool));
            let began = Instant::now();
            let end = (began + limit).min(self.call.deadline);
            let span = self.engine.traces.attempt(&facts(pool, member, self.attempts, self.shape));
            let attempt = connect_within(connect, (self.attempt)(driver, &member.target));
            let failure = match timeout_at(end, span.run(attempt)).await {
                Ok(Ok(reply)) => {
                    let took = began.elapsed();
                    metrics.attempt(&model, None, took);
                    self.engine.paces.note(pool.roster.id, self.shape, took);
                    if let Some(held) = &mut held {
                        held.succeed();
                    }
                    self.trail.served(pool, member, took);
                    if self.shape == Shape::Streamed {
                        span.first_content(took);
                    }
                    let (trail, pool) = (mem::take(&mut self.trail), pool.clone());
                    return Ok(Verdict::Served(Won { reply, held, trail, pool, model, span }));
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(ErrorClass::Timeout, "no answer in time"),
            };

            // The caller's deadline says nothing about the member; the attempt's own limit does.
            let cut_short = end == self.call.deadline && Instant::now() >= end;
            let cooldown = match &held {
                Some(_) if !cut_short => pool.policy.cooldowns.decide(&failure, rand::random()),
                _ => None,
            };
            self.trail.failed(member, &failure, began.elapsed(), cooldown.as_ref());
            metrics.attempt(&model, Some(failure.class.name()), began.elapsed());
            if cooldown.is_some() {
                metrics.cooldown(&model, failure.class.name());
            }
            tracing::debug!(
                tenant = pool.key.tenant,
                provider = pool.key.provider,
                model = pool.key.model,
                config = %member.id,
                class = failure.class.name(),
                status = failure.http_status,
                cooldown = ?cooldown.as_ref().map(|cooldown| cooldown.duration),
                "attempt failed"
            );
            span.failed(failure.class.name(), failure.http_status, asked_for(cooldown.as_ref()));
            if let (Some(held), Some(cooldown)) = (&mut held, cooldown) {
                held.fail_with(cooldown);
            }
            let ends = cut_short
                || !failure.class.moves_on()
                || !(self.call.repeatable || failure.is_before_work())
                || (self.call.max_attempts > 0 && self.attempts >= self.call.max_attempts);
            let leaves = !pool.balanced || (failure.http_status == Some(PROVIDER_OVERLOADED) && !last);
            if ends || leaves || !self.may_retry(place, pool, failure.class) {
                if let Some(held) = &mut held {
                    held.write_failure().await;
                }
                if ends {
                    return Err(self.trail.failed_with(failure, None));
                }
                self.trail.remember(failure);
                return Ok(Verdict::Over(None));
            }
            self.trail.remember(failure);
            failed = held;
        }
    }

    /// Asks the state store who comes next, and tells it of the attempt before. Waits for a trial where nothing else
    /// can serve.
    async fn next(
        &mut self,
        place: usize,
        pool: &Arc<Pool>,
        limit: Duration,
        failed: &mut Option<Held>,
    ) -> Result<Next, CallError> {
        let tried = self.progress.get(place).map(|progress| progress.tried.as_slice()).unwrap_or_default();
        if !pool.balanced {
            return Ok(if tried.is_empty() { Next::Member(0, None) } else { Next::Exhausted(None) });
        }
        let last = self.is_last(place);
        let state = &self.engine.state;
        let mut look = FIRST_LOOK;
        let mut traced = self.engine.traces.pick();
        loop {
            let ask = Acquire {
                pool: &pool.roster,
                tried,
                failed: failed.as_ref().and_then(Held::failure),
                lease: LeaseId::random(),
                trial_ttl: limit.min(self.call.left()).min(MAX_TRIAL),
                tokens: self.call.tokens,
                hold: None,
            };
            let span = if tracing::enabled!(tracing::Level::DEBUG) {
                Box::pin(pick_span(pool, state.as_ref(), tried)).await
            } else {
                Span::none()
            };
            let began = Instant::now();
            let Answer { acquired, degraded } =
                traced.run(state.acquire(&ask).instrument(span.clone())).await;
            self.engine.metrics.pick(how(&acquired), began.elapsed());
            traced.decided(how(&acquired).name(), granted(pool, &acquired), degraded);
            tracing::debug!(parent: &span, picked = picked(pool, &acquired), "asked who serves");
            *failed = None;
            self.trail.decided(degraded);
            match acquired {
                Acquired::Granted { index, lease } => {
                    return Ok(Next::Member(index, Some(Held::new(state.clone(), lease))));
                }
                // Another model may serve at once.
                Acquired::TrialRunning if !last => return Ok(Next::Exhausted(None)),
                Acquired::TrialRunning if self.call.left() > look => {
                    sleep_until((Instant::now() + look).min(self.call.deadline)).await;
                    look = (look * 2).min(LAST_LOOK);
                }
                Acquired::TrialRunning => return Ok(Next::Exhausted(Some((look, ErrorClass::Timeout)))),
                Acquired::Exhausted { first_back } => return Ok(Next::Exhausted(first_back)),
            }
        }
    }
}

impl<T> Won<T> {
    /// Settles the tokens that were reserved.
    pub(super) fn used(&mut self, tokens: u32) {
        if let Some(held) = &mut self.held
            && tokens > 0
        {
            held.used(tokens.into());
        }
    }

    pub(super) fn served(self, call: &Call) -> Served<T> {
        self.span.served();
        Served { reply: self.reply, route: self.trail.into_route(), latency: call.began.elapsed() }
    }
}

/// The span of a pick, which says of each member why it would or would not serve, as Explain does. Costs a look at the
/// state, so it is for debugging alone.
async fn pick_span(pool: &Pool, state: &dyn StateStore, tried: &[usize]) -> Span {
    let seen = state.inspect(&pool.roster).await;
    let settings: Vec<_> =
        (0..pool.members.len()).map(|index| Setting::usable(tried.contains(&index))).collect();
    let (explained, _) = explain(&pool.roster, &settings, &seen);
    let reasons =
        pool.members.iter().zip(explained).map(|(member, one)| format!("{}: {}", member.name, one.reason));
    tracing::debug_span!(
        "pick",
        tenant = pool.key.tenant,
        provider = pool.key.provider,
        model = pool.key.model,
        candidates = reasons.collect::<Vec<_>>().join("; "),
    )
}

/// How a pick went, for metrics and traces.
pub(super) fn how(acquired: &Acquired) -> Picked {
    match acquired {
        Acquired::Granted { .. } => Picked::Granted,
        Acquired::TrialRunning => Picked::TrialRunning,
        Acquired::Exhausted { .. } => Picked::Exhausted,
    }
}

/// Whom a pick has found, by id and name.
pub(super) fn granted<'p>(pool: &'p Pool, acquired: &Acquired) -> Option<(&'p str, &'p str)> {
    let Acquired::Granted { index, .. } = acquired else { return None };
    pool.members.get(*index).map(|member| (&*member.id, &*member.name))
}

/// What the span of an attempt tells of it.
fn facts<'p>(pool: &'p Pool, member: &'p PoolMember, number: usize, shape: Shape) -> AttemptFacts<'p> {
    AttemptFacts {
        tenant: &pool.key.tenant,
        provider: &pool.key.provider,
        kind: pool.kind.name,
        model_type: pool.key.model_type.name(),
        model: &pool.key.model,
        upstream_model: &member.target.model,
        config_id: &member.id,
        config_name: &member.name,
        host: member.target.base_url.host_str(),
        port: member.target.base_url.port_or_known_default(),
        number,
        streamed: shape == Shape::Streamed,
    }
}

/// Whom a pick has found, for the log.
fn picked<'p>(pool: &'p Pool, acquired: &Acquired) -> &'p str {
    match acquired {
        Acquired::Granted { index, .. } => pool.members.get(*index).map_or("", |member| &member.name),
        Acquired::TrialRunning => "nobody: a trial is on its way",
        Acquired::Exhausted { .. } => "nobody",
    }
}

/// Why a pool cannot be called at all.
pub(super) fn unusable(pool: &Pool) -> Option<CallError> {
    if !pool.enabled {
        Some(CallError::Disabled)
    } else if !pool.members.is_empty() {
        None
    } else if pool.unreadable {
        Some(CallError::Unreadable)
    } else {
        Some(CallError::NoCredentials)
    }
}
