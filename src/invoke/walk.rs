//! The walk of one call: pool after pool of its chain, member after member of a pool.

use super::{
    attempt::Attempt,
    call::{Call, CallMode},
    engine::Engine,
    error::CallError,
    history::CallHistory,
    pick::{LeaseLifetime, PickRequest, Waits},
    route::Route,
    waiting::{FirstBack, Waiting, look_after},
};
use crate::{
    balance::{Doubt, ErrorClass, Failure, WhenExhausted},
    catalog::{Pool, PoolMember},
    provider::{Driver, Target, connect_within},
};
use futures::future::BoxFuture;
use std::{mem, sync::Arc};
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
}

/// One call on its walk over the chain.
struct Walk<'a, T> {
    engine: &'a Engine,
    call: &'a Call,
    mode: CallMode,
    request: &'a ProviderRequest<'a, T>,
    /// How many attempts have begun.
    attempts: usize,
    /// How many answers came that were billed and say nothing.
    billed: usize,
    /// An attempt whose failure is not written yet: another credential may show that the request is at fault.
    doubtful: Option<Doubtful>,
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

/// How far a call is with one pool.
#[derive(Clone, Default)]
struct PoolProgress {
    /// Whether the pool's retry budget has counted the call.
    counted: bool,
    /// Whether no more of its members may be tried: the retry budget is spent, or too little time is left.
    spent: bool,
    /// Indices of the members tried.
    tried: Vec<usize>,
}

/// What became of a pool.
#[expect(clippy::large_enum_variant, reason = "there is one a pool, and it is taken apart at once")]
enum PoolOutcome<T> {
    Served(T, Attempt),
    /// The next pool's turn. Holds when the first member of this one is back, where all are away.
    NextPool(Option<FirstBack>),
}

/// What follows a failed attempt.
enum Next {
    /// Another member of the pool.
    Member,
    /// The next pool of the chain.
    Pool,
    /// Nothing: the call has failed.
    End,
}

/// An attempt that has failed.
struct FailedAttempt<'a> {
    pool: &'a Arc<Pool>,
    is_last: bool,
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
        let history = CallHistory::new(named);
        let mut walk = Walk {
            engine: self,
            call,
            mode,
            request,
            attempts: 0,
            billed: 0,
            doubtful: None,
            place: None,
            history,
        };
        let outcome = walk.run(named).await;
        if walk.doubtful.is_some() {
            Box::pin(walk.settle_doubt()).await;
        }
        outcome
    }
}

impl<'a, T: Send> Walk<'a, T> {
    async fn run(&mut self, named: &Pool) -> Result<Success<T>, CallError> {
        let chain = &self.call.chain;
        let mut progress = vec![PoolProgress::default(); chain.len()];
        loop {
            let mut first_back: Option<FirstBack> = None;
            for (place, (pool, progress)) in chain.iter().zip(&mut progress).enumerate() {
                let is_last = chain.iter().skip(place + 1).all(|later| usable(later).is_err());
                match self.try_pool(pool, progress, is_last).await? {
                    PoolOutcome::Served(reply, attempt) => {
                        return Ok(Success { reply, attempt, route: self.history.finish() });
                    }
                    PoolOutcome::NextPool(back) => {
                        first_back = first_back.into_iter().chain(back).min_by_key(|(after, _)| *after);
                    }
                }
            }
            if named.policy.when_exhausted == WhenExhausted::Wait
                && Box::pin(self.wait_for_round(&progress, first_back)).await
            {
                continue;
            }
            if first_back.is_none() && self.attempts == 0 {
                usable(named)?;
            }
            return Err(self.history.fail(first_back, true));
        }
    }

    /// Waits until another round over the chain may serve. Where the model stands alone, the pick has waited already.
    async fn wait_for_round(&mut self, progress: &[PoolProgress], first_back: Option<FirstBack>) -> bool {
        let call = self.call;
        if first_back.is_none_or(|(after, _)| after >= call.left()) {
            return false;
        }
        let left = call.chain.iter().zip(progress).filter(|(pool, progress)| progress.has_members_left(pool));
        let left: Vec<_> = left.map(|(pool, _)| pool).collect();
        if left.is_empty() || call.chain.iter().skip(1).all(|pool| usable(pool).is_err()) {
            return false;
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
    async fn try_pool(
        &mut self,
        pool: &'a Arc<Pool>,
        progress: &mut PoolProgress,
        is_last: bool,
    ) -> Result<PoolOutcome<T>, CallError> {
        if usable(pool).is_err() || progress.spent {
            return Ok(PoolOutcome::NextPool(None));
        }
        if !mem::replace(&mut progress.counted, true) {
            self.engine.budgets.deposit(pool.roster.id);
        }
        let driver = self.engine.driver(pool)?;
        let timeouts = &pool.policy.timeouts;
        // In a box, since it is rare and every call has to have room for it.
        let mut failed = None;
        loop {
            let pick = PickRequest {
                pool,
                tried: &progress.tried,
                tokens: self.call.tokens,
                arrived: self.call.began,
                deadline: self.call.deadline,
                lifetime: LeaseLifetime::Attempt(self.mode.limit(timeouts)),
                waits: self.waits(pool, is_last),
            };
            let picked = self.engine.wait_for_member(&pick, &mut self.place, failed.take()).await;
            self.history.picked(picked.degraded);
            let (index, lease) = match picked.member {
                Ok(member) => member,
                Err(first_back) => return Ok(PoolOutcome::NextPool(first_back)),
            };
            let Some(member) = pool.members.get(index) else { return Ok(PoolOutcome::NextPool(None)) };
            progress.tried.push(index);
            self.attempts += 1;

            let mut attempt =
                Attempt::begin(self.engine, self.call, self.mode, self.attempts, pool, member, lease);
            let work = connect_within(timeouts.connect, (self.request)(driver, &member.target));
            let failure = match attempt.run(work).await {
                Ok(reply) => {
                    if self.doubtful.is_some() {
                        Box::pin(self.settle_doubt()).await;
                    }
                    let took = attempt.served();
                    self.engine.latencies.record(pool.roster.id, self.mode, took);
                    self.history.served(pool, member, took);
                    return Ok(PoolOutcome::Served(reply, attempt));
                }
                Err(failure) => failure,
            };
            // Apart, so that what happens once in a while takes no room in every call.
            let failed_attempt = FailedAttempt { pool, is_last, index, member, attempt, failure };
            match Box::pin(self.after_failure(failed_attempt, progress)).await? {
                Onward::Member(attempt) => failed = attempt,
                Onward::Pool => return Ok(PoolOutcome::NextPool(None)),
            }
        }
    }

    /// What a pick from that pool waits for. Room it waits for only where no other model may serve.
    fn waits(&self, pool: &Pool, is_last: bool) -> Waits {
        let is_named = self.call.chain.first().is_some_and(|named| named.roster.id == pool.roster.id);
        match (is_last, is_named) {
            (true, true) => Waits::of(pool),
            (true, false) => Waits::ForTrial,
            (false, _) => Waits::Never,
        }
    }

    /// Says what a failed attempt means, and where the call goes on.
    async fn after_failure(
        &mut self,
        failed: FailedAttempt<'a>,
        progress: &mut PoolProgress,
    ) -> Result<Onward, CallError> {
        let FailedAttempt { pool, is_last, index, member, mut attempt, failure } = failed;
        if let Doubt::Unwritable(field) = failure.doubt {
            // Nothing was sent: this kind of provider is passed over.
            self.attempts -= 1;
            self.history.unwritable(field, failure.message);
            return Ok(Onward::Pool);
        }
        let credential = pool.roster.members.get(index).map(|member| member.credential.clone());
        let failure = self.judge(failure, credential.as_deref()).await;
        let (took, cut_short) = (attempt.elapsed(), attempt.is_cut_short());
        let cooldown = attempt.failed(&failure, cut_short);
        let next = self.next(pool, progress, is_last, &failure, cut_short);
        let words = if let Doubt::Words(words) = failure.doubt { Some(words) } else { None };
        self.history.failed(member, failure, took, cooldown);
        if let (Some(words), Some(credential)) = (words, credential)
            && cooldown.is_some()
            && !matches!(next, Next::End)
        {
            self.doubtful = Some(Doubtful { words, credential, attempt: Box::new(attempt) });
            return Ok(if matches!(next, Next::Member) { Onward::Member(None) } else { Onward::Pool });
        }
        match next {
            Next::Member => Ok(Onward::Member(Some(Box::new(attempt)))),
            Next::Pool => {
                attempt.write_failure().await;
                Ok(Onward::Pool)
            }
            Next::End => {
                attempt.write_failure().await;
                let all_tried = is_last && !progress.has_members_left(pool);
                Err(self.history.fail(None, all_tried))
            }
        }
    }

    /// Looks at a failure beside the one before. Two credentials that are refused with the same words show that the request
    /// is at fault: then neither cools, and the caller is told.
    async fn judge(&mut self, failure: Failure, credential: Option<&str>) -> Failure {
        self.billed += usize::from(failure.doubt == Doubt::Billed);
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

    /// Decides what follows a failed attempt. Where that is another member, the pool's retry budget pays for it.
    fn next(
        &self,
        pool: &Pool,
        progress: &mut PoolProgress,
        is_last: bool,
        failure: &Failure,
        cut_short: bool,
    ) -> Next {
        let call = self.call;
        let is_final = cut_short
            || !failure.class.moves_on()
            || self.billed > MAX_BILLED
            || !(call.repeatable || failure.is_before_work())
            || (call.max_attempts > 0 && self.attempts >= call.max_attempts);
        if is_final {
            return Next::End;
        }
        let is_overloaded = failure.http_status == Some(PROVIDER_OVERLOADED) && !is_last;
        if !pool.balanced || is_overloaded {
            return Next::Pool;
        }
        // Where nobody is left there will be no retry, and the budget pays for none.
        progress.spent = progress.has_members_left(pool)
            && (!self.engine.latencies.allow(pool.roster.id, self.mode, call.left())
                || !self.engine.budgets.allow(pool.roster.id, failure.class));
        if progress.spent { Next::Pool } else { Next::Member }
    }
}

impl PoolProgress {
    /// Whether a member of the pool may still be tried, now or later.
    fn has_members_left(&self, pool: &Pool) -> bool {
        usable(pool).is_ok() && !self.spent && self.tried.len() < pool.members.len()
    }
}

/// Whether a pool can be called at all.
///
/// # Errors
/// Why it cannot.
pub(super) fn usable(pool: &Pool) -> Result<(), CallError> {
    if !pool.enabled {
        Err(CallError::Disabled)
    } else if !pool.members.is_empty() {
        Ok(())
    } else if pool.unreadable {
        Err(CallError::Unreadable)
    } else {
        Err(CallError::NoCredentials)
    }
}
