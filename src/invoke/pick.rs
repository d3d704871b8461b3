//! Picking a member: asks the state store who serves next, and waits where a member will be free soon.

use super::{
    attempt::Attempt,
    engine::Engine,
    explain::{ExplainInput, explain},
};
use crate::{
    balance::{ErrorClass, LeaseId, WhenExhausted},
    catalog::Pool,
    state::{Acquire, Acquired, Lease, StateStore},
    telemetry::PickOutcome,
};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{Instrument, Level, Span};

/// A trial that has not reported for this long is taken for lost, and another may go.
const MAX_TRIAL: Duration = Duration::from_secs(60);
/// How often a caller without an eligible member looks for the verdict of a trial: the pause doubles between these.
const MIN_POLL: Duration = Duration::from_millis(5);
const MAX_POLL: Duration = Duration::from_millis(100);

/// When the first member of a pool may serve again, and why it may not now.
pub(super) type FirstBack = (Duration, ErrorClass);

/// What a pick is asked for.
pub(super) struct PickRequest<'a> {
    /// The pool to pick from.
    pub(super) pool: &'a Arc<Pool>,
    /// Indices of members that must not be picked.
    pub(super) tried: &'a [usize],
    /// About how many tokens the call will use.
    pub(super) tokens: u64,
    /// When waiting must end.
    pub(super) deadline: Instant,
    /// How long the member is held.
    pub(super) lifetime: LeaseLifetime,
    /// Whether the call can go to no other pool. Then it waits for the verdict of a trial when nobody else may serve, may
    /// join the trial, and may be one of the pool's last resort.
    pub(super) is_last: bool,
}

/// How long a picked member is held.
#[derive(Clone, Copy)]
pub(super) enum LeaseLifetime {
    /// For one attempt of this replica, which may take this long.
    Attempt(Duration),
    /// For a client that calls by itself: the lease expires after this long, unless it is renewed.
    Expiring(Duration),
}

/// What a pick has come to.
pub(super) struct Picked {
    /// The member's index, and the lease on it, which an unbalanced pool does not have; otherwise when the first is back,
    /// where that is known.
    pub(super) member: Result<(usize, Option<Lease>), Option<FirstBack>>,
    /// Whether this replica decided alone.
    pub(super) degraded: bool,
}

impl Engine {
    /// Picks a member. Where nobody may serve but a trial is on its way, it waits for its verdict. The first question
    /// carries the failure of the attempt before; when it is answered, that attempt is over.
    pub(super) async fn wait_for_member(
        &self,
        request: &PickRequest<'_>,
        mut failed: Option<Box<Attempt>>,
    ) -> Picked {
        let pool = request.pool;
        if !pool.balanced {
            let member = if request.tried.is_empty() { Ok((0, None)) } else { Err(None) };
            return Picked { member, degraded: false };
        }
        let mut span = self.traces.pick();
        let mut degraded = false;
        let mut poll = MIN_POLL;
        let mut asked = false;
        let member = loop {
            // Meanwhile members may have been deleted, or their keys replaced: they are not called any more, and nothing
            // brings their state back.
            let gone = if asked || !request.tried.is_empty() {
                let Some(gone) = self.catalog.members_gone(pool) else { break Err(None) };
                gone
            } else {
                Vec::new()
            };
            asked = true;
            let excluded: Cow<'_, [usize]> = match &*gone {
                [] => request.tried.into(),
                gone => [request.tried, gone].concat().into(),
            };
            let left = request.deadline.saturating_duration_since(Instant::now());
            let (trial_ttl, hold) = match request.lifetime {
                LeaseLifetime::Attempt(limit) => (limit.min(left).min(MAX_TRIAL), None),
                LeaseLifetime::Expiring(ttl) => (ttl, Some(ttl)),
            };
            let ask = Acquire {
                pool: &pool.roster,
                tried: &excluded,
                failed: failed.as_ref().and_then(|attempt| attempt.failure()),
                lease: LeaseId::new(rand::random()),
                trial_ttl,
                tokens: request.tokens,
                hold,
                is_last: request.is_last,
            };
            let log = if tracing::enabled!(Level::DEBUG) {
                Box::pin(explained_span(pool, self.state.as_ref(), request.tried)).await
            } else {
                Span::none()
            };
            let began = Instant::now();
            let answer = span.run(self.state.acquire(&ask).instrument(log.clone())).await;
            failed = None;
            degraded |= answer.degraded;
            let outcome = outcome(&answer.acquired);
            let named = granted_member(pool, &answer.acquired);
            self.metrics.pick(outcome, began.elapsed());
            span.decided(outcome.name(), named, answer.degraded);
            let name = named.map_or("", |(_, name)| name);
            tracing::debug!(parent: &log, outcome = outcome.name(), picked = name, "asked who serves");
            match answer.acquired {
                Acquired::Granted { index, lease } => break Ok((index, Some(lease))),
                Acquired::Exhausted { first_back } => break Err(first_back),
                Acquired::TrialRunning if !request.is_last => break Err(None),
                Acquired::TrialRunning if Instant::now() + poll < request.deadline => {
                    sleep(poll).await;
                    poll = (poll * 2).min(MAX_POLL);
                }
                Acquired::TrialRunning => break Err(Some((poll, ErrorClass::Timeout))),
            }
        };
        Picked { member, degraded }
    }
}

/// Waits until the first member is back, where the policy of `pool` says so and that is before the deadline. Otherwise it
/// returns false at once.
pub(super) async fn wait_for_first_back(
    pool: &Pool,
    first_back: Option<FirstBack>,
    deadline: Instant,
) -> bool {
    let now = Instant::now();
    match first_back {
        Some((after, _)) if pool.policy.when_exhausted == WhenExhausted::Wait && now + after < deadline => {
            sleep_until(now + after.max(MIN_POLL)).await;
            true
        }
        _ => false,
    }
}

/// How the pick went, for metrics and traces.
fn outcome(acquired: &Acquired) -> PickOutcome {
    match acquired {
        Acquired::Granted { lease, .. } if lease.last_resort => PickOutcome::LastResort,
        Acquired::Granted { .. } => PickOutcome::Granted,
        Acquired::TrialRunning => PickOutcome::TrialRunning,
        Acquired::Exhausted { .. } => PickOutcome::Exhausted,
    }
}

/// The id and the name of the member that was granted.
fn granted_member<'p>(pool: &'p Pool, acquired: &Acquired) -> Option<(&'p str, &'p str)> {
    let Acquired::Granted { index, .. } = acquired else { return None };
    pool.members.get(*index).map(|member| (&*member.id, &*member.name))
}

/// A span of the log that says of each member why it would or would not serve, as Explain does. It costs a look at the
/// state, so it is for debugging alone.
async fn explained_span(pool: &Pool, state: &dyn StateStore, tried: &[usize]) -> Span {
    let seen = state.inspect(&pool.roster).await;
    let inputs: Vec<_> =
        (0..pool.members.len()).map(|index| ExplainInput::usable(tried.contains(&index))).collect();
    let (explained, _) = explain(&pool.roster, &inputs, &seen);
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
