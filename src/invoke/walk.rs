//! The walk of one call: pool after pool of its chain, member after member of a pool.

use super::{
    again::{Again, Pause, pause_after},
    attempt::Attempt,
    call::{Call, CallMode},
    engine::Engine,
    error::CallError,
    history::CallHistory,
    lease_guard::LeaseGuard,
    pick::{LeaseLifetime, PickRequest, Waits},
    route::Route,
    trail::{PoolProgress, Trail, usable},
    waiting::{FirstBack, Waiting, look_after},
};
use crate::{
    balance::{Doubt, ErrorClass, Failure, WhenExhausted},
    catalog::{Pool, PoolMember},
    provider::{Driver, Target},
};
use futures::future::BoxFuture;
use std::{mem, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Sent by Anthropic, and by others after it, when the whole provider is overloaded: another of its keys would not do
/// better.
const PROVIDER_OVERLOADED: u16 = 529;

/// So many answers that are billed and say nothing are followed by another attempt.
const MAX_BILLED: usize = 1;

/// One request to a provider, made through the driver of its kind.
pub(super) type ProviderRequest<'a, T> =
    dyn Fn(&'a dyn Driver, &'a Target) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'a;

/// A call that was served, by an attempt that still holds its member.
pub(super) struct Success<T> {
    pub(super) reply: T,
    pub(super) attempt: Attempt,
    pub(super) route: Route,
    /// How far the call has come, should it have to go on.
    pub(super) trail: Trail,
}

/// One call on its walk over the chain.
struct Walk<'a, T> {
    engine: &'a Engine,
    call: &'a Call,
    mode: CallMode,
    request: &'a ProviderRequest<'a, T>,
    trail: Trail,
    /// An attempt whose failure is not written yet: another credential may show that the request is at fault.
    doubtful: Option<Doubtful>,
    /// A member to be tried again where nobody else serves.
    again: Option<Box<Again>>,
    /// Where it stands in line between two rounds over the chain.
    place: Option<Waiting>,
    history: CallHistory,
}

/// A refusal that blames a credential by words that may repeat the caller's.
struct Doubtful {
    words: u64,
    credential: Arc<str>,
    attempt: Box<Attempt>,
}

/// What became of a pool.
#[expect(clippy::large_enum_variant, reason = "there is one a pool, and it is taken apart at once")]
enum PoolOutcome<T> {
    Served(T, Attempt),
    /// The next pool's turn. Holds when the first member of this one is back, where all are away.
    NextPool(Option<FirstBack>),
}

/// What follows a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another member of the pool.
    Member,
    /// The next pool of the chain.
    Pool,
    /// Nothing: the call has failed.
    End,
}

impl Next {
    /// Where the call goes on, with nothing to write first.
    fn onward(self) -> Onward {
        if self == Self::Member { Onward::Member(None) } else { Onward::Pool }
    }
}

/// An attempt that has failed.
struct FailedAttempt<'a> {
    place: usize,
    pool: &'a Arc<Pool>,
    index: usize,
    member: &'a PoolMember,
    attempt: Attempt,
    failure: Failure,
}

/// Where a call goes on after a failed attempt.
enum Onward {
    /// To another member of the pool, with the attempt whose failure is not written yet.
    Member(Option<Box<Attempt>>),
    /// To the next pool of the chain.
    Pool,
}

impl Engine {
    /// Makes attempts until one serves.
    pub(super) async fn run<'a, T: Send>(
        &'a self,
        call: &'a Call,
        mode: CallMode,
        request: &'a ProviderRequest<'a, T>,
    ) -> Result<Success<T>, CallError> {
        let named = call.chain.first().ok_or(CallError::NoCredentials)?;
        if !named.enabled {
            return Err(CallError::Disabled);
        }
        self.go_on(call, mode, request, Trail::new(call), CallHistory::new(named)).await
    }

    /// Makes further attempts for a call that has come so far.
    pub(super) async fn go_on<'a, T: Send>(
        &'a self,
        call: &'a Call,
        mode: CallMode,
        request: &'a ProviderRequest<'a, T>,
        trail: Trail,
        history: CallHistory,
    ) -> Result<Success<T>, CallError> {
        let (doubtful, again, place) = (None, None, None);
        let mut walk = Walk { engine: self, call, mode, request, trail, doubtful, again, place, history };
        let outcome = walk.run().await;
        if walk.doubtful.is_some() || walk.again.is_some() {
            Box::pin(walk.settle()).await;
        }
        let (reply, attempt) = outcome?;
        Ok(Success { reply, attempt, route: walk.history.finish(), trail: walk.trail })
    }
}

impl<'a, T: Send> Walk<'a, T> {
    async fn run(&mut self) -> Result<(T, Attempt), CallError> {
        let chain = &self.call.chain;
        let named = chain.first().ok_or(CallError::NoCredentials)?;
        loop {
            let mut first_back: Option<FirstBack> = None;
            for (place, pool) in chain.iter().enumerate() {
                loop {
                    match self.try_pool(place, pool).await? {
                        PoolOutcome::Served(reply, attempt) => return Ok((reply, attempt)),
                        PoolOutcome::NextPool(back) => {
                            first_back = first_back.into_iter().chain(back).min_by_key(|(after, _)| *after);
                        }
                    }
                    let is_patient = pool.policy.wait_for_retry_after.is_some();
                    if !(is_patient && self.goes_again(Some(place)).await) {
                        break;
                    }
                }
            }
            let has_waited = self.again.is_none() && !self.trail.passes_over_some();
            if self.trail.lets_in_held_back() || self.goes_again(None).await {
                continue;
            }
            if named.policy.when_exhausted == WhenExhausted::Wait
                && Box::pin(self.wait_for_round(first_back, has_waited)).await
            {
                self.trail.forget_reach();
                continue;
            }
            if first_back.is_none() && self.trail.attempts == 0 {
                usable(named)?;
            }
            return Err(self.history.fail(first_back, true));
        }
    }

    /// Waits until another round over the chain may serve. Where the model stands alone, the pick of the next round waits,
    /// unless that of this one has.
    async fn wait_for_round(&mut self, first_back: Option<FirstBack>, has_waited: bool) -> bool {
        let call = self.call;
        if first_back.is_none_or(|(after, _)| after >= call.left()) {
            return false;
        }
        let left = call.chain.iter().zip(&self.trail.pools);
        let left: Vec<_> =
            left.filter(|(pool, progress)| progress.has_members_left(pool)).map(|(pool, _)| pool).collect();
        if left.is_empty() {
            return false;
        }
        if call.chain.iter().skip(1).all(|pool| usable(pool).is_err()) {
            return !has_waited;
        }
        if self.place.is_none()
            && let Some(pool) = left.iter().find(|pool| pool.roster.waits)
        {
            match self.engine.join(&pool.roster, call.began, call.deadline) {
                Ok(waiting) => self.place = Some(waiting),
                Err(_) => return false,
            }
        }
        // The others give this one no word.
        let until = call.deadline.min(Instant::now() + look_after(first_back));
        match &mut self.place {
            Some(waiting) => _ = waiting.turn(until).await,
            None => sleep_until(until).await,
        }
        Instant::now() < call.deadline
    }

    /// Tries the members of one pool.
    async fn try_pool(&mut self, place: usize, pool: &'a Arc<Pool>) -> Result<PoolOutcome<T>, CallError> {
        let is_last = !self.trail.is_member_left(&self.call.chain, place + 1);
        let Some(progress) = self.trail.pools.get_mut(place) else { return Ok(PoolOutcome::NextPool(None)) };
        if usable(pool).is_err() || progress.spent {
            return Ok(PoolOutcome::NextPool(None));
        }
        if !mem::replace(&mut progress.counted, true) {
            self.engine.budgets.deposit(pool.roster.id);
        }
        let driver = self.engine.driver(pool)?;
        // In a box, since it is rare and every call has to have room for it.
        let mut failed = None;
        loop {
            let (index, lease) = match self.again.take_if(|again| again.due && again.place == place) {
                Some(again) => (again.index, again.held.and_then(Attempt::hand_over)),
                None => match self.pick(place, pool, is_last, failed.take()).await {
                    Ok(picked) => picked,
                    Err(first_back) => return Ok(PoolOutcome::NextPool(first_back)),
                },
            };
            let Some(member) = pool.members.get(index) else { return Ok(PoolOutcome::NextPool(None)) };
            self.trail.attempts += 1;
            self.trail.place = place;

            let number = self.trail.attempts;
            let mut attempt = Attempt::begin(self.engine, self.call, self.mode, number, pool, member, lease);
            let failure = match attempt.run((self.request)(driver, &member.target)).await {
                Ok(reply) => {
                    if self.doubtful.is_some() {
                        Box::pin(self.settle_doubt()).await;
                    }
                    let took = attempt.served();
                    if let Some(member) = pool.roster.members.get(index) {
                        self.engine.latencies.record(pool.roster.id, self.mode, &member.key, took);
                    }
                    self.history.served(pool, member, took);
                    return Ok(PoolOutcome::Served(reply, attempt));
                }
                Err(failure) => failure,
            };
            // Apart, so that what happens once in a while takes no room in every call.
            let failed_attempt = FailedAttempt { place, pool, index, member, attempt, failure };
            match Box::pin(self.after_failure(failed_attempt, is_last)).await? {
                Onward::Member(attempt) => failed = attempt,
                Onward::Pool => return Ok(PoolOutcome::NextPool(None)),
            }
        }
    }

    /// What a pick from that pool waits for. Room it waits for only where the call has no other way: no other model, no
    /// member that it has passed over so far, and none that it is to try again.
    fn waits(&self, place: usize, pool: &Pool, is_last: bool) -> Waits {
        let progress = self.trail.pools.get(place);
        if !is_last && progress.is_none_or(|progress| progress.again == 0) {
            return Waits::Never;
        }
        let has_other_way = !is_last
            || place > 0
            || self.again.is_some()
            || progress.is_some_and(PoolProgress::passes_over_some);
        if has_other_way { Waits::ForTrial } else { Waits::of(pool) }
    }

    /// Picks a member that the call has not tried.
    ///
    /// # Errors
    /// When the first is back, where none may serve now and that is known.
    async fn pick(
        &mut self,
        place: usize,
        pool: &'a Arc<Pool>,
        is_last: bool,
        failed: Option<Box<Attempt>>,
    ) -> Result<(usize, Option<LeaseGuard>), Option<FirstBack>> {
        let progress = self.trail.pools.get(place).ok_or(None)?;
        let tried = progress.passed_over();
        let pick = PickRequest {
            pool,
            tried: &tried,
            tokens: self.call.tokens,
            arrived: self.call.began,
            deadline: self.call.deadline,
            lifetime: LeaseLifetime::Attempt(self.mode.limit(&pool.policy.timeouts)),
            // Otherwise another model may serve at once.
            is_last: is_last || progress.again > 0,
            waits: self.waits(place, pool, is_last),
        };
        let picked = self.engine.wait_for_member(&pick, &mut self.place, failed).await;
        self.history.picked(picked.degraded);
        let (index, lease) = picked.member?;
        let lease = lease.map(|lease| LeaseGuard::new(self.engine.state.clone(), lease));
        if self.again.is_some() {
            Box::pin(self.settle_again()).await;
        }
        if let Some(progress) = self.trail.pools.get_mut(place) {
            progress.tried.push(index);
        }
        Ok((index, lease))
    }

    /// Says what a failed attempt means, and where the call goes on.
    async fn after_failure(&mut self, failed: FailedAttempt<'a>, is_last: bool) -> Result<Onward, CallError> {
        let FailedAttempt { place, pool, index, member, mut attempt, failure } = failed;
        if let Doubt::Unwritable(field) = failure.doubt {
            // Nothing was sent: this kind of provider is passed over.
            attempt.use_nothing();
            self.trail.attempts -= 1;
            self.history.unwritable(field, failure.message);
            return Ok(Onward::Pool);
        }
        let credential = pool.roster.members.get(index).map(|member| member.credential.clone());
        let failure = self.judge(failure, credential.as_deref()).await;
        let (took, cut_short) = (attempt.elapsed(), attempt.is_cut_short());
        if let Some(progress) = self.trail.pools.get_mut(place) {
            progress.pass_over_siblings(pool, index, &failure, cut_short);
        }
        if failure.class == ErrorClass::ContextTooLong {
            self.trail.leave_out(&self.call.chain, |other, index| is_same_model(pool, member, other, index));
        }
        let next = self.next(place, pool, is_last, &failure, cut_short);
        let pause = self.pause(place, pool, next, &failure, took);
        let is_held = matches!(pause, Some(Pause::Holding(_)));
        let cooldown = attempt.failed(&failure, !is_held);
        let words = if let Doubt::Words(words) = failure.doubt { Some(words) } else { None };
        let again = pause.map(|pause| {
            let (Pause::Holding(wait) | Pause::Away(wait)) = pause;
            let paid = next == Next::Member && self.is_member_left(place, pool);
            let (at, failure) = (Instant::now() + wait, failure.clone());
            Box::new(Again { place, index, at, failure, held: None, paid, due: false })
        });
        self.history.failed(member, failure, took, cooldown);
        if let Some(mut again) = again {
            if is_held {
                again.held = Some(attempt);
                self.again = Some(again);
                return Ok(next.onward());
            }
            if self.again.as_ref().is_none_or(|other| again.at < other.at) {
                self.again = Some(again);
            }
        }
        if let (Some(words), Some(credential)) = (words, credential)
            && cooldown.is_some()
            && next != Next::End
        {
            self.doubtful = Some(Doubtful { words, credential, attempt: Box::new(attempt) });
            return Ok(next.onward());
        }
        match next {
            Next::Member => Ok(Onward::Member(Some(Box::new(attempt)))),
            Next::Pool => {
                attempt.write_failure().await;
                Ok(Onward::Pool)
            }
            Next::End => {
                attempt.write_failure().await;
                let all_tried = is_last && !self.is_member_left(place, pool);
                Err(self.history.fail(None, all_tried))
            }
        }
    }

    /// Looks at a failure beside the one before. Two credentials that are refused with the same words show that the request
    /// is at fault: then neither cools, and the caller is told.
    async fn judge(&mut self, failure: Failure, credential: Option<&str>) -> Failure {
        self.trail.billed += usize::from(failure.doubt == Doubt::Billed);
        let Some(before) = self.doubtful.take() else { return failure };
        let same = failure.doubt == Doubt::Words(before.words) && credential != Some(&*before.credential);
        if same {
            // Dropped without its failure, it only gives its lease back.
            drop(before.attempt.forgiven());
            self.history.forgive();
            return Failure { class: ErrorClass::BadRequest, doubt: Doubt::None, ..failure };
        }
        self.doubtful = Some(before);
        self.settle_doubt().await;
        failure
    }

    /// Writes the failure that was in doubt.
    async fn settle_doubt(&mut self) {
        if let Some(mut doubtful) = self.doubtful.take() {
            doubtful.attempt.write_failure().await;
        }
    }

    /// Writes what is not written yet.
    async fn settle(&mut self) {
        self.settle_doubt().await;
        self.settle_again().await;
    }

    /// Writes the failure of a member that was to be tried again. Somebody else serves, or nobody does.
    async fn settle_again(&mut self) {
        let held = self.again.take_if(|again| again.held.is_some());
        if let Some(Again { held: Some(mut attempt), failure, .. }) = held.map(|again| *again) {
            self.history.cooled(attempt.cool(&failure));
            attempt.write_failure().await;
        }
    }

    /// Whether a member is to be tried again, of the pool in that place where one is given. Waits until its time has come.
    async fn goes_again(&mut self, place: Option<usize>) -> bool {
        let is_meant = |again: &mut Box<Again>| place.is_none_or(|place| again.place == place);
        let Some(again) = self.again.take_if(is_meant) else { return false };
        Box::pin(self.wait_for(again)).await
    }

    /// Waits for the time of a member that is to be tried again, where there is time and the retry budget pays for it.
    async fn wait_for(&mut self, mut again: Box<Again>) -> bool {
        let left = self.call.deadline.saturating_duration_since(again.at);
        let pool = self.call.chain.get(again.place).filter(|pool| {
            !left.is_zero()
                && self.engine.latencies.allow(pool.roster.id, self.mode, left)
                && (again.paid || self.engine.budgets.allow(pool.roster.id, again.failure.class))
        });
        let progress = self.trail.pools.get_mut(again.place);
        let (Some(_), Some(progress)) = (pool, progress) else {
            self.again = Some(again);
            self.settle_again().await;
            self.again = None;
            return false;
        };
        progress.again += 1;
        sleep_until(again.at).await;
        if again.held.is_some() {
            again.due = true;
            self.again = Some(again);
        } else {
            progress.tried.retain(|&index| index != again.index);
        }
        true
    }

    /// Whether a member of the pool may still be tried.
    fn is_member_left(&self, place: usize, pool: &Pool) -> bool {
        self.trail.pools.get(place).is_some_and(|progress| progress.has_members_left(pool))
    }

    /// How the member that has failed may be tried again. The failure took so long to come.
    fn pause(
        &self,
        place: usize,
        pool: &Pool,
        next: Next,
        failure: &Failure,
        took: Duration,
    ) -> Option<Pause> {
        let progress = self.trail.pools.get(place).filter(|progress| next != Next::End && !progress.spent)?;
        pause_after(failure, took, &pool.policy, progress.again, rand::random())
    }

    /// Decides what follows a failed attempt. Where that is another member, the pool's retry budget pays for it.
    fn next(&mut self, place: usize, pool: &Pool, is_last: bool, failure: &Failure, cut_short: bool) -> Next {
        let call = self.call;
        let is_too_long = failure.class == ErrorClass::ContextTooLong;
        let is_final = cut_short
            || failure.full.is_some()
            || !(failure.class.moves_on() || is_too_long)
            || self.trail.billed > MAX_BILLED
            || !(call.repeatable || failure.is_before_work())
            || (call.max_attempts > 0 && self.trail.attempts >= call.max_attempts);
        if is_final {
            return Next::End;
        }
        let is_overloaded = failure.http_status == Some(PROVIDER_OVERLOADED) && !is_last;
        let Some(progress) = self.trail.pools.get_mut(place) else { return Next::Pool };
        if !pool.balanced || is_overloaded || (is_too_long && !progress.has_members_left(pool)) {
            return Next::Pool;
        }
        // Where nobody is left there will be no retry, and the budget pays for none.
        progress.spent = progress.has_members_within_reach(pool)
            && (!self.engine.latencies.allow(pool.roster.id, self.mode, call.left())
                || !self.engine.budgets.allow(pool.roster.id, failure.class));
        if progress.spent { Next::Pool } else { Next::Member }
    }
}

/// Whether a member asks the same provider for the same model as another that has refused: it would refuse as well.
fn is_same_model(pool: &Pool, member: &PoolMember, other: &Pool, index: usize) -> bool {
    other.key.provider == pool.key.provider
        && other.members.get(index).is_some_and(|other| other.target.model == member.target.model)
}
