//! What every strategy decides, and what it remembers between picks.

use crate::balance::{Candidate, MemberKey, Members};

/// What a strategy decides.
pub(super) trait Rules {
    /// The name it is stored under.
    fn name(&self) -> &'static str;

    /// Whether it looks at the calls in flight.
    fn counts_in_flight(&self) -> bool {
        false
    }

    /// The index in `eligible` of the one that serves. There is at least one that is not tried.
    fn choose(&self, eligible: &[&Candidate<'_>], turn: &mut Turn) -> Option<usize>;

    /// The same among members who may all serve and are all alike, where that can be told without a look at all of them.
    fn choose_of_all(&self, _members: &Members, _turn: &Turn) -> Option<usize> {
        None
    }

    /// How far one of all is from its turn, by its own measure. The lower comes first.
    fn score(&self, one: &Candidate<'_>, all: &[Candidate<'_>], turn: &Turn) -> f64;
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
    pub key: MemberKey,
    /// Its weight then.
    pub weight: u32,
    /// In turns times the total weight times 16; positive: it is owed.
    pub credit: i64,
}

/// Where a member stands in the turn: those behind the last served come first, then by place in the ring.
pub(super) fn turn_order(candidate: &Candidate<'_>, last: Option<u32>) -> (bool, u32) {
    let ordinal = candidate.member.key.ordinal;
    (last.is_some_and(|last| ordinal <= last), ordinal)
}
