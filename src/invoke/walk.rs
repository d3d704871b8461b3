//! The walk of one call: pool after pool of its chain, member after member of a pool.

use super::{
    attempt::Attempt,
    call::{Call, CallMode},
    engine::Engine,
    error::CallError,
    history::CallHistory,
    pick::{FirstBack, LeaseLifetime, PickRequest, wait_for_first_back},
    route::Route,
};
use crate::{
    balance::{Doubt, ErrorClass, Failure},
    catalog::{Pool, PoolMember},
    provider::{Driver, Target},
};
use futures::future::BoxFuture;
use std::{borrow::Cow, mem, sync::Arc};

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
    /// Indices of members that are passed over until the call has waited: their address could not be reached.
    out_of_reach: Vec<usize>,
    /// Indices of members whose turn comes after all others, and after fallbacks: one at their address hung.
    held_back: Vec<usize>,
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
        let mut walk =
            Walk { engine: self, call, mode, request, attempts: 0, billed: 0, doubtful: None, history };
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
            if progress.iter_mut().any(PoolProgress::let_in_held_back) {
                continue;
            }
            let is_member_left =
                chain.iter().zip(&progress).any(|(pool, progress)| progress.has_members_left(pool));
            if is_member_left && wait_for_first_back(named, first_back, self.call.deadline).await {
                progress.iter_mut().for_each(|progress| progress.out_of_reach.clear());
                continue;
            }
            if first_back.is_none() && self.attempts == 0 {
                usable(named)?;
            }
            return Err(self.history.fail(first_back, true));
        }
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
            let tried = progress.passed_over();
            let pick = PickRequest {
                pool,
                tried: &tried,
                tokens: self.call.tokens,
                deadline: self.call.deadline,
                lifetime: LeaseLifetime::Attempt(self.mode.limit(timeouts)),
                is_last,
            };
            let picked = self.engine.wait_for_member(&pick, failed.take()).await;
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
            let failed_attempt = FailedAttempt { pool, is_last, index, member, attempt, failure };
            match Box::pin(self.after_failure(failed_attempt, progress)).await? {
                Onward::Member(attempt) => failed = attempt,
                Onward::Pool => return Ok(PoolOutcome::NextPool(None)),
            }
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
        progress.pass_over_siblings(pool, index, &failure, cut_short);
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
        progress.spent = progress.has_members_within_reach(pool)
            && (!self.engine.latencies.allow(pool.roster.id, self.mode, call.left())
                || !self.engine.budgets.allow(pool.roster.id, failure.class));
        if progress.spent { Next::Pool } else { Next::Member }
    }
}

impl PoolProgress {
    /// Those that may not be picked now.
    fn passed_over(&self) -> Cow<'_, [usize]> {
        if self.out_of_reach.is_empty() && self.held_back.is_empty() {
            return Cow::Borrowed(&self.tried);
        }
        Cow::Owned([&*self.tried, &*self.out_of_reach, &*self.held_back].concat())
    }

    /// Passes over the members that a failure of the one at `index` says something of: all of an address that cannot be
    /// reached, and for a while those that would hang with it.
    fn pass_over_siblings(&mut self, pool: &Pool, index: usize, failure: &Failure, cut_short: bool) {
        let hung = failure.class == ErrorClass::Timeout && !cut_short;
        let of_address = failure.is_of_address() && !failure.ours;
        let Some((one, target)) = pool.roster.members.get(index).zip(pool.members.get(index)) else { return };
        if !(of_address || hung) || one.address.is_empty() {
            return;
        }
        let all = pool.roster.members.iter().zip(&pool.members).enumerate();
        let siblings = all
            .filter(|(_, (other, _))| other.address == one.address)
            .filter(|(_, (_, other))| of_address || other.target.model == target.target.model)
            .map(|(sibling, _)| sibling);
        let passed_over = self.passed_over();
        let siblings: Vec<_> = siblings.filter(|sibling| !passed_over.contains(sibling)).collect();
        let list = if of_address { &mut self.out_of_reach } else { &mut self.held_back };
        list.extend(siblings);
    }

    /// Ends the waiting of those held back. Returns whether there were any that may be tried.
    fn let_in_held_back(&mut self) -> bool {
        !mem::take(&mut self.held_back).is_empty() && !self.spent
    }

    /// Whether a member of the pool may be tried without waiting.
    fn has_members_within_reach(&self, pool: &Pool) -> bool {
        self.has_members_left(pool) && self.tried.len() + self.out_of_reach.len() < pool.members.len()
    }

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
