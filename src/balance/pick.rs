//! Who serves next: round robin within the best priority tier.
//!
//! One pointer per pool remembers the last served. The next is the first eligible member after it in ring order, not
//! "index plus linear skip", which would give the member behind a gap the gap's share as well.
//! `src/state/redis/acquire.lua` holds the same rules.

use super::{ErrorClass, Standing};

/// One member in the eyes of a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the ring.
    pub ordinal: u32,
    /// The lower serves first.
    pub priority: i32,
    /// Whether this call has tried it already.
    pub tried: bool,
    /// Its own standing and its credential's, together.
    pub standing: Standing,
}

/// The outcome of a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This one serves; as a trial, where its cooldown has just ended.
    Serve {
        /// Its index among the candidates.
        index: usize,
        /// Whether it is half-open.
        trial: bool,
    },
    /// None may now, but the trial of one that this call has not tried is on its way: wait for its verdict.
    TrialRunning,
    /// None may, and waiting for a trial does not help.
    Exhausted {
        /// The first of all members to come back, tried ones included: when, and what it cools for. `None` where one
        /// is not cooling at all.
        first_back: Option<(u64, ErrorClass)>,
    },
}

/// Picks among `candidates`, given the ordinal of the last served.
///
/// ```
/// use rota::balance::{Candidate, Pick, Standing, pick};
///
/// let ring = [1, 2, 3].map(|ordinal| Candidate {
///     ordinal, priority: 0, tried: false, standing: Standing::Available,
/// });
/// assert_eq!(pick(&ring, Some(3)), Pick::Serve { index: 0, trial: false });
/// ```
#[must_use]
pub fn pick(candidates: &[Candidate], last: Option<u32>) -> Pick {
    let eligible = candidates.iter().enumerate().filter_map(|(index, candidate)| {
        if candidate.tried {
            return None;
        }
        match candidate.standing {
            Standing::Available => Some((index, candidate, false)),
            Standing::HalfOpen => Some((index, candidate, true)),
            Standing::TrialRunning | Standing::Cooling { .. } => None,
        }
    });
    let best = eligible.min_by_key(|(_, candidate, _)| {
        let behind = last.is_some_and(|last| candidate.ordinal <= last);
        (candidate.priority, behind, candidate.ordinal)
    });
    if let Some((index, _, trial)) = best {
        return Pick::Serve { index, trial };
    }
    if candidates.iter().any(|candidate| !candidate.tried && candidate.standing == Standing::TrialRunning) {
        return Pick::TrialRunning;
    }
    let mut first_back = None;
    for candidate in candidates {
        match candidate.standing {
            Standing::Cooling { until, class } => {
                if first_back.is_none_or(|(earliest, _)| until < earliest) {
                    first_back = Some((until, class));
                }
            }
            _ => return Pick::Exhausted { first_back: None },
        }
    }
    Pick::Exhausted { first_back }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(standings: &[Standing]) -> Vec<Candidate> {
        (1..)
            .zip(standings)
            .map(|(ordinal, &standing)| Candidate { ordinal, priority: 0, tried: false, standing })
            .collect()
    }

    fn cooling(until: u64) -> Standing {
        Standing::Cooling { until, class: ErrorClass::RateLimited }
    }

    fn turns(ring: &[Candidate], count: usize) -> Vec<u32> {
        let mut last = None;
        let mut served = Vec::new();
        for _ in 0..count {
            let Pick::Serve { index, .. } = pick(ring, last) else { panic!("nothing to serve") };
            served.push(ring[index].ordinal);
            last = Some(ring[index].ordinal);
        }
        served
    }

    #[test]
    fn turns_go_round() {
        assert_eq!(turns(&ring(&[Standing::Available; 3]), 7), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(turns(&ring(&[Standing::Available]), 3), [1, 1, 1]);
    }

    #[test]
    fn members_behind_a_gap_share_evenly() {
        let ring = ring(&[cooling(9), cooling(9), Standing::Available, Standing::Available]);
        assert_eq!(turns(&ring, 6), [3, 4, 3, 4, 3, 4]);
    }

    #[test]
    fn a_pointer_at_a_member_that_is_gone_keeps_its_place() {
        let mut ring = ring(&[Standing::Available; 4]);
        ring.remove(1);
        assert_eq!(pick(&ring, Some(2)), Pick::Serve { index: 1, trial: false });
    }

    #[test]
    fn a_lower_tier_serves_only_when_no_higher_one_can() {
        let mut ring = ring(&[Standing::Available, Standing::Available, Standing::Available]);
        ring[0].priority = 1;
        assert_eq!(turns(&ring, 4), [2, 3, 2, 3]);
        ring[1].standing = cooling(5);
        ring[2].tried = true;
        assert_eq!(pick(&ring, Some(2)), Pick::Serve { index: 0, trial: false });
    }

    #[test]
    fn a_half_open_member_takes_its_turn_as_a_trial() {
        let ring = ring(&[Standing::Available, Standing::HalfOpen, Standing::TrialRunning]);
        assert_eq!(pick(&ring, Some(1)), Pick::Serve { index: 1, trial: true });
        assert_eq!(pick(&ring, Some(2)), Pick::Serve { index: 0, trial: false });
    }

    #[test]
    fn a_running_trial_is_worth_waiting_for_unless_tried() {
        let mut ring = ring(&[Standing::TrialRunning, cooling(7)]);
        assert_eq!(pick(&ring, None), Pick::TrialRunning);
        ring[0].tried = true;
        assert_eq!(pick(&ring, None), Pick::Exhausted { first_back: None });
    }

    #[test]
    fn all_cooling_says_who_is_back_first() {
        let ring = ring(&[cooling(30), cooling(10), cooling(20)]);
        let first_back = Some((10, ErrorClass::RateLimited));
        assert_eq!(pick(&ring, None), Pick::Exhausted { first_back });
        assert_eq!(pick(&[], None), Pick::Exhausted { first_back: None });
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        prop_oneof![
            Just(Standing::Available),
            Just(Standing::HalfOpen),
            Just(Standing::TrialRunning),
            (1u64..100).prop_map(cooling),
        ]
    }

    proptest! {
        #[test]
        fn only_the_eligible_serve_and_none_is_overlooked(
            members in proptest::collection::vec((any_standing(), any::<bool>(), -1i32..3), 0..12),
            last in proptest::option::of(0u32..14),
        ) {
            let ring: Vec<_> = (1..).zip(&members).map(|(ordinal, &(standing, tried, priority))| Candidate {
                ordinal, priority, tried, standing,
            }).collect();
            let may = |c: &Candidate| !c.tried
                && matches!(c.standing, Standing::Available | Standing::HalfOpen);
            match pick(&ring, last) {
                Pick::Serve { index, trial } => {
                    prop_assert!(may(&ring[index]));
                    prop_assert_eq!(trial, ring[index].standing == Standing::HalfOpen);
                    prop_assert!(ring.iter().all(|c| !may(c) || c.priority >= ring[index].priority));
                }
                _ => prop_assert!(!ring.iter().any(may)),
            }
        }

        #[test]
        fn shares_of_a_stable_set_differ_by_at_most_one(
            eligible in proptest::collection::vec(any::<bool>(), 1..16), turns_taken in 1usize..100,
        ) {
            prop_assume!(eligible.iter().any(|&e| e));
            let standings: Vec<_> = eligible.iter()
                .map(|&e| if e { Standing::Available } else { cooling(5) }).collect();
            let served = turns(&ring(&standings), turns_taken);
            let shares: Vec<_> = (1u32..).zip(&eligible).filter(|(_, e)| **e)
                .map(|(ordinal, _)| served.iter().filter(|&&s| s == ordinal).count()).collect();
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
