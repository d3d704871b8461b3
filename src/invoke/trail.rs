//! How far a call is on its chain: which members it has tried, and which models it passes by.

use super::{call::Call, error::CallError};
use crate::catalog::Pool;
use std::sync::Arc;

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

    /// Whether a member of any pool from this place on may still be tried.
    pub(super) fn is_member_left(&self, chain: &[Arc<Pool>], from: usize) -> bool {
        chain.iter().zip(&self.pools).skip(from).any(|(pool, progress)| progress.has_members_left(pool))
    }
}

impl PoolProgress {
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
