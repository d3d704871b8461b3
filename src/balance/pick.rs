//! Who may serve, and who of them does: eligibility, priority tiers, then the pool's strategy.
//!
//! `src/state/redis/acquire.lua` holds the same rules.

use super::{Candidate, Cooling, Standing, Strategy, Time, Turn};

/// The outcome of a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This one serves; as a trial, where its cooldown has just ended.
    Serve {
        /// Its index among the candidates.
        index: usize,
        /// Whether it is half-open, or joins the trial that is on its way.
        trial: bool,
    },
    /// This one serves although it cools: nobody else can, and nobody has said that it cannot.
    LastResort {
        /// Its index among the candidates.
        index: usize,
    },
    /// None may now, but the trial of one that this call has not tried is on its way: wait for its verdict.
    TrialRunning,
    /// None may, and waiting for a trial does not help.
    Exhausted {
        /// The first of all members to come back, tried ones included: when, and what it waits for. `None` where one
        /// could serve another call.
        first_back: Option<Cooling>,
    },
}

/// What else than the members a pick goes by.
#[derive(Debug, Clone, Copy)]
pub struct PickRules {
    /// How it chooses.
    pub strategy: Strategy,
    /// Whether the call may join a trial: not while it can go to another pool.
    pub joins: bool,
    /// Whether the call may be one of the pool's last resort.
    pub last_resort: bool,
    /// The time.
    pub now: Time,
}

/// The priority that serves: the lowest of which somebody can who has not been tried.
#[must_use]
pub fn serving_tier(candidates: &[Candidate<'_>]) -> Option<i32> {
    best_tier(candidates, Candidate::may_serve)
}

fn best_tier<'m>(candidates: &[Candidate<'m>], may: impl Fn(&Candidate<'m>) -> bool) -> Option<i32> {
    let open = candidates.iter().filter(|candidate| !candidate.tried && may(candidate));
    open.map(|candidate| candidate.member.priority).min()
}

/// The strategy's choice among those of the best tier who may, and its index.
fn choose<'c, 'm>(
    candidates: &'c [Candidate<'m>],
    strategy: Strategy,
    turn: &mut Turn,
    may: impl Fn(&Candidate<'m>) -> bool,
) -> Option<(usize, &'c Candidate<'m>)> {
    let tier = best_tier(candidates, &may)?;
    let in_tier = |(_, one): &(usize, &Candidate<'m>)| one.member.priority == tier && may(one);
    let (places, eligible): (Vec<_>, Vec<_>) = candidates.iter().enumerate().filter(in_tier).unzip();
    let chosen = strategy.choose(&eligible, turn)?;
    places.get(chosen).copied().zip(eligible.get(chosen).copied())
}

/// Picks among `candidates` and moves the pool's turn on.
///
/// ```
/// use rota::balance::{
///     Candidate, Limits, Member, MemberKey, Pick, PickRules, Standing, Strategy, Time, Turn, pick,
/// };
///
/// let members = [1, 2, 3].map(|ordinal| Member {
///     key: MemberKey::new(ordinal, "0"),
///     credential: "c".into(),
///     address: "".into(),
///     priority: 0,
///     weight: 1,
///     limits: Limits::default(),
/// });
/// let ring = [0, 1, 2].map(|index| Candidate {
///     member: &members[index],
///     tried: false,
///     standing: Standing::Available,
///     opens: None,
///     resort: None,
///     full_until: None,
///     in_flight: 0,
/// });
/// let mut turn = Turn { last: Some(3), ..Turn::default() };
/// let now = Time::from_millis(1);
/// let rules = PickRules { strategy: Strategy::RoundRobin, joins: true, last_resort: true, now };
/// assert_eq!(pick(&ring, rules, &mut turn), Pick::Serve { index: 0, trial: false });
/// ```
#[must_use]
pub fn pick(candidates: &[Candidate<'_>], rules: PickRules, turn: &mut Turn) -> Pick {
    let PickRules { strategy, joins, now, .. } = rules;
    if let Some((index, candidate)) = choose(candidates, strategy, turn, Candidate::may_serve) {
        return Pick::Serve { index, trial: candidate.standing == Standing::HalfOpen };
    }
    if joins && let Some((index, _)) = choose(candidates, strategy, turn, Candidate::may_be_joined) {
        return Pick::Serve { index, trial: true };
    }
    let resort = rules.last_resort.then(|| last_resort(candidates)).flatten();
    if let Some((_, index)) = resort.filter(|(from, _)| now >= *from) {
        return Pick::LastResort { index };
    }
    let is_tried_out = |standing| matches!(standing, Standing::TrialRunning | Standing::Joinable);
    let waits = |c: &Candidate<'_>| !c.tried && c.full_until.is_none() && is_tried_out(c.standing);
    if candidates.iter().any(waits) {
        return Pick::TrialRunning;
    }
    let mut first_back: Option<Cooling> = None;
    for candidate in candidates {
        match candidate.away() {
            Some(away) if first_back.is_none_or(|first| away.ends < first.ends) => first_back = Some(away),
            Some(_) => {}
            None => return Pick::Exhausted { first_back: None },
        }
    }
    if let (Some(first), Some((from, _))) = (&mut first_back, resort) {
        first.ends = first.ends.min(from);
    }
    Pick::Exhausted { first_back }
}

/// From when on a pool may call which of its members as its last resort; none where it has nobody to call.
///
/// Every member must cool, or have its trial on its way. Where one is merely at its limit, waiting for that helps.
#[must_use]
pub fn last_resort(candidates: &[Candidate<'_>]) -> Option<(Time, usize)> {
    let is_away = |one: &Candidate<'_>| matches!(one.standing, Standing::Cooling(_) | Standing::TrialRunning);
    if !candidates.iter().all(is_away) {
        return None;
    }
    let guesses = || candidates.iter().filter_map(|candidate| candidate.resort);
    let passed = guesses().map(|resort| resort.passed).max()?;
    let pace = guesses().map(|resort| resort.pace()).min()?;
    let open = candidates.iter().enumerate().filter(|(_, one)| !one.tried && one.full_until.is_none());
    let (_, index) = open.filter_map(|(index, one)| Some((one.resort?.failed, index))).min()?;
    Some((passed + pace, index))
}

#[cfg(test)]
mod tests {
    use super::{Strategy, *};
    use crate::balance::{ErrorClass, Limits, Member, MemberKey, Resort, Time};
    use proptest::prelude::*;
    use proptest::strategy::Strategy as _;

    /// Members that are never freed, so that tests may change their candidates.
    fn ring(standings: &[Standing]) -> Vec<Candidate<'static>> {
        let candidate = |(ordinal, &standing)| Candidate {
            member: Box::leak(Box::new(member(ordinal))),
            tried: false,
            standing,
            opens: None,
            resort: None,
            full_until: None,
            in_flight: 0,
        };
        (1..).zip(standings).map(candidate).collect()
    }

    fn member(ordinal: u32) -> Member {
        Member {
            key: MemberKey::new(ordinal, "0"),
            credential: "c".into(),
            address: "".into(),
            priority: 0,
            weight: 1,
            limits: Limits::default(),
        }
    }

    fn of_priority(candidate: &mut Candidate<'static>, priority: i32) {
        candidate.member = Box::leak(Box::new(Member { priority, ..candidate.member.clone() }));
    }

    fn cooling(ends: u64) -> Standing {
        Standing::Cooling(Cooling { ends: Time::from_millis(ends), class: ErrorClass::RateLimited })
    }

    const ROUND: PickRules = PickRules {
        strategy: Strategy::RoundRobin,
        joins: true,
        last_resort: true,
        now: Time::from_millis(1_000_000),
    };

    fn after(last: u32) -> Turn {
        Turn { last: Some(last), ..Turn::default() }
    }

    fn turns(ring: &[Candidate<'_>], count: usize) -> Vec<u32> {
        let mut turn = Turn::default();
        let served = |_| match pick(ring, ROUND, &mut turn) {
            Pick::Serve { index, .. } => ring[index].member.key.ordinal,
            other => panic!("nothing to serve: {other:?}"),
        };
        (0..count).map(served).collect()
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
        assert_eq!(pick(&ring, ROUND, &mut after(2)), Pick::Serve { index: 1, trial: false });
    }

    #[test]
    fn a_lower_tier_serves_only_when_no_higher_one_can() {
        let mut ring = ring(&[Standing::Available, Standing::Available, Standing::Available]);
        of_priority(&mut ring[0], 1);
        assert_eq!(turns(&ring, 4), [2, 3, 2, 3]);
        ring[1].standing = cooling(5);
        ring[2].tried = true;
        assert_eq!(pick(&ring, ROUND, &mut after(2)), Pick::Serve { index: 0, trial: false });
    }

    #[test]
    fn a_half_open_member_takes_its_turn_as_a_trial() {
        let ring = ring(&[Standing::Available, Standing::HalfOpen, Standing::TrialRunning]);
        let next = |last| pick(&ring, ROUND, &mut after(last));
        assert_eq!(next(1), Pick::Serve { index: 1, trial: true });
        assert_eq!(next(2), Pick::Serve { index: 0, trial: false });
    }

    #[test]
    fn a_running_trial_is_worth_waiting_for_unless_tried() {
        let mut ring = ring(&[Standing::TrialRunning, cooling(7)]);
        let mut turn = Turn::default();
        assert_eq!(pick(&ring, ROUND, &mut turn), Pick::TrialRunning);
        ring[0].tried = true;
        assert_eq!(pick(&ring, ROUND, &mut turn), Pick::Exhausted { first_back: None });
    }

    #[test]
    fn a_trial_is_joined_where_nobody_else_can_serve() {
        let mut ring = ring(&[Standing::Joinable, Standing::Available, cooling(7)]);
        let mut turn = Turn::default();
        assert_eq!(pick(&ring, ROUND, &mut turn), Pick::Serve { index: 1, trial: false });
        ring[1].tried = true;
        assert_eq!(pick(&ring, ROUND, &mut turn), Pick::Serve { index: 0, trial: true });
        assert_eq!(pick(&ring, PickRules { joins: false, ..ROUND }, &mut turn), Pick::TrialRunning);
    }

    #[test]
    fn the_last_resort_is_who_failed_longest_ago_at_its_pace() {
        let guess = |failed, passed, served| {
            let [failed, passed] = [failed, passed].map(Time::from_millis);
            Some(Resort { failed, passed, served })
        };
        let mut all = ring(&[cooling(90_000), cooling(80_000), Standing::TrialRunning]);
        (all[0].resort, all[1].resort) = (guess(20_000, 22_000, 0), guess(19_000, 21_000, 0));
        let at = |all: &[Candidate<'_>], now| {
            let rules = PickRules { now: Time::from_millis(now), ..ROUND };
            pick(all, rules, &mut Turn::default())
        };
        assert_eq!(at(&all, 22_999), Pick::TrialRunning);
        assert_eq!(at(&all, 23_000), Pick::LastResort { index: 1 });
        all[0].resort = guess(20_000, 22_000, 2);
        assert_eq!(at(&all, 22_250), Pick::LastResort { index: 1 }, "those that served let more through");
        all[1].tried = true;
        assert_eq!(at(&all, 22_250), Pick::LastResort { index: 0 });
        all[0].resort = None;
        assert_eq!(at(&all, 30_000), Pick::TrialRunning, "it is no guess");
        all[2].standing = cooling(70_000);
        all[1].tried = false;
        let soon = Cooling { ends: Time::from_millis(22_000), class: ErrorClass::RateLimited };
        assert_eq!(
            at(&all, 21_500),
            Pick::Exhausted { first_back: Some(soon) },
            "the next of the last resort"
        );
        all[2].standing = Standing::Available;
        all[2].full_until = Some(Time::from_millis(60_000));
        assert!(matches!(at(&all, 30_000), Pick::Exhausted { .. }), "one is only at its limit");
        let rules = PickRules { last_resort: false, now: Time::from_millis(30_000), ..ROUND };
        all.pop();
        assert!(matches!(pick(&all, rules, &mut Turn::default()), Pick::Exhausted { .. }));
    }

    #[test]
    fn all_away_says_who_is_back_first() {
        let mut ring = ring(&[cooling(30), cooling(10), Standing::Available]);
        ring[2].full_until = Some(Time::from_millis(20));
        let mut turn = Turn::default();
        let first_back = |millis| {
            let ends = Time::from_millis(millis);
            Pick::Exhausted { first_back: Some(Cooling { ends, class: ErrorClass::RateLimited }) }
        };
        assert_eq!(pick(&ring, ROUND, &mut turn), first_back(10));
        ring[1].full_until = Some(Time::from_millis(40));
        assert_eq!(pick(&ring, ROUND, &mut turn), first_back(20));
        assert_eq!(pick(&[], ROUND, &mut turn), Pick::Exhausted { first_back: None });
        assert_eq!(turn, Turn::default(), "a pick that serves nobody moves nothing");
    }

    fn any_standing() -> impl proptest::strategy::Strategy<Value = Standing> {
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
            members in proptest::collection::vec(
                (any_standing(), any::<bool>(), -1i32..3, proptest::option::weighted(0.2, 1u64..9), 0u32..5), 0..12),
            last in proptest::option::of(0u32..14),
            strategy in proptest::sample::select(&Strategy::ALL[..]),
        ) {
            let mut ring = ring(&members.iter().map(|member| member.0).collect::<Vec<_>>());
            for (candidate, &(_, tried, priority, full_until, in_flight)) in ring.iter_mut().zip(&members) {
                of_priority(candidate, priority);
                (candidate.tried, candidate.in_flight) = (tried, in_flight);
                candidate.full_until = full_until.map(Time::from_millis);
            }
            let may = |c: &Candidate<'_>| !c.tried && c.full_until.is_none()
                && matches!(c.standing, Standing::Available | Standing::HalfOpen);
            match pick(&ring, PickRules { strategy, ..ROUND }, &mut Turn { last, ..Turn::default() }) {
                Pick::Serve { index, trial } => {
                    prop_assert!(may(&ring[index]));
                    prop_assert_eq!(trial, ring[index].standing == Standing::HalfOpen);
                    prop_assert!(ring.iter().all(|c| !may(c) || c.member.priority >= ring[index].member.priority));
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
