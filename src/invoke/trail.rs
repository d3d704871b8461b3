//! How far a call is on its chain: which members it has tried, and which models it passes by.

use super::{call::Call, error::CallError};
use crate::{
    balance::{ErrorClass, Failure},
    catalog::Pool,
};
use std::{borrow::Cow, mem, sync::Arc};

/// How far a call is.
pub(super) struct Trail {
    /// With each pool of the chain.
    pub(super) pools: Vec<PoolProgress>,
    /// The place of the pool that was tried last.
    pub(super) place: usize,
    /// How many attempts have begun.
    pub(super) attempts: usize,
    /// How many answers came that were billed and say nothing.
    pub(super) billed: usize,
}

/// How far a call is with one pool.
#[derive(Clone, Default)]
pub(super) struct PoolProgress {
    /// Whether the pool's retry budget has counted the call.
    pub(super) counted: bool,
    /// Whether no more of its members may be tried: the retry budget is spent, too little time is left, or the request does
    /// not fit.
    pub(super) spent: bool,
    /// How often a member was tried again.
    pub(super) again: u8,
    /// Indices of the members tried, and of those that are left out.
    pub(super) tried: Vec<usize>,
    /// Indices of members that are passed over until the call has waited: their address could not be reached.
    out_of_reach: Vec<usize>,
    /// Indices of members whose turn comes after all others, and after fallbacks: one at their address hung.
    held_back: Vec<usize>,
}

impl Trail {
    /// That of a call that begins. Models that cannot hold the request are passed by, unless none can.
    pub(super) fn new(call: &Call) -> Self {
        let mut pools = vec![PoolProgress::default(); call.chain.len()];
        if let Some(size) = call.size
            && call.chain.iter().any(|pool| usable(pool).is_ok() && holds(pool, size))
        {
            for (pool, progress) in call.chain.iter().zip(&mut pools) {
                progress.spent = !holds(pool, size);
            }
        }
        Self { pools, place: 0, attempts: 0, billed: 0 }
    }

    /// Leaves out the members that `refuses`.
    pub(super) fn leave_out(&mut self, chain: &[Arc<Pool>], refuses: impl Fn(&Pool, usize) -> bool) {
        for (pool, progress) in chain.iter().zip(&mut self.pools) {
            let left = (0..pool.members.len()).filter(|index| !progress.tried.contains(index));
            let refusing: Vec<_> = left.filter(|&index| refuses(pool, index)).collect();
            progress.tried.extend(refusing);
        }
    }

    /// Whether members of any pool are passed over for now.
    pub(super) fn passes_over_some(&self) -> bool {
        self.pools.iter().any(PoolProgress::passes_over_some)
    }

    /// Lets in the members that were held back. Returns whether there were any that may be tried.
    pub(super) fn lets_in_held_back(&mut self) -> bool {
        self.pools
            .iter_mut()
            .any(|progress| !mem::take(&mut progress.held_back).is_empty() && !progress.spent)
    }

    /// The call has waited: addresses that could not be reached may be tried again.
    pub(super) fn forget_reach(&mut self) {
        for progress in &mut self.pools {
            progress.out_of_reach.clear();
        }
    }

    /// Whether a member of any pool from this place on may still be tried.
    pub(super) fn is_member_left(&self, chain: &[Arc<Pool>], from: usize) -> bool {
        chain.iter().zip(&self.pools).skip(from).any(|(pool, progress)| progress.has_members_left(pool))
    }
}

impl PoolProgress {
    /// Whether members are passed over for now.
    pub(super) fn passes_over_some(&self) -> bool {
        !(self.out_of_reach.is_empty() && self.held_back.is_empty())
    }

    /// Those that may not be picked now.
    pub(super) fn passed_over(&self) -> Cow<'_, [usize]> {
        if !self.passes_over_some() {
            return Cow::Borrowed(&self.tried);
        }
        Cow::Owned([&*self.tried, &*self.out_of_reach, &*self.held_back].concat())
    }

    /// Passes over the members that a failure of the one at `index` says something of: all of an address that cannot be
    /// reached, and for a while those that would hang with it.
    pub(super) fn pass_over_siblings(
        &mut self,
        pool: &Pool,
        index: usize,
        failure: &Failure,
        cut_short: bool,
    ) {
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

    /// Whether a member of the pool may be tried without waiting.
    pub(super) fn has_members_within_reach(&self, pool: &Pool) -> bool {
        self.has_members_left(pool) && self.tried.len() + self.out_of_reach.len() < pool.members.len()
    }

    /// Whether a member of the pool may still be tried, now or later.
    pub(super) fn has_members_left(&self, pool: &Pool) -> bool {
        usable(pool).is_ok() && !self.spent && self.tried.len() < pool.members.len()
    }
}

/// Whether the pool's model can hold so many tokens, as far as is known.
fn holds(pool: &Pool, size: u64) -> bool {
    pool.context_window.is_none_or(|window| size <= window.get().into())
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
