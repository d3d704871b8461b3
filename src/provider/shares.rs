//! What all tenants of a replica use, and of which each may have a part: connections, bytes of answers, calls at a provider.
//!
//! A tenant may take more as long as it then holds at most three times what was free (the dynamic thresholds of Choudhury
//! and Hahne, 1998). So one alone gets three quarters, two get three sevenths each, and whoever comes finds something free.
//! One number a tenant is all that this needs.

use crate::balance::Full;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// How many times what is free a tenant may hold.
const GREED: usize = 3;

/// How much there is, and who holds what of it.
#[derive(Debug)]
pub(super) struct Counts {
    most: usize,
    all: usize,
    by_tenant: HashMap<Uuid, usize>,
}

impl Counts {
    pub(super) fn new(most: usize) -> Self {
        Self { most, all: 0, by_tenant: HashMap::new() }
    }

    /// Says how much there is. What is held stays held.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// Whether the tenant may take so much more.
    pub(super) fn check(&self, tenant: Uuid, amount: usize) -> Result<(), Full> {
        let free = self.most.saturating_sub(self.all);
        if amount > free {
            return Err(Full::Replica);
        }
        let held = self.by_tenant.get(&tenant).copied().unwrap_or_default();
        if held + amount > free.saturating_mul(GREED) { Err(Full::Tenant) } else { Ok(()) }
    }

    /// About how much more the tenant may take.
    pub(super) fn room(&self, tenant: Uuid) -> usize {
        let free = self.most.saturating_sub(self.all);
        let held = self.by_tenant.get(&tenant).copied().unwrap_or_default();
        free.min(free.saturating_mul(GREED).saturating_sub(held))
    }

    pub(super) fn take(&mut self, tenant: Uuid, amount: usize) -> Result<(), Full> {
        self.check(tenant, amount)?;
        self.all += amount;
        *self.by_tenant.entry(tenant).or_default() += amount;
        Ok(())
    }

    pub(super) fn give_back(&mut self, tenant: Uuid, amount: usize) {
        self.all = self.all.saturating_sub(amount);
        if let Some(held) = self.by_tenant.get_mut(&tenant) {
            *held = held.saturating_sub(amount);
            if *held == 0 {
                self.by_tenant.remove(&tenant);
            }
        }
    }
}

/// The same for many threads. What is taken is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Shares(Mutex<Counts>);

impl Shares {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Counts::new(most))))
    }

    /// Takes so much for a tenant.
    pub(super) fn take(self: &Arc<Self>, tenant: Uuid, amount: usize) -> Result<Share, Full> {
        self.0.lock().take(tenant, amount)?;
        Ok(Share { of: self.clone(), tenant, amount })
    }
}

/// What a tenant holds, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Shares>,
    tenant: Uuid,
    amount: usize,
}

impl Share {
    /// Whose it is.
    pub(super) fn tenant(&self) -> Uuid {
        self.tenant
    }

    /// How much it is.
    pub(super) fn amount(&self) -> usize {
        self.amount
    }

    /// Makes it another tenant's.
    pub(super) fn pass_to(&mut self, tenant: Uuid) -> Result<(), Full> {
        if self.tenant != tenant {
            let mut counts = self.of.0.lock();
            counts.take(tenant, self.amount)?;
            counts.give_back(self.tenant, self.amount);
            self.tenant = tenant;
        }
        Ok(())
    }

    /// Makes it so large. Where there is not so much, it stays as it is.
    pub(super) fn resize(&mut self, amount: usize) -> Result<(), Full> {
        let mut counts = self.of.0.lock();
        match amount.checked_sub(self.amount) {
            Some(more) => counts.take(self.tenant, more)?,
            None => counts.give_back(self.tenant, self.amount - amount),
        }
        self.amount = amount;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.lock().give_back(self.tenant, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// Takes one after the other until there is no more.
    fn fill(shares: &Arc<Shares>, of: Uuid) -> (Vec<Share>, Full) {
        let mut held = Vec::new();
        loop {
            match shares.take(of, 1) {
                Ok(share) => held.push(share),
                Err(full) => return (held, full),
            }
        }
    }

    #[test]
    fn one_alone_gets_three_quarters_and_the_next_finds_something_free() {
        let shares = Shares::new(1000);
        let (first, full) = fill(&shares, tenant(1));
        assert_eq!((first.len(), full), (750, Full::Tenant));
        let (second, full) = fill(&shares, tenant(2));
        assert_eq!((second.len(), full), (188, Full::Tenant));
        assert!(shares.take(tenant(3), 1).is_ok());
        drop(first);
        assert!(shares.take(tenant(2), 1).is_ok());
        drop(second);
        let counts = shares.0.lock();
        assert!(counts.all == 0 && counts.by_tenant.is_empty(), "{counts:?}");
    }

    #[test]
    fn a_small_whole_can_be_used_up_and_says_so() {
        for most in 1..=3 {
            let shares = Shares::new(most);
            let (held, full) = fill(&shares, tenant(1));
            assert_eq!((held.len(), full), (most, Full::Replica), "of {most}");
        }
    }

    #[test]
    fn a_share_grows_shrinks_and_changes_hands() {
        let shares = Shares::new(100);
        let mut share = shares.take(tenant(1), 10).unwrap();
        share.resize(75).unwrap();
        assert_eq!(share.resize(101), Err(Full::Replica));
        assert_eq!(share.resize(90), Err(Full::Tenant));
        share.resize(20).unwrap();
        share.pass_to(tenant(2)).unwrap();
        assert_eq!(shares.0.lock().by_tenant, HashMap::from([(tenant(2), 20)]));
        drop(share);
        assert_eq!(shares.0.lock().all, 0);
    }

    proptest! {
        #[test]
        fn counts_add_up(
            asked in prop::collection::vec((0..5u128, 1..40usize), 0..200),
        ) {
            let mut counts = Counts::new(1000);
            for (of, amount) in asked {
                let _ = counts.take(tenant(of), amount);
                prop_assert!(counts.all <= 1000);
                prop_assert_eq!(counts.all, counts.by_tenant.values().sum::<usize>());
                let room = counts.room(tenant(of));
                prop_assert!(room == 0 || counts.check(tenant(of), 1).is_ok());
            }
        }
    }
}
