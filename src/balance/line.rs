//! What one who waits for a pool may hope for.

use super::{Candidate, Cooling, Members, PickRules, Time, last_resort, millis};
use std::time::Duration;

/// What those who were not served are told, beside who is back first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prospect {
    /// What is free is of use to others, and not to this one: it must not hold them up.
    pub of_use_to_others: bool,
    /// The first of those it has not tried to come back; the last resort may be due sooner.
    pub first_back: Option<Cooling>,
    /// When a trial that is on its way takes another call, or the last resort is due.
    pub opens: Option<Time>,
}

/// What one may hope for who was not served. `candidates` are the members as it sees them, `for_others` the same in the eyes
/// of one who has tried nobody and needs little. `src/state/redis/acquire.lua` holds the same rules.
#[must_use]
pub fn prospect(
    candidates: &[Candidate<'_>],
    rules: PickRules,
    for_others: &[Candidate<'_>],
    of_others: PickRules,
) -> Prospect {
    let untried = || candidates.iter().filter(|one| !one.tried);
    let resort = resort(candidates, rules);
    let mut first_back = untried().filter_map(Candidate::away).min_by_key(|away| away.ends);
    if let (Some(first), Some(due)) = (&mut first_back, resort) {
        first.ends = first.ends.min(due);
    }
    let joined = untried().filter(|one| rules.joins && one.full_until.is_none()).filter_map(|one| one.opens);
    Prospect {
        of_use_to_others: has_place(for_others, of_others),
        first_back,
        opens: joined.chain(resort).min(),
    }
}

/// Whether one of them may serve.
fn has_place(candidates: &[Candidate<'_>], rules: PickRules) -> bool {
    let may = |one: &Candidate<'_>| one.may_serve() || rules.joins && one.may_be_joined();
    candidates.iter().any(may) || resort(candidates, rules).is_some_and(|due| rules.now >= due)
}

/// When the last resort is due.
fn resort(candidates: &[Candidate<'_>], rules: PickRules) -> Option<Time> {
    last_resort(candidates).filter(|_| rules.last_resort).map(|(due, _)| due)
}

/// How many calls the members can serve within `left`, at most, where one usually takes `usual`. None: there is no telling.
///
/// A limit of calls at once lets through what its places can serve one after the other; a limit a minute what a window
/// holds, and as much again for each minute. Both are upper bounds: nobody is turned away who could be served.
#[must_use]
pub fn most_served(members: &Members, usual: Option<Duration>, left: Duration) -> Option<u64> {
    let mut most = 0_u64;
    for limits in members.iter().map(|member| member.limits) {
        let places = u64::from(limits.max_concurrency);
        let at_once = usual.filter(|_| places > 0).map(|usual| places * millis(left) / millis(usual).max(1));
        let requests = u64::from(limits.requests_per_minute);
        let a_minute = (requests > 0).then(|| requests * (1 + left.as_secs().div_ceil(60)));
        let one = at_once.into_iter().chain(a_minute).min()?;
        most = most.saturating_add(one);
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{ErrorClass, Limits, Member, MemberKey, Resort, Standing, Strategy};

    const SECOND: Duration = Duration::from_secs(1);

    fn members(limits: &[(u32, u32)]) -> Members {
        let member = |(ordinal, &(at_once, a_minute))| Member {
            key: MemberKey::new(ordinal, "0"),
            credential: "c".into(),
            address: "".into(),
            priority: 0,
            weight: 1,
            limits: Limits { requests_per_minute: a_minute, max_concurrency: at_once, ..Limits::default() },
        };
        (1..).zip(limits).map(member).collect()
    }

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn one_looks_when_a_trial_takes_another_or_the_last_resort_is_due() {
        let pool = members(&[(1, 0), (1, 0)]);
        let [tried_out, cools] = [0, 1].map(|index| Candidate {
            member: &pool[index],
            tried: false,
            standing: Standing::TrialRunning,
            opens: Some(at(5_000)),
            resort: None,
            full_until: None,
            in_flight: 0,
        });
        let cooling = Cooling { ends: at(9_000), class: ErrorClass::Timeout };
        let resort = Resort { failed: at(1_000), passed: at(1_000), served: 0 };
        let cools =
            Candidate { standing: Standing::Cooling(cooling), opens: None, resort: Some(resort), ..cools };
        let rules =
            PickRules { strategy: Strategy::RoundRobin, joins: true, last_resort: false, now: at(1_500) };
        let own = [tried_out, cools];
        let seen = prospect(&own, rules, &own, rules);
        assert_eq!((seen.opens, seen.first_back), (Some(at(5_000)), Some(cooling)));
        let with_resort = PickRules { last_resort: true, ..rules };
        let seen = prospect(&own, with_resort, &own, with_resort);
        assert_eq!(seen.opens, Some(at(2_000)), "a second after a call last went through");
        assert_eq!(seen.first_back.map(|back| back.ends), Some(at(2_000)));
        assert!(!seen.of_use_to_others);
        let due = PickRules { now: at(2_000), ..with_resort };
        assert!(prospect(&own, rules, &own, due).of_use_to_others);
        let elsewhere = PickRules { joins: false, ..rules };
        assert_eq!(prospect(&own, elsewhere, &own, rules).opens, None, "it may not join");
    }

    #[test]
    fn places_serve_one_call_after_the_other() {
        let pool = members(&[(2, 0), (3, 0)]);
        assert_eq!(most_served(&pool, Some(SECOND / 10), SECOND), Some(50));
        assert_eq!(most_served(&pool, Some(SECOND * 2), SECOND), Some(2), "halves of a call, rounded down");
        assert_eq!(most_served(&pool, None, SECOND), None, "nobody knows how long a call takes");
    }

    #[test]
    fn a_rate_serves_a_window_and_one_more_for_each_minute() {
        assert_eq!(most_served(&members(&[(0, 60)]), None, SECOND), Some(120));
        assert_eq!(most_served(&members(&[(1, 60)]), Some(SECOND), SECOND * 3), Some(3), "the lower of both");
        assert_eq!(most_served(&members(&[(1, 0), (0, 0)]), Some(SECOND), SECOND), None, "one has no limit");
    }
}
