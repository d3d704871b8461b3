//! Round robin: the next eligible member after the last served.
//!
//! Not "index plus linear skip", which would give the member behind a gap the gap's share as well. The pointer is the
//! ordinal of the last served, so it keeps its place when members come and go.

use super::{Choose, Eligible, Turn, turn_order};
use crate::balance::Member;

pub(super) struct RoundRobin;

impl Choose for RoundRobin {
    fn choose(&self, eligible: &[Eligible], turn: &mut Turn) -> Option<usize> {
        let open = eligible.iter().enumerate().filter(|(_, member)| !member.tried);
        open.min_by_key(|(_, member)| turn_order(member, turn.last)).map(|(at, _)| at)
    }
}

/// The same where everybody may serve: the index of the one that does, found without a look at all of them.
pub(super) fn next_of_all(members: &[Member], last: Option<u32>) -> Option<usize> {
    let behind = last.map_or(0, |last| members.partition_point(|member| member.ordinal <= last));
    let at = if behind < members.len() { behind } else { 0 };
    (!members.is_empty()).then_some(at)
}
