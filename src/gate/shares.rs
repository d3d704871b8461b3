//! How a thing that all callers share is divided between them: calls at once, bytes of requests, connections.
//!
//! - A tenant that is alone may use all of it.
//! - While another tenant is active, a tenant may use half of it, unless a setting names another number.
//! - Above the bound there is a quarter more. It is for tenants that use at most a sixteenth, so that whoever comes while
//!   others use everything still finds room.
//! - Operators have a sixteenth of their own beside all that.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How much there is, and how much of it one tenant may use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bound {
    /// How much there is.
    pub most: usize,
    /// How much one tenant may use, whoever else is active; 0: no limit. `None`: half while another tenant is active.
    pub each: Option<usize>,
}

/// Who uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// A tenant, and whether no other is active.
    Tenant {
        /// No other tenant is active.
        alone: bool,
    },
    /// The operators, together.
    Operators,
}

/// What there is no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The tenant's own part.
    Tenant,
    /// All of it.
    All,
}

impl Bound {
    /// Takes so much more, and counts it in both counters.
    ///
    /// # Errors
    /// Where that is too much. Nothing is counted then.
    pub fn take(&self, all: &AtomicUsize, own: &AtomicUsize, party: Party, more: usize) -> Result<(), Over> {
        let mine = own.fetch_add(more, Relaxed).saturating_add(more);
        let total = all.fetch_add(more, Relaxed).saturating_add(more);
        self.admits(party, mine, total, more).inspect_err(|_| give_back(all, own, more))
    }

    /// `mine` and `total` include what is asked for.
    fn admits(&self, party: Party, mine: usize, total: usize, more: usize) -> Result<(), Over> {
        let is_small = mine <= (self.most / 16).max(1);
        let limit = match (self.each, party) {
            (_, Party::Operators) | (Some(0), _) | (None, Party::Tenant { alone: true }) => usize::MAX,
            (Some(each), _) => each,
            // Whatever the bound, who uses nothing may have one.
            (None, Party::Tenant { alone: false }) => (self.most / 2).max(more),
        };
        let room = match party {
            Party::Operators if is_small => usize::MAX,
            Party::Tenant { .. } if is_small => self.most.saturating_add((self.most / 4).max(1)),
            _ => self.most,
        };
        match (mine > limit, total > room) {
            (true, _) => Err(Over::Tenant),
            (_, true) => Err(Over::All),
            _ => Ok(()),
        }
    }
}

/// Gives back what was taken.
pub fn give_back(all: &AtomicUsize, own: &AtomicUsize, much: usize) {
    own.fetch_sub(much, Relaxed);
    all.fetch_sub(much, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALONE: Party = Party::Tenant { alone: true };
    const BESIDE: Party = Party::Tenant { alone: false };

    /// How many one gets, one after the other, until it is refused.
    fn taken(bound: Bound, all: &AtomicUsize, party: Party) -> (usize, Over) {
        let own = AtomicUsize::new(0);
        loop {
            if let Err(over) = bound.take(all, &own, party, 1) {
                return (own.into_inner(), over);
            }
        }
    }

    #[test]
    fn one_alone_may_use_all_and_who_comes_then_finds_room() {
        let bound = Bound { most: 160, each: None };
        let all = AtomicUsize::new(0);
        assert_eq!(taken(bound, &all, ALONE), (160, Over::All));
        for _ in 0..4 {
            assert_eq!(taken(bound, &all, BESIDE), (10, Over::All));
        }
        assert_eq!(taken(bound, &all, BESIDE), (0, Over::All));
        assert_eq!(taken(bound, &all, Party::Operators), (10, Over::All));
    }

    #[test]
    fn beside_others_one_may_use_half_or_what_is_set() {
        let half = Bound { most: 160, each: None };
        assert_eq!(taken(half, &AtomicUsize::new(0), BESIDE), (80, Over::Tenant));
        for party in [ALONE, BESIDE] {
            let set = Bound { most: 160, each: Some(3) };
            assert_eq!(taken(set, &AtomicUsize::new(0), party), (3, Over::Tenant));
            let unlimited = Bound { most: 160, each: Some(0) };
            assert_eq!(taken(unlimited, &AtomicUsize::new(0), party), (160, Over::All));
        }
        // Of very little, each may have one.
        let one = Bound { most: 1, each: None };
        assert_eq!(taken(one, &AtomicUsize::new(0), BESIDE), (1, Over::Tenant));
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_the_bound_a_quarter_and_a_sixteenth(
            most in 16..2000usize,
            steps in prop::collection::vec((0..6usize, 0..300usize, any::<bool>()), 1..200),
        ) {
            let bound = Bound { most, each: None };
            let (all, owns): (_, [AtomicUsize; 6]) = (AtomicUsize::new(0), Default::default());
            for (who, more, gives) in steps {
                let own = &owns[who];
                if gives {
                    give_back(&all, own, own.load(Relaxed));
                    continue;
                }
                let party = if who == 0 { Party::Operators } else { BESIDE };
                let before = own.load(Relaxed);
                let outcome = bound.take(&all, own, party, more);
                prop_assert_eq!(own.load(Relaxed), if outcome.is_ok() { before + more } else { before });
                let sum: usize = owns.iter().map(|own| own.load(Relaxed)).sum();
                prop_assert_eq!(all.load(Relaxed), sum);
                prop_assert!(sum <= most + most / 4 + most / 16, "{} of {}", sum, most);
            }
        }
    }
}
