//! What is remembered of one member, or of one credential, that has failed.
//!
//! Times are of the store's own clock. `src/state/redis/common.lua` holds the same rules, and takes the numbers from here.

use super::{Cooldown, ErrorClass, LeaseId, Resort, Time, millis};
use std::time::Duration;

/// The memory of failures. One that has nothing left to say ([`Record::is_spent`]) need not be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Failures of calls begun before this are late: the running or last cooldown began then, or an operator cleared
    /// it.
    pub since: Option<Time>,
    /// The cooldown that runs, or is over and waits for a trial that serves; none while available.
    pub cooling: Option<Cooling>,
    /// Failures in a row that have not tripped yet.
    pub streak: u32,
    /// The trial call that is on its way.
    pub trial: Option<Trial>,
    /// Cooldowns since it was last healthy for long: each doubles the next.
    pub episodes: u32,
    /// Since when it is available again.
    pub healthy: Option<Time>,
    /// When the window of the failure share began.
    pub window: Option<Time>,
    /// Calls begun in the window.
    pub calls: u32,
    /// Calls of the window that failed without tripping.
    pub fails: u32,
    /// How long the last failure of the cooldown took to come.
    pub took: Duration,
    /// What the last resort goes by; none where it must leave the cooldown alone.
    pub resort: Option<Resort>,
}

/// A cooldown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooling {
    /// When it ends.
    pub ends: Time,
    /// Why it cools.
    pub class: ErrorClass,
}

/// The one call that tries a member whose cooldown is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Whose it is.
    pub lease: LeaseId,
    /// When another may try, should this one never report.
    pub ends: Time,
    /// Since when the member has been tried without a failure: since this trial began, or those before that it took
    /// over from when they never reported.
    pub began: Time,
    /// How many calls have been let in beside it.
    pub joined: u32,
}

impl Trial {
    /// The trial of the call under that lease.
    #[must_use]
    pub const fn new(lease: LeaseId, began: Time, ends: Time) -> Self {
        Self { lease, ends, began, joined: 0 }
    }
}

/// Whether one may serve now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    #[default]
    Available,
    /// One trial call may go.
    HalfOpen,
    /// The trial call is on its way and has outlived the failure: some more may join it where nobody else can serve.
    Joinable,
    /// The trial call is on its way.
    TrialRunning,
    /// Not before that time.
    Cooling(Cooling),
}

/// Health for this long takes one episode back.
pub(crate) const EPISODE_DECAY: Duration = Duration::from_secs(60);
/// No more doublings than these: the clamp is reached long before.
pub(crate) const MAX_EPISODES: u32 = 20;
/// The failure share is taken over this long.
pub(crate) const SHARE_WINDOW: Duration = Duration::from_secs(60);
/// It trips at one failure in this many calls …
pub(crate) const SHARE: u32 = 2;
/// … once there have been this many calls: fewer say little.
pub(crate) const SHARE_VOLUME: u32 = 20;
/// A trial lets others in after the time that the failure took, and not before this: what fails at once says little about
/// how soon a success would show.
pub(crate) const TRIAL_STEP: Duration = Duration::from_millis(250);
/// So many times the number of calls let in doubles: more are never on their way.
pub(crate) const MAX_TRIAL_STEPS: u32 = 16;
/// A record is kept this long after its last event, for the sake of failures that come late.
pub(crate) const KEPT: Duration = Duration::from_secs(300);

impl Record {
    /// Where it stands at `now`.
    #[must_use]
    pub fn standing(&self, now: Time) -> Standing {
        let Some(cooling) = self.cooling else { return Standing::Available };
        if now < cooling.ends {
            return Standing::Cooling(cooling);
        }
        match self.trial {
            Some(trial) if now < trial.ends && self.lets_in(trial, now) => Standing::Joinable,
            Some(trial) if now < trial.ends => Standing::TrialRunning,
            _ => Standing::HalfOpen,
        }
    }

    /// Whether a trial lets another call in: one more when it has lived as long as the failure took, two more when twice
    /// as long, four more, and so on. A trial that lives is not proof of health, but holding everybody back until its last
    /// byte would make a short failure as long as the longest answer.
    fn lets_in(&self, trial: Trial, now: Time) -> bool {
        let steps = millis(now.since(trial.began)) / millis(self.took.max(TRIAL_STEP));
        let steps = steps.min(MAX_TRIAL_STEPS.into());
        u64::from(trial.joined) < (1 << steps) - 1
    }

    /// When one more call may be let in, while a trial on its way lets in none: beside it, or in its place.
    #[must_use]
    pub fn opens(&self, now: Time) -> Option<Time> {
        let trial = self.trial.filter(|_| self.standing(now) == Standing::TrialRunning)?;
        let steps = (trial.joined + 1).ilog2() + 1;
        let joins = (steps <= MAX_TRIAL_STEPS).then(|| trial.began + self.took.max(TRIAL_STEP) * steps);
        Some(joins.map_or(trial.ends, |joins| joins.min(trial.ends)))
    }

    /// A call begins on it at `now`: counts towards the failure share. While it cools, the call is one of the last resort.
    /// When the cooldown is over, it takes the trial where one is due, else it joins.
    pub fn begin(&mut self, now: Time, lease: LeaseId, trial_ends: Time) {
        self.roll_window(now);
        self.calls += 1;
        match self.standing(now) {
            Standing::HalfOpen => {
                // A trial that never reported has not failed either: what it has shown counts on.
                let before = self.trial.unwrap_or(Trial::new(lease, now, now));
                self.trial = Some(Trial { lease, ends: trial_ends, ..before });
            }
            Standing::Joinable | Standing::TrialRunning => {
                self.trial = self.trial.map(|trial| Trial { joined: trial.joined + 1, ..trial });
            }
            Standing::Available | Standing::Cooling(_) => {}
        }
        if self.cooling.is_some()
            && let Some(resort) = &mut self.resort
        {
            resort.passed = now;
        }
    }

    /// Whether a call that began then tries whether the cooldown may end: as its trial, beside it, or as a last resort.
    /// Others began before the cooldown.
    fn is_tried_by(&self, began: Time) -> bool {
        self.cooling.is_some() && self.since < Some(began)
    }

    /// A call that began at `began`, as a trial where one is named, failed. A cooldown never gets shorter by it.
    pub fn fail(&mut self, now: Time, began: Time, trial: Option<LeaseId>, cooldown: &Cooldown) {
        let was_trial = trial.is_some_and(|trial| self.end_trial(trial)) || self.is_tried_by(began);
        // It began before the cooldown that its fellows have already earned: nothing new, unless the provider names
        // a time and the cooldown is still there.
        let late = Some(began) < self.since && !was_trial;
        if late && (!cooldown.hinted || self.cooling.is_none()) {
            return;
        }
        self.roll_window(now);
        self.streak += 1;
        self.fails += 1;
        let share = self.calls >= SHARE_VOLUME && self.fails * SHARE >= self.calls;
        if !was_trial && self.streak < cooldown.trip_after && !share {
            return;
        }
        let running = self.cooling.is_some_and(|cooling| now < cooling.ends);
        if !running {
            self.since = Some(now);
        }
        let ends = now + self.length(now, cooldown);
        if self.cooling.is_none_or(|cooling| ends > cooling.ends) {
            self.cooling = Some(Cooling { ends, class: cooldown.class });
        }
        self.took = now.since(began);
        // Where a running cooldown is not a guess, it is obeyed to its end.
        self.resort = (cooldown.is_guess && (!running || self.resort.is_some())).then(|| {
            let passed = self.resort.filter(|_| running).map_or(now, |resort| resort.passed);
            Resort { failed: now, passed, served: 0 }
        });
        if !running && cooldown.grows {
            self.episodes = (self.episodes_left(now) + 1).min(MAX_EPISODES);
        }
        self.healthy = None;
        self.quiet();
    }

    /// A call under `lease` that began at `began` served. Ends a row of failures that had not tripped. Ends the cooldown
    /// when it was the trial or had joined it; as a last resort, when it is one of several. Success of a call from before
    /// the cooldown says nothing about now.
    pub fn succeed(&mut self, now: Time, began: Time, lease: LeaseId) {
        let Some(cooling) = self.cooling else {
            self.streak = 0;
            return;
        };
        if !(self.end_trial(lease) || self.is_tried_by(began)) {
            return;
        }
        if now < cooling.ends {
            let Some(resort) = &mut self.resort else { return };
            resort.served += 1;
            if !resort.is_proven() {
                return;
            }
        }
        self.recover(now);
        // Those that began before this one, and hang still, say nothing new when they fail.
        self.since = self.since.max(Some(began));
    }

    /// The call under `lease` ended without a verdict: the next may try.
    pub fn hand_on(&mut self, lease: LeaseId) {
        self.end_trial(lease);
    }

    /// It is well, by word of a health check.
    pub fn recover(&mut self, now: Time) {
        self.cooling = None;
        self.resort = None;
        self.healthy = Some(now);
        self.quiet();
    }

    /// An operator sets the cooldown, whatever it was.
    pub fn set(&mut self, now: Time, cooling: Cooling) {
        *self = Self { since: Some(now), cooling: Some(cooling), ..Self::default() };
    }

    /// An operator clears it: failures of calls begun before are late from now on.
    pub fn clear(&mut self, now: Time) {
        *self = Self { since: Some(now), healthy: Some(now), ..Self::default() };
    }

    /// Whether there is nothing left to remember.
    #[must_use]
    pub fn is_spent(&self, now: Time) -> bool {
        self.cooling.is_none()
            && self.episodes_left(now) == 0
            && self.window.max(self.healthy).max(self.since).is_none_or(|last| now >= last + KEPT)
    }

    /// Episodes, less those that health has taken back.
    fn episodes_left(&self, now: Time) -> u32 {
        let Some(healthy) = self.healthy else { return self.episodes };
        let healed = millis(now.since(healthy)) / millis(EPISODE_DECAY);
        self.episodes.saturating_sub(u32::try_from(healed).unwrap_or(u32::MAX))
    }

    /// How long this failure cools: doubled per episode where it grows; clamped.
    fn length(&self, now: Time, cooldown: &Cooldown) -> Duration {
        let doublings = if cooldown.grows { self.episodes_left(now) } else { 0 };
        Duration::from_millis(millis(cooldown.duration)).saturating_mul(1 << doublings).min(cooldown.max)
    }

    fn roll_window(&mut self, now: Time) {
        if self.window.is_none_or(|began| now >= began + SHARE_WINDOW) {
            (self.window, self.calls, self.fails) = (Some(now), 0, 0);
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
    /// What [`severity`](Self::severity) says of one that cools.
    pub(crate) const COOLING: u8 = 4;

    /// The higher is the worse. The scripts know a standing by this number.
    pub(crate) const fn severity(self) -> u8 {
        match self {
            Self::Available => 0,
            Self::HalfOpen => 1,
            Self::Joinable => 2,
            Self::TrialRunning => 3,
            Self::Cooling(_) => Self::COOLING,
        }
    }

    /// Its cooldown, while that runs.
    #[must_use]
    pub fn cooling(self) -> Option<Cooling> {
        match self {
            Self::Cooling(cooling) => Some(cooling),
            _ => None,
        }
    }

    /// Where a member stands whose own record says `self` and whose credential's says `other`: the worse of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rank = |standing: Self| match standing {
            Self::Cooling(cooling) => (standing.severity(), Some(cooling.ends)),
            _ => (standing.severity(), None),
        };
        if rank(self) >= rank(other) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Scope, constants::PACE};
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
            is_guess: false,
        }
    }

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn cooling(ends: u64) -> Standing {
        Standing::Cooling(Cooling { ends: at(ends), class: ErrorClass::RateLimited })
    }

    fn ends(record: &Record) -> u64 {
        record.cooling.map_or(0, |cooling| cooling.ends.millis())
    }

    fn fail(record: &mut Record, now: u64, rule: &Cooldown) {
        record.fail(at(now), at(now), None, rule);
    }

    fn a_lease() -> LeaseId {
        LeaseId::new(rand::random())
    }

    fn try_out(record: &mut Record, now: u64) -> LeaseId {
        let lease = a_lease();
        record.begin(at(now), lease, at(now + 500));
        lease
    }

    #[test]
    fn a_cooldown_ends_in_one_trial() {
        let mut record = Record::default();
        let first = a_lease();
        record.fail(at(100), at(50), Some(first), &cooldown(1000, false, 1));
        assert_eq!(record.standing(at(1099)), cooling(1100));
        assert_eq!(record.standing(at(1100)), Standing::HalfOpen);
        let second = try_out(&mut record, 1100);
        assert_eq!(record.standing(at(1100)), Standing::TrialRunning);
        assert_eq!(record.standing(at(1600)), Standing::HalfOpen, "a trial that never reports expires");
        record.succeed(at(1150), at(50), first);
        assert_eq!(record.standing(at(1200)), Standing::TrialRunning, "only the trial's own success counts");
        record.succeed(at(1200), at(1100), second);
        assert_eq!(record.standing(at(1200)), Standing::Available);
    }

    #[test]
    fn a_trial_that_fails_cools_again_twice_as_long() {
        let mut record = Record::default();
        fail(&mut record, 1, &cooldown(10, false, 1));
        let trial = try_out(&mut record, 11);
        record.hand_on(trial);
        assert_eq!(record.standing(at(11)), Standing::HalfOpen, "without a verdict the next may try");
        let trial = try_out(&mut record, 11);
        record.fail(at(20), at(11), Some(trial), &cooldown(10, false, 3));
        assert_eq!(record.standing(at(20)), cooling(40), "a failed trial trips at once");
    }

    #[test]
    fn cooldowns_double_per_episode_up_to_the_clamp_and_health_takes_that_back() {
        let mut record = Record::default();
        let rule = Cooldown { max: Duration::from_secs(60), ..cooldown(10_000, false, 1) };
        let mut now = 1;
        for expected in [10_000, 20_000, 40_000, 60_000, 60_000] {
            let lease = try_out(&mut record, now);
            record.fail(at(now), at(now), Some(lease), &rule);
            assert_eq!(ends(&record) - now, expected);
            now = ends(&record);
        }
        let lease = try_out(&mut record, now);
        record.succeed(at(now), at(now), lease);
        fail(&mut record, now + 4 * millis(EPISODE_DECAY), &rule);
        assert_eq!(
            ends(&record) - (now + 4 * millis(EPISODE_DECAY)),
            20_000,
            "four of five episodes are forgotten"
        );
    }

    fn guess(millis: u64) -> Cooldown {
        Cooldown { class: ErrorClass::Timeout, is_guess: true, ..cooldown(millis, false, 3) }
    }

    #[test]
    fn a_trial_that_outlives_the_failure_lets_others_in_step_by_step() {
        let step = millis(TRIAL_STEP);
        for took in [0, step * 4] {
            let step = step.max(took);
            let mut record = Record::default();
            record.fail(at(1_000), at(1_000 - took), None, &cooldown(1_000, false, 1));
            record.begin(at(2_000), a_lease(), at(2_000 + 100 * step));
            let mut let_in = Vec::new();
            for age in 0..4 {
                let now = at(2_000 + age * step);
                assert_ne!(Standing::Joinable, record.standing(at(2_000 + age * step - u64::from(age > 0))));
                let mut more = 0;
                while record.standing(now) == Standing::Joinable {
                    record.begin(now, a_lease(), at(u64::MAX));
                    more += 1;
                }
                let_in.push(more);
                assert_eq!(record.opens(now), Some(at(2_000 + (age + 1) * step)));
            }
            assert_eq!(record.opens(at(2_000 + 100 * step)), None, "another trial may go");
            assert_eq!(let_in, [0, 1, 2, 4]);
        }
    }

    #[test]
    fn whoever_joins_a_trial_speaks_for_it() {
        for serves in [true, false] {
            let mut record = Record::default();
            fail(&mut record, 1_000, &cooldown(1_000, false, 1));
            try_out(&mut record, 2_000);
            let joined = try_out(&mut record, 2_300);
            if serves {
                record.succeed(at(2_400), at(2_300), joined);
                assert_eq!(record.standing(at(2_400)), Standing::Available);
            } else {
                record.fail(at(2_400), at(2_300), Some(joined), &cooldown(1_000, false, 3));
                assert_eq!(record.standing(at(2_400)), cooling(4_400), "one failure is enough");
            }
        }
    }

    #[test]
    fn a_trial_that_never_reports_keeps_what_it_has_shown() {
        let mut record = Record::default();
        fail(&mut record, 1_000, &cooldown(1_000, false, 1));
        record.begin(at(2_000), a_lease(), at(2_600));
        assert_eq!(record.standing(at(2_600)), Standing::HalfOpen);
        record.begin(at(2_600), a_lease(), at(3_200));
        assert_eq!(record.standing(at(2_600)), Standing::Joinable);
    }

    #[test]
    fn several_of_the_last_resort_that_serve_end_a_guess_and_a_failure_begins_anew() {
        let mut record = Record::default();
        record.fail(at(1_000), at(990), None, &Cooldown { trip_after: 1, ..guess(10_000) });
        let serve = |record: &mut Record, now| {
            record.begin(at(now), a_lease(), at(now + 500));
            record.succeed(at(now + 10), at(now), a_lease());
        };
        serve(&mut record, 2_000);
        serve(&mut record, 3_000);
        assert_eq!(record.resort.unwrap().pace(), PACE / 4);
        record.fail(at(3_500), at(3_400), None, &guess(10_000));
        assert_eq!(record.resort, Some(Resort { failed: at(3_500), passed: at(3_000), served: 0 }));
        for now in [5_000, 6_000, 7_000] {
            assert_ne!(record.standing(at(now)), Standing::Available);
            serve(&mut record, now);
        }
        assert_eq!(record.standing(at(7_010)), Standing::Available);
        // One that has hung since before it was well again says nothing new.
        record.fail(at(8_000), at(6_500), None, &Cooldown { trip_after: 1, ..guess(10_000) });
        assert_eq!(record.standing(at(8_000)), Standing::Available);
        record.fail(at(8_000), at(7_005), None, &Cooldown { trip_after: 1, ..guess(10_000) });
        assert_ne!(record.standing(at(8_000)), Standing::Available);
    }

    #[test]
    fn what_is_no_guess_is_obeyed() {
        let mut record = Record::default();
        fail(&mut record, 1_000, &cooldown(10_000, true, 1));
        record.fail(at(2_000), at(1_500), None, &guess(60_000));
        assert_eq!((record.resort, ends(&record)), (None, 62_000), "not even when a guess lengthens it");
        record.succeed(at(3_000), at(2_500), a_lease());
        assert_ne!(record.standing(at(3_000)), Standing::Available);
    }

    #[test]
    fn a_hint_is_neither_grown_nor_an_episode() {
        let mut record = Record::default();
        for now in [1, 10_001, 20_001] {
            fail(&mut record, now, &cooldown(5_000, true, 1));
            assert_eq!(ends(&record), now + 5_000);
        }
        fail(&mut record, 30_001, &cooldown(1_000, false, 1));
        assert_eq!(ends(&record), 31_001);
    }

    #[test]
    fn a_late_failure_counts_only_with_a_hint_while_cooling() {
        let mut record = Record::default();
        record.fail(at(100), at(90), None, &cooldown(1000, false, 1));
        record.fail(at(600), at(95), None, &cooldown(1000, false, 1));
        assert_eq!((ends(&record), record.episodes), (1100, 1));
        record.fail(at(600), at(95), None, &cooldown(1000, true, 1));
        assert_eq!((ends(&record), record.episodes), (1600, 1));
    }

    #[test]
    fn after_an_operators_clear_earlier_calls_cannot_cool_it() {
        let mut record = Record::default();
        fail(&mut record, 100, &cooldown(1000, false, 1));
        record.clear(at(200));
        for hinted in [false, true] {
            record.fail(at(300), at(150), None, &cooldown(1000, hinted, 1));
            assert_eq!(record.standing(at(300)), Standing::Available);
        }
        fail(&mut record, 300, &cooldown(1000, false, 1));
        assert_eq!(record.standing(at(300)), cooling(1300));
    }

    #[test]
    fn failures_in_a_row_trip_and_a_success_between_begins_anew() {
        let mut record = Record::default();
        let rule = cooldown(1000, false, 3);
        fail(&mut record, 1, &rule);
        fail(&mut record, 2, &rule);
        record.succeed(at(2), at(1), a_lease());
        fail(&mut record, 3, &rule);
        fail(&mut record, 4, &rule);
        assert_eq!(record.standing(at(4)), Standing::Available);
        fail(&mut record, 5, &rule);
        assert_eq!(record.standing(at(5)), cooling(1005));
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
                record.succeed(at(call), at(call), a_lease());
            }
            if tripped.is_none() && record.standing(at(call)) != Standing::Available {
                tripped = Some(call);
            }
        }
        assert_eq!(tripped, Some(u64::from(SHARE_VOLUME)));
    }

    #[test]
    fn a_record_is_spent_when_nothing_late_can_come() {
        let mut record = Record::default();
        fail(&mut record, 1_000, &cooldown(1000, false, 1));
        assert!(!record.is_spent(at(10 * millis(KEPT))), "it is half-open");
        let lease = try_out(&mut record, 2_000);
        record.succeed(at(3_000), at(2_000), lease);
        assert!(!record.is_spent(at(3_000 + millis(KEPT) - 1)));
        assert!(record.is_spent(at(3_000 + millis(KEPT))));
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
                let before = ends(&record);
                record.fail(at(now), at(now - age), None, &cooldown(millis, hinted, trip));
                prop_assert!(ends(&record) >= before);
            }
        }
    }
}
