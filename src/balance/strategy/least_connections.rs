//! Least connections: the fewest calls in flight for its weight, ties by turn.

use super::{Choose, Eligible, Turn, turn_order};
use std::cmp::Ordering;

pub(super) struct LeastConnections;

impl Choose for LeastConnections {
    fn choose(&self, eligible: &[Eligible], turn: &mut Turn) -> Option<usize> {
        let open = eligible.iter().enumerate().filter(|(_, member)| !member.tried);
        open.min_by(|(_, a), (_, b)| {
            by_load(a, b).then_with(|| turn_order(a, turn.last).cmp(&turn_order(b, turn.last)))
        })
        .map(|(at, _)| at)
    }
}

/// Compares in-flight / weight without dividing.
fn by_load(a: &Eligible, b: &Eligible) -> Ordering {
    let load = |one: &Eligible, other: &Eligible| u64::from(one.in_flight) * u64::from(other.weight);
    load(a, b).cmp(&load(b, a))
}

#[cfg(test)]
mod tests {
    use crate::balance::strategy::{Strategy, Turn, tests::members};

    fn pick(weights: &[u32], in_flight: &[u32], last: Option<u32>) -> u32 {
        let mut members = members(weights);
        for (member, &calls) in members.iter_mut().zip(in_flight) {
            member.in_flight = calls;
        }
        let mut turn = Turn { last, ..Turn::default() };
        Strategy::LeastConnections.choose(&members, &mut turn).unwrap().ordinal
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
