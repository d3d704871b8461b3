//! What is remembered of one member, or of one credential, that has failed.
//!
//! Times are milliseconds on the store's own clock; 0 means never. `src/state/redis/common.lua` holds the same rules.

use super::{Cooldown, ErrorClass, LeaseId};

/// The memory of failures. One that has nothing left to say ([`Record::is_spent`]) need not be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Failures of calls begun before this are late: the running or last cooldown began then, or an operator cleared
    /// it.
    pub since: u64,
    /// When the cooldown ends.
    pub until: u64,
    /// Why it cools; none while available.
    pub class: Option<ErrorClass>,
    /// Failures in a row that have not tripped yet.
    pub streak: u32,
    /// The trial call that is on its way.
    pub trial: Option<Trial>,
    /// Cooldowns since it was last healthy for long: each doubles the next.
    pub episodes: u32,
    /// Since when it is available again.
    pub healthy: u64,
    /// When the window of the failure share began.
    pub window: u64,
    /// Calls begun in the window.
    pub calls: u32,
    /// Calls of the window that failed without tripping.
    pub fails: u32,
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

/// Health for this long takes one episode back.
const EPISODE_DECAY: u64 = 60_000;
/// No more doublings than these: the clamp is reached long before.
const MAX_EPISODES: u32 = 20;
/// The failure share is taken over this long.
const SHARE_WINDOW: u64 = 60_000;
/// It trips at one failure in this many calls …
const SHARE: u32 = 2;
/// … once there have been this many calls: fewer say little.
const SHARE_VOLUME: u32 = 20;
/// A record is kept this long after its last event, for the sake of failures that come late.
const KEPT: u64 = 300_000;

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

    /// A call begins on it at `now`: counts towards the failure share, and takes the trial where one is due.
    pub fn begin(&mut self, now: u64, trial: Trial) {
        self.roll_window(now);
        self.calls += 1;
        if self.standing(now) == Standing::HalfOpen {
            self.trial = Some(trial);
        }
    }

    /// A call that began at `began` under `lease` failed. A cooldown never gets shorter by it.
    pub fn fail(&mut self, now: u64, began: u64, lease: LeaseId, cooldown: &Cooldown) {
        let was_trial = self.end_trial(lease);
        // It began before the cooldown that its fellows have already earned: nothing new, unless the provider names
        // a time and the cooldown is still there.
        let late = began < self.since && !was_trial;
        if late && (!cooldown.hinted || self.class.is_none()) {
            return;
        }
        self.roll_window(now);
        self.streak += 1;
        self.fails += 1;
        let share = self.calls >= SHARE_VOLUME && self.fails * SHARE >= self.calls;
        if !was_trial && self.streak < cooldown.trip_after && !share {
            return;
        }
        let running = self.class.is_some() && now < self.until;
        if !running {
            self.since = now;
        }
        let until = now.saturating_add(self.length(now, cooldown));
        if until > self.until || self.class.is_none() {
            self.until = until;
            self.class = Some(cooldown.class);
        }
        if !running && cooldown.grows {
            self.episodes = (self.episodes_left(now) + 1).min(MAX_EPISODES);
        }
        self.healthy = 0;
        self.quiet();
    }

    /// A call under `lease` served. Ends the cooldown when it was the trial; otherwise only a row of failures that
    /// had not tripped: success of a call from before the cooldown says nothing about now.
    pub fn succeed(&mut self, now: u64, lease: LeaseId) {
        if self.class.is_none() {
            self.streak = 0;
        } else if self.end_trial(lease) {
            self.recover(now);
        }
    }

    /// The call under `lease` ended without a verdict: the next may try.
    pub fn hand_on(&mut self, lease: LeaseId) {
        self.end_trial(lease);
    }

    /// It is well, by word of a health check.
    pub fn recover(&mut self, now: u64) {
        self.class = None;
        self.until = 0;
        self.healthy = now;
        self.quiet();
    }

    /// An operator sets the cooldown, whatever it was.
    pub fn set(&mut self, now: u64, until: u64, class: ErrorClass) {
        *self = Self { since: now, until, class: Some(class), ..Self::default() };
    }

    /// An operator clears it: failures of calls begun before are late from now on.
    pub fn clear(&mut self, now: u64) {
        *self = Self { since: now, healthy: now, ..Self::default() };
    }

    /// Whether there is nothing left to remember.
    #[must_use]
    pub fn is_spent(&self, now: u64) -> bool {
        self.class.is_none()
            && self.episodes_left(now) == 0
            && now >= self.window.max(self.healthy).max(self.since).saturating_add(KEPT)
    }

    /// Episodes, less those that health has taken back.
    fn episodes_left(&self, now: u64) -> u32 {
        if self.healthy == 0 {
            return self.episodes;
        }
        let healed = now.saturating_sub(self.healthy) / EPISODE_DECAY;
        self.episodes.saturating_sub(u32::try_from(healed).unwrap_or(u32::MAX))
    }

    /// How long this failure cools: doubled per episode where it grows; clamped.
    fn length(&self, now: u64, cooldown: &Cooldown) -> u64 {
        let own = cooldown.duration.as_millis().min(u128::from(u64::MAX >> MAX_EPISODES)) as u64;
        let grown = if cooldown.grows { own << self.episodes_left(now) } else { own };
        grown.min(cooldown.max.as_millis().min(u128::from(u64::MAX)) as u64)
    }

    fn roll_window(&mut self, now: u64) {
        if now >= self.window.saturating_add(SHARE_WINDOW) {
            (self.window, self.calls, self.fails) = (now, 0, 0);
        }
    }

    /// Nothing in a row, nothing in the window, no trial.
    fn quiet(&mut self) {
        (self.streak, self.calls, self.fails, self.trial) = (0, 0, 0, None);
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
            max: Duration::from_secs(3600),
            grows: !hinted,
            hinted,
            trip_after,
        }
    }

    fn cooling(until: u64) -> Standing {
        Standing::Cooling { until, class: ErrorClass::RateLimited }
    }

    fn fail(record: &mut Record, now: u64, rule: &Cooldown) {
        record.fail(now, now, LeaseId::random(), rule);
    }

    fn try_out(record: &mut Record, now: u64) -> LeaseId {
        let lease = LeaseId::random();
        record.begin(now, Trial { lease, until: now + 500 });
        lease
    }

    #[test]
    fn a_cooldown_ends_in_one_trial() {
        let mut record = Record::default();
        let first = LeaseId::random();
        record.fail(100, 50, first, &cooldown(1000, false, 1));
        assert_eq!(record.standing(1099), cooling(1100));
        assert_eq!(record.standing(1100), Standing::HalfOpen);
        let second = try_out(&mut record, 1100);
        assert_eq!(record.standing(1100), Standing::TrialRunning);
        assert_eq!(record.standing(1600), Standing::HalfOpen, "a trial that never reports expires");
        record.succeed(1150, first);
        assert_eq!(record.standing(1200), Standing::TrialRunning, "only the trial's own success counts");
        record.succeed(1200, second);
        assert_eq!(record.standing(1200), Standing::Available);
    }

    #[test]
    fn a_trial_that_fails_cools_again_twice_as_long() {
        let mut record = Record::default();
        fail(&mut record, 1, &cooldown(10, false, 1));
        let trial = try_out(&mut record, 11);
        record.hand_on(trial);
        assert_eq!(record.standing(11), Standing::HalfOpen, "without a verdict the next may try");
        let trial = try_out(&mut record, 11);
        record.fail(20, 11, trial, &cooldown(10, false, 3));
        assert_eq!(record.standing(20), cooling(40), "a failed trial trips at once");
    }

    #[test]
    fn cooldowns_double_per_episode_up_to_the_clamp_and_health_takes_that_back() {
        let mut record = Record::default();
        let rule = Cooldown { max: Duration::from_secs(60), ..cooldown(10_000, false, 1) };
        let mut now = 1;
        for expected in [10_000, 20_000, 40_000, 60_000, 60_000] {
            let lease = try_out(&mut record, now);
            record.fail(now, now, lease, &rule);
            assert_eq!(record.until - now, expected);
            now = record.until;
        }
        let lease = try_out(&mut record, now);
        record.succeed(now, lease);
        fail(&mut record, now + 4 * EPISODE_DECAY, &rule);
        assert_eq!(record.until - (now + 4 * EPISODE_DECAY), 20_000, "four of five episodes are forgotten");
    }

    #[test]
    fn a_hint_is_neither_grown_nor_an_episode() {
        let mut record = Record::default();
        for now in [1, 10_001, 20_001] {
            fail(&mut record, now, &cooldown(5_000, true, 1));
            assert_eq!(record.until, now + 5_000);
        }
        fail(&mut record, 30_001, &cooldown(1_000, false, 1));
        assert_eq!(record.until, 31_001);
    }

    #[test]
    fn a_late_failure_counts_only_with_a_hint_while_cooling() {
        let mut record = Record::default();
        record.fail(100, 90, LeaseId::random(), &cooldown(1000, false, 1));
        record.fail(600, 95, LeaseId::random(), &cooldown(1000, false, 1));
        assert_eq!((record.until, record.episodes), (1100, 1));
        record.fail(600, 95, LeaseId::random(), &cooldown(1000, true, 1));
        assert_eq!((record.until, record.episodes), (1600, 1));
    }

    #[test]
    fn after_an_operators_clear_earlier_calls_cannot_cool_it() {
        let mut record = Record::default();
        fail(&mut record, 100, &cooldown(1000, false, 1));
        record.clear(200);
        for hinted in [false, true] {
            record.fail(300, 150, LeaseId::random(), &cooldown(1000, hinted, 1));
            assert_eq!(record.standing(300), Standing::Available);
        }
        fail(&mut record, 300, &cooldown(1000, false, 1));
        assert_eq!(record.standing(300), cooling(1300));
    }

    #[test]
    fn failures_in_a_row_trip_and_a_success_between_begins_anew() {
        let mut record = Record::default();
        let rule = cooldown(1000, false, 3);
        fail(&mut record, 1, &rule);
        fail(&mut record, 2, &rule);
        record.succeed(2, LeaseId::random());
        fail(&mut record, 3, &rule);
        fail(&mut record, 4, &rule);
        assert_eq!(record.standing(4), Standing::Available);
        fail(&mut record, 5, &rule);
        assert_eq!(record.standing(5), cooling(1005));
    }

    #[test]
    fn half_of_many_calls_failing_trips_and_half_of_few_does_not() {
        let mut record = Record::default();
        let rule = cooldown(1000, false, 3);
        let mut tripped = None;
        for call in 1..=40 {
            try_out(&mut record, call);
            if call % 2 == 0 {
                fail(&mut record, call, &rule);
            } else {
                record.succeed(call, LeaseId::random());
            }
            if tripped.is_none() && record.standing(call) != Standing::Available {
                tripped = Some(call);
            }
        }
        assert_eq!(tripped, Some(u64::from(SHARE_VOLUME)));
    }

    #[test]
    fn a_record_is_spent_when_nothing_late_can_come() {
        let mut record = Record::default();
        fail(&mut record, 1_000, &cooldown(1000, false, 1));
        assert!(!record.is_spent(10 * KEPT), "it is half-open");
        let lease = try_out(&mut record, 2_000);
        record.succeed(3_000, lease);
        assert!(!record.is_spent(3_000 + KEPT - 1));
        assert!(record.is_spent(3_000 + KEPT));
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
