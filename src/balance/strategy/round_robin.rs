//! Round robin: the next eligible member after the last served.
//!
//! Not "index plus linear skip", which would give the member behind a gap the gap's share as well. The pointer is the
//! ordinal of the last served, so it keeps its place when members come and go.

use super::{Choose, Eligible, Turn, turn_order};

pub(super) struct RoundRobin;

impl Choose for RoundRobin {
    fn choose(&self, eligible: &[Eligible], turn: &mut Turn) -> Option<usize> {
        let open = eligible.iter().enumerate().filter(|(_, member)| !member.tried);
        open.min_by_key(|(_, member)| turn_order(member, turn.last)).map(|(at, _)| at)
    }
}
