//! Least connections: the fewest calls in flight for its weight, ties by turn.

use super::rules::{Rules, Turn, turn_order};
use crate::balance::Candidate;
use std::cmp::Ordering;

pub(super) struct LeastConnections;

impl Rules for LeastConnections {
    fn name(&self) -> &'static str {
        "least-connections"
    }

    fn counts_in_flight(&self) -> bool {
        true
    }

    fn choose(&self, eligible: &[&Candidate<'_>], turn: &mut Turn) -> Option<usize> {
        let open = eligible.iter().enumerate().filter(|(_, candidate)| !candidate.tried);
        open.min_by(|(_, a), (_, b)| {
            by_load(a, b).then_with(|| turn_order(a, turn.last).cmp(&turn_order(b, turn.last)))
        })
        .map(|(at, _)| at)
    }

    fn score(&self, one: &Candidate<'_>, _: &[Candidate<'_>], _: &Turn) -> f64 {
        f64::from(one.in_flight) / f64::from(one.member.weight.max(1))
    }
}

/// Compares in-flight / weight without dividing.
fn by_load(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let load = |one: &Candidate<'_>, other: &Candidate<'_>| {
        u64::from(one.in_flight) * u64::from(other.member.weight)
    };
    load(a, b).cmp(&load(b, a))
}

#[cfg(test)]
mod tests {
    use crate::balance::strategy::{Strategy, Turn, tests::candidates};

    fn pick(weights: &[u32], in_flight: &[u32], last: Option<u32>) -> u32 {
        let mut all = candidates(weights);
        for (candidate, &calls) in all.iter_mut().zip(in_flight) {
            candidate.in_flight = calls;
        }
        let mut turn = Turn { last, ..Turn::default() };
        let all: Vec<_> = all.iter().collect();
        all[Strategy::LeastConnections.choose(&all, &mut turn).unwrap()].member.key.ordinal
    }

    #[test]
    fn the_least_loaded_for_its_weight_serves() {
        assert_eq!(pick(&[1, 1, 1], &[3, 1, 2], None), 2);
        assert_eq!(pick(&[1, 4], &[1, 3], None), 2, "3 of 4 is less than 1 of 1");
        assert_eq!(pick(&[1, 4], &[1, 5], None), 1);
    }

    #[test]
    fn ties_go_by_turn() {
        assert_eq!(pick(&[1, 1, 1], &[0, 0, 0], Some(1)), 2);
        assert_eq!(pick(&[1, 1, 1], &[0, 0, 0], Some(3)), 1);
        assert_eq!(pick(&[2, 1, 1], &[2, 1, 1], Some(1)), 2);
    }
}
