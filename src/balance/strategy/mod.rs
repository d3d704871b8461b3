//! Who of the eligible serves next. A strategy is a file here, with a twin in `src/state/redis/acquire.lua`.
//!
//! A strategy sees the eligible members of the best priority tier in ring order. It chooses one that the call has not
//! tried, and changes the pool's [`Turn`], which the store keeps between picks. Integers alone, so that Lua agrees.
//!
//! Strategies that order members by what this replica knows, such as latency, will pass that order in as another field
//! of [`Eligible`]; the store then only takes the first that may serve.

mod least_connections;
mod round_robin;
mod weighted;

use super::Members;
use least_connections::LeastConnections;
use round_robin::RoundRobin;
use std::sync::Arc;
pub use weighted::SCALE as CREDIT_SCALE;
use weighted::Weighted;

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

/// One member that may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligible {
    /// Its index among the candidates.
    pub index: usize,
    /// Its place in the ring.
    pub ordinal: u32,
    /// Names it between picks.
    pub key: Arc<str>,
    /// At least 1.
    pub weight: u32,
    /// Calls in flight on it, over all replicas.
    pub in_flight: u32,
    /// Whether this call has tried it: then it keeps its place in the order, but is not chosen.
    pub tried: bool,
}

/// What a pool remembers between picks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// The ordinal of the last served.
    pub last: Option<u32>,
    /// Weighted round robin: who shared the last turn, and how far each is from its share.
    pub credits: Vec<Credit>,
}

/// How far one member is ahead of or behind its share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// The member.
    pub key: Arc<str>,
    /// Its weight then.
    pub weight: u32,
    /// In turns times the total weight times [`CREDIT_SCALE`]; positive: it is owed.
    pub credit: i64,
}

/// Chooses among the eligible. There is at least one that is not tried.
trait Choose {
    /// The index in `eligible` of the one that serves.
    fn choose(&self, eligible: &[Eligible], turn: &mut Turn) -> Option<usize>;
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 3] = [Self::RoundRobin, Self::WeightedRoundRobin, Self::LeastConnections];

    /// The name it is stored under, and sent to Redis by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::LeastConnections => "least-connections",
        }
    }

    /// The strategy of that [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    /// Whether it looks at the calls in flight.
    #[must_use]
    pub const fn counts_in_flight(self) -> bool {
        matches!(self, Self::LeastConnections)
    }

    /// Whether nothing but the turn decides among those of these members who may serve.
    #[must_use]
    pub fn goes_by_turn_alone(self, members: &Members) -> bool {
        self == Self::RoundRobin && members.are_alike()
    }

    /// Chooses among members who may all serve and are all alike, and moves the turn on, where that can be told without
    /// a look at all of them: the same as [`choose`](Self::choose) would.
    pub fn choose_of_all(self, members: &Members, turn: &mut Turn) -> Option<usize> {
        if !self.goes_by_turn_alone(members) {
            return None;
        }
        let index = round_robin::next_of_all(members, turn.last)?;
        turn.last = members.get(index).map(|member| member.ordinal);
        Some(index)
    }

    /// Chooses and moves the turn on; `None` where all are tried.
    pub fn choose<'e>(self, eligible: &'e [Eligible], turn: &mut Turn) -> Option<&'e Eligible> {
        let chooser: &dyn Choose = match self {
            Self::RoundRobin => &RoundRobin,
            Self::WeightedRoundRobin => &Weighted,
            Self::LeastConnections => &LeastConnections,
        };
        if eligible.iter().all(|member| member.tried) {
            return None;
        }
        let chosen = chooser.choose(eligible, turn).and_then(|at| eligible.get(at))?;
        turn.last = Some(chosen.ordinal);
        Some(chosen)
    }
}

/// Where a member stands in the turn: those behind the last served come first, then by place in the ring.
fn turn_order(member: &Eligible, last: Option<u32>) -> (bool, u32) {
    (last.is_some_and(|last| member.ordinal <= last), member.ordinal)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Strategy, *};
    use proptest::prelude::*;

    pub(in crate::balance) fn members(weights: &[u32]) -> Vec<Eligible> {
        weights
            .iter()
            .enumerate()
            .map(|(index, &weight)| Eligible {
                index,
                ordinal: index as u32 + 1,
                key: format!("{}.0", index + 1).into(),
                weight,
                in_flight: 0,
                tried: false,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_short_way_chooses_as_the_long_one(
            ordinals in proptest::collection::btree_set(0u32..40, 0..12), last in proptest::option::of(0u32..41),
        ) {
            let members: Members = ordinals.iter().map(|&ordinal| crate::balance::Member {
                ordinal, key: ordinal.to_string().into(), credential: "c".into(), priority: 0, weight: 1,
                limits: crate::balance::Limits::default(),
            }).collect();
            let eligible: Vec<_> = members.iter().enumerate().map(|(index, member)| Eligible {
                index, ordinal: member.ordinal, key: member.key.clone(), weight: 1, in_flight: 0, tried: false,
            }).collect();
            let (mut short, mut long) = (Turn { last, ..Turn::default() }, Turn { last, ..Turn::default() });
            let chosen = Strategy::RoundRobin.choose(&eligible, &mut long).map(|chosen| chosen.index);
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
            let all = members(&weights);
            let total: u32 = weights.iter().sum();
            let mut turn = Turn::default();
            let mut waited = 0;
            for mask in churn {
                // The first member never leaves.
                let here: Vec<_> = all.iter().enumerate()
                    .filter(|(index, _)| *index == 0 || mask & (1 << (index % 8)) != 0)
                    .map(|(_, member)| member.clone()).collect();
                let chosen = strategy.choose(&here, &mut turn).unwrap();
                prop_assert!(here.contains(chosen));
                waited = if chosen.ordinal == 1 { 0 } else { waited + 1 };
                prop_assert!(waited <= 2 * total, "{strategy:?} waited {waited}");
            }
        }

        #[test]
        fn the_tried_are_never_chosen(
            weights in proptest::collection::vec(1u32..9, 1..8), tried in any::<u8>(), picks in 1usize..40,
            strategy in proptest::sample::select(&Strategy::ALL[..]),
        ) {
            let mut all = members(&weights);
            for (index, member) in all.iter_mut().enumerate() {
                member.tried = tried & (1 << index) != 0;
            }
            let mut turn = Turn::default();
            for _ in 0..picks {
                match strategy.choose(&all, &mut turn) {
                    Some(chosen) => prop_assert!(!chosen.tried),
                    None => prop_assert!(all.iter().all(|member| member.tried)),
                }
            }
        }
    }
}
