//! What one who waits for a pool may hope for.

use super::{Candidate, Cooling, Members, millis};
use std::time::Duration;

/// What those who were not served are told, beside who is back first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prospect {
    /// What is free is of use to others, and not to this one: it must not hold them up.
    pub of_use_to_others: bool,
    /// The first of those it has not tried to come back.
    pub first_back: Option<Cooling>,
}

/// What one may hope for who was not served. `candidates` are the members as it sees them, `for_others` the same in the eyes
/// of one who has tried nobody and needs little. `src/state/redis/stand.lua` holds the same rules.
#[must_use]
pub fn prospect(candidates: &[Candidate<'_>], for_others: &[Candidate<'_>]) -> Prospect {
    let away = candidates.iter().filter(|one| !one.tried).filter_map(Candidate::away);
    Prospect {
        of_use_to_others: for_others.iter().any(Candidate::may_serve),
        first_back: away.min_by_key(|away| away.ends),
    }
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
    use crate::balance::{Limits, Member, MemberKey};

    const SECOND: Duration = Duration::from_secs(1);

    fn members(limits: &[(u32, u32)]) -> Members {
        let member = |(ordinal, &(max_concurrency, requests_per_minute))| Member {
            key: MemberKey::new(ordinal, "0"),
            credential: "c".into(),
            priority: 0,
            weight: 1,
            limits: Limits { max_concurrency, requests_per_minute, ..Limits::default() },
        };
        (1..).zip(limits).map(member).collect()
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
