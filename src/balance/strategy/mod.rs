//! Who of the eligible serves next. A strategy is a file here that implements `Rules`, a variant of [`Strategy`], and a
//! function in `src/state/redis/strategies.lua`.
//!
//! A strategy sees the eligible members of the best priority tier in ring order. It chooses one that the call has not
//! tried, and may change the pool's [`Turn`], which the store keeps between picks. Integers alone, so that Lua agrees.
//!
//! Strategies that order members by what this replica knows, such as latency, will pass that order in as another field
//! of [`Candidate`]; the store then only takes the first that may serve.

mod least_connections;
mod round_robin;
mod rules;
mod weighted;

use super::{Candidate, Members};
use rules::Rules;
pub use rules::{Credit, Turn};
pub(crate) use weighted::SCALE;

/// How a pool chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Everyone in turn, whatever the weight.
    #[default]
    RoundRobin,
    /// In turn, in proportion to the weights, without bursts.
    WeightedRoundRobin,
    /// The fewest calls in flight for its weight.
    LeastConnections,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 3] = [Self::RoundRobin, Self::WeightedRoundRobin, Self::LeastConnections];

    /// The name it is stored under, and sent to Redis by.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.rules().name()
    }

    /// The strategy of that [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    /// Whether it looks at the calls in flight.
    #[must_use]
    pub fn counts_in_flight(self) -> bool {
        self.rules().counts_in_flight()
    }

    /// Whether nothing but the turn decides among those of these members who may serve.
    #[must_use]
    pub fn goes_by_turn_alone(self, members: &Members) -> bool {
        members.are_alike() && self.rules().choose_of_all(members, &Turn::default()).is_some()
    }

    /// Chooses among members who may all serve and are all alike, and moves the turn on, where that can be told without
    /// a look at all of them: the same as [`choose`](Self::choose) would.
    pub fn choose_of_all(self, members: &Members, turn: &mut Turn) -> Option<usize> {
        let index = self.rules().choose_of_all(members, turn).filter(|_| members.are_alike())?;
        turn.last = members.get(index).map(|member| member.key.ordinal);
        Some(index)
    }

    /// Chooses and moves the turn on; the index in `eligible`, `None` where all are tried.
    pub fn choose(self, eligible: &[&Candidate<'_>], turn: &mut Turn) -> Option<usize> {
        if eligible.iter().all(|candidate| candidate.tried) {
            return None;
        }
        let at = self.rules().choose(eligible, turn)?;
        turn.last = Some(eligible.get(at)?.member.key.ordinal);
        Some(at)
    }

    /// How far one of all candidates is from its turn, by the strategy's own measure: places in the ring, turns it is
    /// owed (negative: owed), or calls in flight for its weight. The lower comes first.
    #[must_use]
    pub fn score(self, one: &Candidate<'_>, all: &[Candidate<'_>], turn: &Turn) -> f64 {
        self.rules().score(one, all, turn)
    }

    fn rules(self) -> &'static dyn Rules {
        match self {
            Self::RoundRobin => &round_robin::RoundRobin,
            Self::WeightedRoundRobin => &weighted::Weighted,
            Self::LeastConnections => &least_connections::LeastConnections,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Strategy, *};
    use crate::balance::{Limits, Member, MemberKey, Standing};
    use proptest::prelude::*;

    /// Members with those weights that may all serve. They are never freed, so that tests may change their candidates.
    pub(in crate::balance) fn candidates(weights: &[u32]) -> Vec<Candidate<'static>> {
        (1..).zip(weights).map(|(ordinal, &weight)| candidate(ordinal, weight)).collect()
    }

    fn member(ordinal: u32, weight: u32) -> Member {
        Member {
            key: MemberKey::new(ordinal, "0"),
            credential: "c".into(),
            address: "".into(),
            priority: 0,
            weight,
            limits: Limits::default(),
        }
    }

    fn candidate(ordinal: u32, weight: u32) -> Candidate<'static> {
        let member = Box::leak(Box::new(member(ordinal, weight)));
        Candidate {
            member,
            tried: false,
            standing: Standing::Available,
            opens: None,
            resort: None,
            full_until: None,
            in_flight: 0,
        }
    }

    proptest! {
        #[test]
        fn the_short_way_chooses_as_the_long_one(
            ordinals in proptest::collection::btree_set(0u32..40, 0..12), last in proptest::option::of(0u32..41),
        ) {
            let members: Members = ordinals.iter().map(|&ordinal| member(ordinal, 1)).collect();
            let all: Vec<_> = ordinals.iter().map(|&ordinal| candidate(ordinal, 1)).collect();
            let (mut short, mut long) = (Turn { last, ..Turn::default() }, Turn { last, ..Turn::default() });
            let chosen = Strategy::RoundRobin.choose(&all.iter().collect::<Vec<_>>(), &mut long);
            prop_assert_eq!(Strategy::RoundRobin.choose_of_all(&members, &mut short), chosen);
            prop_assert_eq!(short, long);
        }

        /// Members come and go at random between picks; one that stays is served within bounded time.
        #[test]
        fn nobody_who_stays_starves_under_churn(
            weights in proptest::collection::vec(1u32..20, 2..8),
            churn in proptest::collection::vec(any::<u8>(), 400),
            strategy in proptest::sample::select(&Strategy::ALL[..]),
        ) {
            let all = candidates(&weights);
            let total: u32 = weights.iter().sum();
            let mut turn = Turn::default();
            let mut waited = 0;
            for mask in churn {
                // The first member never leaves.
                let here: Vec<_> = all.iter().enumerate()
                    .filter(|(index, _)| *index == 0 || mask & (1 << (index % 8)) != 0)
                    .map(|(_, candidate)| candidate).collect();
                let chosen = here[strategy.choose(&here, &mut turn).unwrap()];
                waited = if chosen.member.key.ordinal == 1 { 0 } else { waited + 1 };
                prop_assert!(waited <= 2 * total, "{strategy:?} waited {waited}");
            }
        }

        #[test]
        fn the_tried_are_never_chosen(
            weights in proptest::collection::vec(1u32..9, 1..8), tried in any::<u8>(), picks in 1usize..40,
            strategy in proptest::sample::select(&Strategy::ALL[..]),
        ) {
            let mut all = candidates(&weights);
            for (index, candidate) in all.iter_mut().enumerate() {
                candidate.tried = tried & (1 << index) != 0;
            }
            let all: Vec<_> = all.iter().collect();
            let mut turn = Turn::default();
            for _ in 0..picks {
                match strategy.choose(&all, &mut turn) {
                    Some(chosen) => prop_assert!(!all[chosen].tried),
                    None => prop_assert!(all.iter().all(|candidate| candidate.tried)),
                }
            }
        }
    }
}
