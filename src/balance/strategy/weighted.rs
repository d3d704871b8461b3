//! Weighted round robin without bursts.
//!
//! Every turn, each member earns its weight and the one that serves pays the total: its credit is how much of a turn it
//! is owed. Among those who are owed something, the one whose next turn falls due first serves (earliest deadline
//! first over the windows of P-fair scheduling: Baruah, Cohen, Plaxton and Varvel, "Proportionate progress", 1996). With
//! a stable set every prefix is within 1 of the ideal share and every window within 2, which the smooth rule of nginx
//! misses: {5,1,1} serves four in a row across a cycle's edge.
//!
//! When the set changes, those who stay keep what they are owed, newcomers start with nothing, and what the leavers
//! took with them is spread over the rest by weight.

use super::rules::{Credit, Rules, Turn, turn_order};
use crate::balance::Candidate;
use std::cmp::Reverse;

/// Makes the rounding when a set changes small beside a turn. Small enough for Lua: at 1000 members of weight 10,000, a
/// credit times a total stays under 2^53.
pub(crate) const SCALE: i64 = 16;

pub(super) struct Weighted;

impl Rules for Weighted {
    fn name(&self) -> &'static str {
        "weighted-round-robin"
    }

    fn choose(&self, eligible: &[&Candidate<'_>], turn: &mut Turn) -> Option<usize> {
        let total: i64 = eligible.iter().map(|candidate| i64::from(candidate.member.weight)).sum();
        let stable = turn.credits.len() == eligible.len()
            && turn
                .credits
                .iter()
                .zip(eligible)
                .all(|(old, new)| old.key == new.member.key && old.weight == new.member.weight);
        if !stable {
            turn.credits = rebase(&turn.credits, eligible, total);
        }
        for credit in &mut turn.credits {
            credit.credit += i64::from(credit.weight) * SCALE;
        }
        let whole = total * SCALE;
        let open =
            eligible.iter().zip(&turn.credits).enumerate().filter(|(_, (candidate, _))| !candidate.tried);
        let (at, _) = open.min_by_key(|(_, (candidate, credit))| {
            // Turns until it would be owed a whole one: then its window closes.
            let due = (whole - credit.credit).div_euclid_ceil(i64::from(credit.weight) * SCALE);
            // The heavier first where two are due together: it has the most turns to spread.
            (credit.credit <= 0, due, Reverse(credit.weight), turn_order(candidate, turn.last))
        })?;
        turn.credits.get_mut(at)?.credit -= whole;
        Some(at)
    }

    fn score(&self, one: &Candidate<'_>, _: &[Candidate<'_>], turn: &Turn) -> f64 {
        let total: i64 = turn.credits.iter().map(|credit| i64::from(credit.weight)).sum();
        let own = turn.credits.iter().find(|credit| credit.key == one.member.key);
        own.map_or(0.0, |own| -(own.credit as f64) / (total.max(1) * SCALE) as f64)
    }
}

/// The credits of a changed set.
fn rebase(old: &[Credit], eligible: &[&Candidate<'_>], total: i64) -> Vec<Credit> {
    let old_total: i64 = old.iter().map(|credit| i64::from(credit.weight)).sum();
    let mut credits: Vec<_> = eligible
        .iter()
        .map(|candidate| {
            let member = candidate.member;
            let kept = old.iter().find(|credit| credit.key == member.key).map_or(0, |credit| credit.credit);
            // In turns it stays the same; the unit is the total.
            let credit = if old_total == 0 { 0 } else { (kept * total).div_euclid(old_total) };
            Credit { key: member.key.clone(), weight: member.weight, credit }
        })
        .collect();
    let sum: i64 = credits.iter().map(|credit| credit.credit).sum();
    let mut left = sum;
    for credit in &mut credits {
        let share = (sum * i64::from(credit.weight)).div_euclid(total);
        credit.credit -= share;
        left -= share;
    }
    if let Some(first) = credits.first_mut() {
        first.credit -= left;
    }
    credits
}

trait CeilDiv {
    fn div_euclid_ceil(self, divisor: Self) -> Self;
}

impl CeilDiv for i64 {
    /// Rounds up, for a positive divisor.
    fn div_euclid_ceil(self, divisor: Self) -> Self {
        -(-self).div_euclid(divisor)
    }
}

#[cfg(test)]
mod tests {
    use crate::balance::{Candidate, Strategy, Turn, strategy::tests::candidates};
    use proptest::prelude::*;

    fn serve(all: &[Candidate<'_>], turn: &mut Turn, picks: usize) -> Vec<usize> {
        let all: Vec<_> = all.iter().collect();
        (0..picks).map(|_| Strategy::WeightedRoundRobin.choose(&all, turn).unwrap()).collect()
    }

    fn longest_run(served: &[usize]) -> usize {
        served.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap_or(0)
    }

    #[test]
    fn heavy_members_do_not_burst_across_a_cycles_edge() {
        let served = serve(&candidates(&[5, 1, 1]), &mut Turn::default(), 70);
        assert!(longest_run(&served) <= 3, "{served:?}");
        assert_eq!(served.iter().filter(|&&index| index == 0).count(), 50);
    }

    #[test]
    fn equal_weights_are_round_robin() {
        assert_eq!(serve(&candidates(&[3, 3, 3]), &mut Turn::default(), 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_member_that_comes_back_does_not_catch_up() {
        let all = candidates(&[1, 1]);
        let mut turn = Turn::default();
        serve(&all, &mut turn, 10);
        serve(&all[..1], &mut turn, 50);
        let served = serve(&all, &mut turn, 20);
        assert!(longest_run(&served) <= 2, "{served:?}");
    }

    proptest! {
        #[test]
        fn prefixes_are_within_1_and_windows_within_2_of_the_ideal(
            weights in proptest::collection::vec(1u32..100, 1..10), picks in 1usize..400,
        ) {
            let served = serve(&candidates(&weights), &mut Turn::default(), picks);
            let total: u32 = weights.iter().sum();
            for (index, &weight) in weights.iter().enumerate() {
                let (mut least, mut most) = (0.0f64, 0.0f64);
                let mut count = 0.0;
                for (step, &chosen) in served.iter().enumerate() {
                    count += f64::from(u8::from(chosen == index));
                    let lag = (step + 1) as f64 * f64::from(weight) / f64::from(total) - count;
                    prop_assert!(lag.abs() < 1.0 + 1e-9, "member {index} lags {lag} after {}", step + 1);
                    least = least.min(lag);
                    most = most.max(lag);
                }
                prop_assert!(most - least < 2.0 + 1e-9);
            }
        }

        #[test]
        fn the_bounds_hold_again_after_a_change(
            before in proptest::collection::vec(1u32..50, 1..6),
            after in proptest::collection::vec(1u32..50, 1..6), picks in 1usize..100,
        ) {
            let mut turn = Turn::default();
            serve(&candidates(&before), &mut turn, picks);
            let served = serve(&candidates(&after), &mut turn, 400);
            let total: u32 = after.iter().sum();
            for (index, &weight) in after.iter().enumerate() {
                let count = served.iter().filter(|&&chosen| chosen == index).count() as f64;
                let ideal = 400.0 * f64::from(weight) / f64::from(total);
                prop_assert!((count - ideal).abs() <= 2.0 + 1e-9, "{count} of {ideal}");
            }
        }
    }
}
