//! Picking a member: asks the state store who serves next, and stands in line where a member will be free soon.

use super::{
    attempt::Attempt,
    engine::Engine,
    explain::{ExplainInput, explain},
    waiting::{A_MOMENT, FirstBack, Waiting},
};
use crate::{
    balance::{ErrorClass, LeaseId, WhenExhausted},
    catalog::Pool,
    state::{Acquire, Acquired, Answer, Hold, LOOK, Lease, Role, Stand, StateStore},
    telemetry::PickOutcome,
};
use std::{borrow::Cow, mem, sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{Instrument, Level, Span};

/// A trial that has not reported for this long is taken for lost, and another may go.
const MAX_TRIAL: Duration = Duration::from_secs(60);

/// What a pick is asked for.
pub(super) struct PickRequest<'a> {
    /// The pool to pick from.
    pub(super) pool: &'a Arc<Pool>,
    /// Indices of members that must not be picked.
    pub(super) tried: &'a [usize],
    /// About how many tokens the call will use.
    pub(super) tokens: u64,
    /// When the call came: its score in the line.
    pub(super) arrived: Instant,
    /// When waiting must end.
    pub(super) deadline: Instant,
    /// How long the member is held.
    pub(super) lifetime: LeaseLifetime,
    /// Whether the call can go to no other pool. Then it may join a trial, and may be one of the pool's last resort.
    pub(super) is_last: bool,
    /// What to wait for when nobody may serve.
    pub(super) waits: Waits,
}

/// What a pick waits for when nobody may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Nothing: another model may serve at once.
    Never,
    /// The verdict of a trial.
    ForTrial,
    /// Whatever lets a member serve.
    ForRoom,
}

impl Waits {
    /// For a pool beside which nobody else may serve.
    pub(super) fn of(pool: &Pool) -> Self {
        match pool.policy.when_exhausted {
            WhenExhausted::Wait => Self::ForRoom,
            WhenExhausted::Fail => Self::ForTrial,
        }
    }
}

/// How long a picked member is held.
#[derive(Clone, Copy)]
pub(super) enum LeaseLifetime {
    /// For one attempt of this replica, which may take this long.
    Attempt(Duration),
    /// For a client that calls by itself: the lease expires unless it is renewed.
    Expiring(Hold),
}

/// What a pick has come to.
pub(super) struct Picked {
    /// The member's index, and the lease on it, which an unbalanced pool does not have; otherwise when the first is back,
    /// where that is known.
    pub(super) member: Result<(usize, Option<Lease>), Option<FirstBack>>,
    /// Where the pool may have no more leases that expire: in how long the first of them ends.
    pub(super) too_many_leases: Option<Duration>,
    /// Whether this replica decided alone.
    pub(super) degraded: bool,
}

impl Engine {
    /// Picks a member, and stands in line where the request says so. The first question carries the failure of the attempt
    /// before; when it is answered, that attempt is over. `place` is what the call holds of a line between two picks.
    pub(super) async fn wait_for_member(
        &self,
        request: &PickRequest<'_>,
        place: &mut Option<Waiting>,
        mut failed: Option<Box<Attempt>>,
    ) -> Picked {
        let pool = request.pool;
        if !pool.balanced {
            let member = if request.tried.is_empty() { Ok((0, None)) } else { Err(None) };
            return Picked { member, too_many_leases: None, degraded: false };
        }
        let mut span = self.traces.pick();
        let (mut degraded, mut too_many_leases) = (false, None);
        let mut here = place.take_if(|waiting| waiting.is_for(&pool.roster));
        let mut back = Some(A_MOMENT);
        let mut looks_again = !request.tried.is_empty();
        let member = loop {
            // In a box, since nearly always nobody waits.
            if here.is_some() || !self.state.lines().lets_pass(pool.roster.id, request.arrived) {
                looks_again = true;
                match Box::pin(self.stand_in_turn(request, &mut here, &mut failed)).await {
                    Turn::Ask => {}
                    Turn::Refused(first_back) => break Err(Some(first_back)),
                    // Where a trial has not had its verdict, nobody knows more.
                    Turn::Over => break Err(back.or(Some((LOOK, ErrorClass::Timeout)))),
                }
            }
            // Meanwhile members may have been deleted, or their keys replaced: they are not called any more, and nothing
            // brings their state back.
            let gone = if mem::replace(&mut looks_again, true) {
                let Some(gone) = self.catalog.members_gone(pool) else { break Err(None) };
                gone
            } else {
                Vec::new()
            };
            let excluded: Cow<'_, [usize]> = match &*gone {
                [] => request.tried.into(),
                gone => [request.tried, gone].concat().into(),
            };
            let ask = request.ask(&excluded, failed.as_deref(), here.as_mut());
            let log = if tracing::enabled!(Level::DEBUG) {
                Box::pin(explained_span(pool, self.state.as_ref(), request.tried)).await
            } else {
                Span::none()
            };
            let (began, words) = (Instant::now(), self.state.lines().words());
            let answer = span.run(self.state.acquire(&ask).instrument(log.clone())).await;
            failed = None;
            degraded |= answer.degraded;
            let outcome = outcome(&answer.acquired);
            let named = granted_member(pool, &answer.acquired);
            self.metrics.pick(outcome, began.elapsed());
            span.decided(outcome.name(), named, answer.degraded);
            let name = named.map_or("", |(_, name)| name);
            tracing::debug!(parent: &log, outcome = outcome.name(), picked = name, "asked who serves");
            let Answer { acquired, outlook, .. } = answer;
            if let Acquired::Granted { index, lease } = acquired {
                *place = None;
                if let Some(waiting) = here.take() {
                    waiting.answered();
                }
                break Ok((index, Some(lease)));
            }
            back = if let Acquired::Exhausted { first_back } = acquired { first_back } else { None };
            if let Acquired::TooManyLeases { first_ends } = acquired {
                too_many_leases = Some(first_ends);
            }
            if !request.is_worth_waiting(&acquired, &excluded, here.is_some()) {
                // Under FAIL those behind it learn the same. Otherwise it alone has too little time.
                if let Some(waiting) = here.take()
                    && request.waits == Waits::ForTrial
                {
                    waiting.answered();
                }
                break Err(back);
            }
            if let Some(waiting) = &mut here {
                waiting.stays(outlook, back);
            } else {
                // It stands in one line at a time.
                *place = None;
                match self.join(&pool.roster, request.arrived, request.deadline) {
                    // Where a word came meanwhile, it asks again at once.
                    Ok(waiting) => {
                        let waiting = here.insert(waiting);
                        if self.state.lines().words() == words {
                            waiting.stays(outlook, back);
                        }
                    }
                    Err(first_back) => {
                        self.state.leave(&pool.roster);
                        break Err(Some(first_back));
                    }
                }
            }
            if request.waits == Waits::Never {
                break Err(back);
            }
        };
        if request.waits == Waits::Never && here.is_some() {
            *place = here;
        }
        Picked { member, too_many_leases, degraded }
    }

    /// Lets those be asked first who came before.
    async fn stand_in_turn(
        &self,
        request: &PickRequest<'_>,
        here: &mut Option<Waiting>,
        failed: &mut Option<Box<Attempt>>,
    ) -> Turn {
        if here.is_none() {
            if let Some(mut attempt) = failed.take() {
                attempt.write_failure().await;
            }
            if request.waits == Waits::Never {
                return Turn::Over;
            }
            match self.join(&request.pool.roster, request.arrived, request.deadline) {
                Ok(waiting) => *here = Some(waiting),
                Err(first_back) => return Turn::Refused(first_back),
            }
        }
        let is_its_turn = match here {
            Some(waiting) if request.waits == Waits::Never => waiting.may_ask(),
            Some(waiting) => waiting.turn(request.deadline).await,
            None => true,
        };
        if is_its_turn { Turn::Ask } else { Turn::Over }
    }
}

/// Whether a caller may ask now.
enum Turn {
    Ask,
    /// More wait than could be served.
    Refused(FirstBack),
    /// Others come first, and it waits no longer.
    Over,
}

impl PickRequest<'_> {
    /// What the store is asked, from its place in line where it has one.
    fn ask<'a>(
        &'a self,
        tried: &'a [usize],
        failed: Option<&'a Attempt>,
        here: Option<&mut Waiting>,
    ) -> Acquire<'a> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let stand = here.map_or_else(|| self.stand(left), |waiting| waiting.stand(left));
        let (trial_ttl, hold) = match self.lifetime {
            LeaseLifetime::Attempt(limit) => (limit.min(left).min(MAX_TRIAL), None),
            LeaseLifetime::Expiring(hold) => (hold.ttl, Some(hold)),
        };
        Acquire {
            pool: &self.pool.roster,
            tried,
            failed: failed.and_then(Attempt::failure),
            lease: LeaseId::new(rand::random()),
            trial_ttl,
            tokens: self.tokens,
            hold,
            is_last: self.is_last,
            stand,
        }
    }

    /// Where one stands who is in no line.
    fn stand(&self, left: Duration) -> Stand {
        let role = if self.waits == Waits::Never { Role::Passing } else { Role::Joining };
        Stand { role, age: self.arrived.elapsed(), waiting: 1, next: None, left }
    }

    /// Whether it waits after that answer to one who cannot be served by those `excluded`. `in_line` says whether it has
    /// stood in line for room so far.
    fn is_worth_waiting(&self, acquired: &Acquired, excluded: &[usize], in_line: bool) -> bool {
        match acquired {
            Acquired::Granted { .. } | Acquired::TooManyLeases { .. } => false,
            Acquired::TrialRunning => self.waits != Waits::Never || in_line,
            Acquired::Exhausted { first_back } => {
                let waits = match self.waits {
                    Waits::ForRoom => true,
                    Waits::ForTrial => false,
                    Waits::Never => in_line,
                };
                let is_one_left = || (0..self.pool.members.len()).any(|index| !excluded.contains(&index));
                waits
                    && is_one_left()
                    && first_back.is_some_and(|(after, _)| Instant::now() + after < self.deadline)
            }
        }
    }
}

/// How the pick went, for metrics and traces.
fn outcome(acquired: &Acquired) -> PickOutcome {
    match acquired {
        Acquired::Granted { lease, .. } if lease.last_resort => PickOutcome::LastResort,
        Acquired::Granted { .. } => PickOutcome::Granted,
        Acquired::TrialRunning => PickOutcome::TrialRunning,
        Acquired::Exhausted { .. } | Acquired::TooManyLeases { .. } => PickOutcome::Exhausted,
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
