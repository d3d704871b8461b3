//! What is remembered of one member, or of one credential, that has failed.
//!
//! Times are milliseconds on the store's own clock. `src/state/redis/common.lua` holds the same rules.

use super::{Cooldown, ErrorClass, LeaseId};

/// The memory of failures. One that says nothing ([`Record::is_clear`]) need not be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// When the running or last cooldown began; 0 without one.
    pub since: u64,
    /// When it ends; 0 without one.
    pub until: u64,
    /// Why it cools.
    pub class: Option<ErrorClass>,
    /// Failures in a row that have not tripped yet.
    pub streak: u32,
    /// The trial call that is on its way.
    pub trial: Option<Trial>,
}

/// The one call that tries a member whose cooldown is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Whose it is.
    pub lease: LeaseId,
    /// When another may try, should this one never report.
    pub until: u64,
}

/// Whether one may serve now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Available,
    /// One trial call may go.
    HalfOpen,
    /// The trial call is on its way.
    TrialRunning,
    /// Not before that time.
    Cooling {
        /// The end of the cooldown.
        until: u64,
        /// Why it cools.
        class: ErrorClass,
    },
}

impl Record {
    /// Where it stands at `now`.
    #[must_use]
    pub fn standing(&self, now: u64) -> Standing {
        let Some(class) = self.class else { return Standing::Available };
        if now < self.until {
            return Standing::Cooling { until: self.until, class };
        }
        match self.trial {
            Some(trial) if now < trial.until => Standing::TrialRunning,
            _ => Standing::HalfOpen,
        }
    }

    /// Takes the trial, where one is due.
    pub fn try_out(&mut self, now: u64, trial: Trial) {
        if self.standing(now) == Standing::HalfOpen {
            self.trial = Some(trial);
        }
    }

    /// A call that began at `began` under `lease` failed. A cooldown never gets shorter by it.
    pub fn fail(&mut self, now: u64, began: u64, lease: LeaseId, cooldown: &Cooldown) {
        let was_trial = self.end_trial(lease);
        // It began before the cooldown that its fellows have already earned: nothing new, unless the provider names
        // a time.
        let late = self.class.is_some() && began < self.since && !was_trial;
        if late && !cooldown.hinted {
            return;
        }
        self.streak += 1;
        if !was_trial && self.streak < cooldown.trip_after {
            return;
        }
        let millis = u64::try_from(cooldown.duration.as_millis()).unwrap_or(u64::MAX);
        let until = now.saturating_add(millis);
        if self.class.is_none() || now >= self.until {
            self.since = now;
        }
        if until > self.until {
            self.until = until;
            self.class = Some(cooldown.class);
        }
        self.streak = 0;
        self.trial = None;
    }

    /// A call under `lease` served. Ends the cooldown when it was the trial; otherwise only a row of failures that
    /// had not tripped: success of a call from before the cooldown says nothing about now.
    pub fn succeed(&mut self, lease: LeaseId) {
        if self.class.is_none() || self.end_trial(lease) {
            *self = Self::default();
        }
    }

    /// The call under `lease` ended without a verdict: the next may try.
    pub fn hand_on(&mut self, lease: LeaseId) {
        self.end_trial(lease);
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.class.is_none() && self.streak == 0
    }

    fn end_trial(&mut self, lease: LeaseId) -> bool {
        let mine = self.trial.is_some_and(|trial| trial.lease == lease);
        if mine {
            self.trial = None;
        }
        mine
    }
}

impl Standing {
    /// Where a member stands whose own record says `self` and whose credential's says `other`: the worse of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Cooling { until: a, .. }, Self::Cooling { until: b, .. }) => {
                if a >= b {
                    self
                } else {
                    other
                }
            }
            (Self::Cooling { .. }, _) => self,
            (_, Self::Cooling { .. }) => other,
            (Self::TrialRunning, _) | (_, Self::TrialRunning) => Self::TrialRunning,
            (Self::HalfOpen, _) | (_, Self::HalfOpen) => Self::HalfOpen,
            (Self::Available, Self::Available) => Self::Available,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Scope;
    use proptest::prelude::*;
    use std::time::Duration;

    fn cooldown(millis: u64, hinted: bool, trip_after: u32) -> Cooldown {
        Cooldown {
            class: ErrorClass::RateLimited,
            scope: Scope::Member,
            duration: Duration::from_millis(millis),
            hinted,
            trip_after,
        }
    }

    fn cooling(until: u64) -> Standing {
        Standing::Cooling { until, class: ErrorClass::RateLimited }
    }

    #[test]
    fn a_cooldown_ends_in_one_trial() {
        let mut record = Record::default();
        let (first, second) = (LeaseId::random(), LeaseId::random());
        record.fail(100, 50, first, &cooldown(1000, false, 1));
        assert_eq!(record.standing(1099), cooling(1100));
        assert_eq!(record.standing(1100), Standing::HalfOpen);
        record.try_out(1100, Trial { lease: second, until: 1500 });
        assert_eq!(record.standing(1100), Standing::TrialRunning);
        assert_eq!(record.standing(1500), Standing::HalfOpen, "a trial that never reports expires");
        record.succeed(first);
        assert_eq!(record.standing(1200), Standing::TrialRunning, "only the trial's own success counts");
        record.succeed(second);
        assert!(record.is_clear());
    }

    #[test]
    fn a_trial_that_fails_cools_again_and_one_without_verdict_is_handed_on() {
        let mut record = Record::default();
        record.fail(0, 0, LeaseId::random(), &cooldown(10, false, 1));
        let trial = LeaseId::random();
        record.try_out(10, Trial { lease: trial, until: 1000 });
        record.hand_on(trial);
        assert_eq!(record.standing(11), Standing::HalfOpen);
        let trial = LeaseId::random();
        record.try_out(11, Trial { lease: trial, until: 1000 });
        record.fail(20, 11, trial, &cooldown(10, false, 3));
        assert_eq!(record.standing(29), cooling(30), "a failed trial trips at once");
    }

    #[test]
    fn a_late_failure_counts_only_with_a_hint() {
        let mut record = Record::default();
        record.fail(100, 90, LeaseId::random(), &cooldown(1000, false, 1));
        record.fail(600, 95, LeaseId::random(), &cooldown(1000, false, 1));
        assert_eq!(record.until, 1100);
        record.fail(600, 95, LeaseId::random(), &cooldown(1000, true, 1));
        assert_eq!(record.until, 1600);
    }

    #[test]
    fn failures_in_a_row_trip_and_a_success_between_clears_them() {
        let mut record = Record::default();
        let rule = cooldown(1000, false, 3);
        record.fail(1, 1, LeaseId::random(), &rule);
        record.fail(2, 2, LeaseId::random(), &rule);
        record.succeed(LeaseId::random());
        record.fail(3, 3, LeaseId::random(), &rule);
        record.fail(4, 4, LeaseId::random(), &rule);
        assert_eq!(record.standing(4), Standing::Available);
        record.fail(5, 5, LeaseId::random(), &rule);
        assert_eq!(record.standing(5), cooling(1005));
    }

    proptest! {
        #[test]
        fn a_cooldown_never_gets_shorter(
            failures in proptest::collection::vec((1u64..50, 0u64..200, 1u64..500, any::<bool>(), 1u32..4), 1..60)
        ) {
            let mut record = Record::default();
            let mut now = 1000;
            for (step, age, millis, hinted, trip) in failures {
                now += step;
                let before = record.until;
                record.fail(now, now - age, LeaseId::random(), &cooldown(millis, hinted, trip));
                prop_assert!(record.until >= before);
            }
        }
    }
}
