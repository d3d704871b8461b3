//! The leases of a pool that end by themselves, for clients that call the provider themselves.

use crate::{
    balance::{LeaseId, MemberKey, Time},
    state::Hold,
};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// Leases that end by themselves.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_id: HashMap<LeaseId, HeldLease>,
    by_end: BTreeSet<(Time, LeaseId)>,
    /// How many hold each member.
    counts: HashMap<MemberKey, u32>,
}

#[derive(Debug)]
struct HeldLease {
    member: MemberKey,
    until: Time,
    /// Whether Redis does not know it.
    alone: bool,
}

impl Held {
    pub(super) fn add(&mut self, lease: LeaseId, member: &MemberKey, until: Time, alone: bool) {
        self.by_id.insert(lease, HeldLease { member: member.clone(), until, alone });
        self.by_end.insert((until, lease));
        *self.counts.entry(member.clone()).or_default() += 1;
    }

    /// Moves the end of one that is not over; false where it is.
    pub(super) fn renew(&mut self, lease: LeaseId, until: Time, now: Time) -> bool {
        let Some(held) = self.by_id.get_mut(&lease).filter(|held| held.until > now) else { return false };
        self.by_end.remove(&(held.until, lease));
        self.by_end.insert((until, lease));
        held.until = until;
        true
    }

    /// Ends it; false where it is over already.
    pub(super) fn end(&mut self, lease: LeaseId, now: Time) -> bool {
        let Some(held) = self.by_id.remove(&lease) else { return false };
        self.by_end.remove(&(held.until, lease));
        take_one(&mut self.counts, &held.member);
        held.until > now
    }

    /// Ends those that are over: each that has come pays for one that goes.
    pub(super) fn end_over(&mut self, now: Time) {
        while let Some(&(until, lease)) = self.by_end.first() {
            if until > now {
                break;
            }
            self.end(lease, now);
        }
    }

    /// Where there may be no more: in how long the first ends.
    pub(super) fn full(&self, hold: Hold, now: Time) -> Option<Duration> {
        let (until, _) = self.by_end.first()?;
        (self.by_id.len() >= hold.most as usize).then(|| until.since(now))
    }

    /// Those that Redis does not know: the member, and for how long it is held yet.
    pub(super) fn untold(&self, now: Time) -> impl Iterator<Item = (MemberKey, LeaseId, Duration)> {
        let untold = self.by_id.iter().filter(move |(_, held)| held.alone && held.until > now);
        untold.map(move |(id, held)| (held.member.clone(), *id, held.until.since(now)))
    }

    /// Redis knows all of them.
    pub(super) fn told(&mut self) {
        self.by_id.values_mut().for_each(|held| held.alone = false);
    }

    /// How many hold each member.
    pub(super) fn counts(&self, now: Time) -> Cow<'_, HashMap<MemberKey, u32>> {
        let mut counts = Cow::Borrowed(&self.counts);
        for (_, lease) in self.by_end.iter().take_while(|(until, _)| *until <= now) {
            if let Some(held) = self.by_id.get(lease) {
                take_one(counts.to_mut(), &held.member);
            }
        }
        counts
    }
}

/// Counts one less.
pub(super) fn take_one(counts: &mut HashMap<MemberKey, u32>, key: &MemberKey) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
