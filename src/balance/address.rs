//! What one replica remembers of an address: of a scheme, a host and a port.
//!
//! A resolver, a connection or TLS that fails says something of the address as this replica sees it, and nothing of a key.
//! Such failures are kept apart from the members' records. Kong's page "Health Checks and Circuit Breakers Reference" keeps
//! health by node for the same reason.

use super::{Cooldown, Cooling, ErrorClass, LeaseId, Record, Standing, Time, record::KEPT};
use std::time::Duration;

/// Where nobody else may serve, an address is tried again so soon after it has failed.
pub const LAST_RESORT: Duration = Duration::from_secs(1);
/// A word of another replica counts for this long.
pub const VOTE_WINDOW: Duration = Duration::from_secs(30);

/// A failure that goes on is told again so often: other replicas have not forgotten it by then.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// A trial that has lived longer than the failure took is not failing in the same way, so the next may go. A refusal comes at
/// once …
const SHORT_TRIAL: Duration = Duration::from_secs(1);
/// … and a connection that hangs at the end of the usual limit.
const LONG_TRIAL: Duration = Duration::from_secs(5);

/// The memory of one address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRecord {
    record: Record,
    /// When it failed first, since it last served, and when last. None: it did not fail here.
    failed: Option<(Time, Time)>,
    /// When its failure was last worth telling.
    told: Option<Time>,
    /// Whether the tenant has set the time of its cooldown: nobody is let through before.
    is_exact: bool,
    /// Whether its cooldown is by word of other replicas.
    is_learned: bool,
    /// When another replica last said that it fails.
    doubted: Option<Time>,
    /// When it last served here since somebody doubts it.
    served: Option<Time>,
    /// Whether another replica was served since it failed here.
    serves_others: bool,
}

impl AddressRecord {
    /// Where it stands.
    #[must_use]
    pub fn standing(&self, now: Time) -> Standing {
        match self.record.standing(now) {
            // How long a trial takes that cannot reach it is known: the next goes when that time is over.
            Standing::Joinable => Standing::TrialRunning,
            standing => standing,
        }
    }

    /// A call could not reach it. Returns whether that is worth telling other replicas. Of calls that began before its cooldown
    /// nothing is taken in.
    pub fn fail(&mut self, now: Time, cooldown: &Cooldown) -> bool {
        if self.standing(now).cooling().is_some() && !self.is_learned {
            return false;
        }
        self.record.fail(now, now, None, cooldown);
        self.failed = Some((self.failed.map_or(now, |(first, _)| first), now));
        (self.is_exact, self.is_learned) = (!cooldown.grows, false);
        let is_news = self.told.is_none_or(|told| now >= told + TOLD_EVERY);
        if is_news {
            self.told = Some(now);
        }
        is_news
    }

    /// A call was answered from there. Returns whether that is news to those who doubt it. While it cools by what this replica
    /// has seen itself, an old connection may still answer where no new one can be made: that ends nothing.
    pub fn serve(&mut self, now: Time) -> bool {
        let doubted = self.is_doubted(now) && self.served < self.doubted;
        self.served = Some(now);
        if self.standing(now) == Standing::Available || !self.may_recover(now) {
            return doubted;
        }
        self.recover(now);
        true
    }

    /// It is well, by word of a health check or of an operator.
    pub fn recover(&mut self, now: Time) {
        self.record.recover(now);
        (self.failed, self.told) = (None, None);
        (self.is_learned, self.serves_others) = (false, false);
    }

    /// Takes its trial, where one is due.
    pub fn begin(&mut self, now: Time, lease: LeaseId) -> bool {
        let due = self.standing(now) == Standing::HalfOpen;
        if due {
            let hangs = self.record.cooling.is_some_and(|cooling| cooling.class == ErrorClass::Timeout);
            let ends = now + if hangs { LONG_TRIAL } else { SHORT_TRIAL };
            self.record.begin(now, lease, ends);
        }
        due
    }

    /// The call under `lease` ended without a verdict: the next may try.
    pub fn hand_on(&mut self, lease: LeaseId) {
        self.record.hand_on(lease);
    }

    /// When it may be tried though it cools, since nobody else may serve. A time that the tenant has set is obeyed.
    #[must_use]
    pub fn last_resort(&self, now: Time) -> Option<Time> {
        let ends = self.standing(now).cooling()?.ends;
        let last = self.failed.map(|(_, last)| last).or(self.record.since).filter(|_| !self.is_exact)?;
        Some(ends.min(last + LAST_RESORT))
    }

    /// Ends the cooldown for the sake of a trial.
    pub fn cut_short(&mut self, now: Time) {
        if let Some(cooling) = &mut self.record.cooling {
            cooling.ends = cooling.ends.min(now);
        }
    }

    /// Most replicas that have tried it cannot reach it. It cools here as well, unless this replica has a view of its own.
    pub fn learn(&mut self, now: Time, cooling: Cooling) {
        let own = self.failed.is_some() || self.served.is_some_and(|served| now < served + VOTE_WINDOW);
        if !own && self.standing(now) == Standing::Available {
            self.record.set(now, cooling);
            self.is_learned = true;
        }
    }

    /// Another replica could not reach it: the next call that is served from there is worth telling.
    pub fn doubt(&mut self, now: Time) {
        self.doubted = Some(now);
    }

    /// Another replica was served from there. Returns whether this one fails where others do not.
    pub fn serves_elsewhere(&mut self, now: Time) -> bool {
        if self.is_learned {
            self.recover(now);
        }
        self.serves_others = self.failed.is_some();
        self.serves_others
    }

    /// Since when it fails here, where it has failed lately, and whether others are served from there.
    #[must_use]
    pub fn fails_here(&self, now: Time) -> Option<(Time, bool)> {
        let (first, last) = self.failed?;
        (now < last + VOTE_WINDOW).then_some((first, self.serves_others))
    }

    /// Whether there is nothing left to remember.
    #[must_use]
    pub fn is_spent(&self, now: Time) -> bool {
        let is_over = match self.record.cooling {
            // Nobody has called since.
            Some(cooling) => now >= cooling.ends + KEPT,
            None => self.record.is_spent(now),
        };
        is_over && !self.is_doubted(now)
    }

    fn is_doubted(&self, now: Time) -> bool {
        self.doubted.is_some_and(|doubted| now < doubted + VOTE_WINDOW)
    }

    /// Whether an answer ends its cooldown: where that is over, or was never seen here.
    fn may_recover(&self, now: Time) -> bool {
        self.is_learned || self.standing(now).cooling().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Cooldowns, Failure};
    use proptest::prelude::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_000_000 + seconds * 1000)
    }

    fn refused() -> Cooldown {
        let failure = Failure { unsent: true, ..Failure::new(ErrorClass::Connection, "refused") };
        Cooldowns::default().decide(&failure, 0.0).unwrap()
    }

    fn agreed(now: Time) -> Cooling {
        Cooling { ends: now + Duration::from_secs(10), class: ErrorClass::Connection }
    }

    fn cools(record: &AddressRecord, now: Time) -> bool {
        record.standing(now).cooling().is_some()
    }

    #[test]
    fn failures_of_calls_that_began_before_say_nothing_new() {
        let mut record = AddressRecord::default();
        assert!(record.fail(at(0), &refused()));
        assert!(!record.fail(at(5), &refused()));
        assert_eq!(record.standing(at(10)), Standing::HalfOpen);
        assert!(record.fail(at(10), &refused()));
        assert!(cools(&record, at(29)), "it has doubled");
    }

    #[test]
    fn an_old_connection_that_answers_ends_no_cooldown_that_was_seen_here() {
        let mut record = AddressRecord::default();
        record.fail(at(0), &refused());
        assert!(!record.serve(at(1)));
        assert!(cools(&record, at(1)));
        assert!(record.serve(at(11)), "the trial has served");
        assert_eq!(record.standing(at(11)), Standing::Available);
        assert!(!record.serve(at(12)), "once is enough");
    }

    #[test]
    fn what_others_say_counts_where_nothing_better_is_known() {
        let mut record = AddressRecord::default();
        record.doubt(at(0));
        record.learn(at(0), agreed(at(0)));
        assert!(cools(&record, at(1)));
        assert!(record.serve(at(2)), "one that was on its way has been served");
        assert!(!cools(&record, at(2)));
        record.learn(at(3), agreed(at(3)));
        assert!(!cools(&record, at(3)), "it has served here");
        record.learn(at(40), agreed(at(40)));
        assert!(cools(&record, at(40)));
        assert!(!record.serves_elsewhere(at(41)) && !cools(&record, at(41)));
        record.fail(at(42), &refused());
        assert!(record.serves_elsewhere(at(43)) && cools(&record, at(43)), "it fails here alone");
    }

    #[test]
    fn a_success_is_told_once_to_each_who_doubts() {
        let mut record = AddressRecord::default();
        assert!(!record.serve(at(0)));
        record.doubt(at(1));
        assert!(record.serve(at(2)) && !record.serve(at(3)));
        record.doubt(at(4));
        assert!(record.serve(at(5)));
        record.doubt(at(6));
        assert!(!record.serve(at(40)), "nobody doubts any more");
    }

    proptest! {
        /// Whatever happens, it cools for 33 s at most, and its last resort comes a second after its failure.
        #[test]
        fn it_is_never_away_for_long(steps in proptest::collection::vec((0u64..60_000, 0u8..5), 1..80)) {
            let (mut record, mut now) = (AddressRecord::default(), at(0));
            for (later, event) in steps {
                now = now + Duration::from_millis(later);
                match event {
                    0 => record.doubt(now),
                    1 => record.learn(now, agreed(now)),
                    2 => drop(record.serve(now)),
                    3 => drop(record.serves_elsewhere(now)),
                    _ => drop(record.fail(now, &refused())),
                }
                if let Some(cooling) = record.standing(now).cooling() {
                    prop_assert!(cooling.ends <= now + Duration::from_secs(33));
                    prop_assert!(record.last_resort(now).is_some_and(|due| due <= now + LAST_RESORT));
                }
                prop_assert!(record.is_spent(now + Duration::from_secs(2000)));
            }
        }
    }
}
