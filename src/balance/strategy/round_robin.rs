//! Round robin: the next eligible member after the last served.
//!
//! Not "index plus linear skip", which would give the member behind a gap the gap's share as well. The pointer is the
//! ordinal of the last served, so it keeps its place when members come and go.

use super::rules::{Rules, Turn, turn_order};
use crate::balance::{Candidate, Members};

pub(super) struct RoundRobin;

impl Rules for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn choose(&self, eligible: &[&Candidate<'_>], turn: &mut Turn) -> Option<usize> {
        let open = eligible.iter().enumerate().filter(|(_, candidate)| !candidate.tried);
        open.min_by_key(|(_, candidate)| turn_order(candidate, turn.last)).map(|(at, _)| at)
    }

    fn choose_of_all(&self, members: &Members, turn: &Turn) -> Option<usize> {
        let behind = turn.last.map_or(0, |last| members.partition_point(|member| member.key.ordinal <= last));
        let at = if behind < members.len() { behind } else { 0 };
        (!members.is_empty()).then_some(at)
    }

    fn score(&self, one: &Candidate<'_>, all: &[Candidate<'_>], turn: &Turn) -> f64 {
        let place = turn_order(one, turn.last);
        all.iter().filter(|other| turn_order(other, turn.last) < place).count() as f64
    }
}
