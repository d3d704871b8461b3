//! Leases that end by themselves.

use crate::balance::{LeaseId, MemberKey, Time};
use std::{collections::HashMap, time::Duration};

/// So many leases are kept without a look at which of them are over.
const FEW: usize = 64;

/// Leases that end by themselves: whom they hold, and until when.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) by_id: HashMap<LeaseId, (MemberKey, Time)>,
    /// How many there are when those that are over are swept out.
    sweep_at: usize,
}

impl Held {
    pub(super) fn add(&mut self, lease: LeaseId, member: &MemberKey, now: Time, ttl: Duration) {
        // Done when as many again have come as stayed the last time: each that comes pays a constant share.
        if self.by_id.len() >= self.sweep_at {
            self.by_id.retain(|_, (_, until)| *until > now);
            self.sweep_at = FEW.max(self.by_id.len() * 2);
        }
        self.by_id.insert(lease, (member.clone(), now + ttl));
    }

    /// How many hold each member.
    pub(super) fn counts(&self, now: Time) -> HashMap<MemberKey, u32> {
        let mut counts = HashMap::new();
        for (member, _) in self.by_id.values().filter(|(_, until)| *until > now) {
            *counts.entry(member.clone()).or_default() += 1;
        }
        counts
    }
}
