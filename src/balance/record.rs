//! What is remembered of one member, or of one credential, that has failed.
//!
//! Times are of the store's own clock. `src/state/redis/common.lua` holds the same rules, and takes the numbers from here.

#[cfg(test)]
mod tests;

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

    /// Whether nothing has happened to it for long, whatever it remembers.
    #[must_use]
    pub fn is_old(&self, now: Time) -> bool {
        let ends = self.cooling.map(|cooling| cooling.ends);
        self.window.max(self.healthy).max(self.since).max(ends).is_none_or(|last| now >= last + KEPT)
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
