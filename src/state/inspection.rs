//! What is known of a pool at one moment: for listings, explanations and watchers.

use crate::balance::{
    Candidate, ErrorClass, LeaseId, Limits, Member, MemberKey, Record, Resort, Roster, Scope, Standing, Time,
    Turn, Window, constants::CONCURRENCY_PAUSE,
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Whose record, its name, what is left, why.
pub(super) type CoolingRecord = (Scope, Arc<str>, Duration, ErrorClass);

/// What one replica knows of a pool that it brings to the shared store.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) tenant: Uuid,
    pub(super) pool: Uuid,
    /// Members that cool.
    pub(super) cooling: Vec<CoolingRecord>,
    /// Calls in flight, by member.
    pub(super) in_flight: Vec<(MemberKey, u32)>,
    /// Leases that it has granted alone, and how long they last.
    pub(super) leases: Vec<(MemberKey, LeaseId, Duration)>,
    /// What it has used alone of limits a minute.
    pub(super) used: Vec<Used>,
}

/// Of which limit, "r" for requests or "t" for tokens, by which member, and how long ago how much, the newest last.
pub(super) type Used = (char, MemberKey, Vec<(Duration, u64)>);

/// A pool at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// That moment, on the store's clock.
    pub now: Time,
    /// What the pool remembers between picks.
    pub turn: Turn,
    /// In the order of the members asked for.
    pub members: Vec<MemberInspection>,
}

/// One member at that moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberInspection {
    /// Its own failures.
    pub own: Option<Record>,
    /// Its credential's.
    pub credential: Option<Record>,
    /// How its address stands, as this replica sees it.
    pub address: Standing,
    /// Calls in flight, over all replicas.
    pub in_flight: u32,
    /// Calls begun in the last minute, where they are limited.
    pub requests: Window,
    /// Tokens of the last minute, where they are limited.
    pub tokens: Window,
}

impl MemberInspection {
    /// Where it stands.
    #[must_use]
    pub fn standing(&self, now: Time) -> Standing {
        let of = |record: &Option<Record>| record.as_ref().map_or(Standing::Available, |r| r.standing(now));
        of(&self.own).and(of(&self.credential)).and(self.address)
    }

    /// What the last resort goes by; none where it must leave this member alone, as while its credential has failed.
    fn resort(&self, now: Time) -> Option<Resort> {
        let credential = self.credential.as_ref().map_or(Standing::Available, |record| record.standing(now));
        self.own.as_ref()?.resort.filter(|_| credential == Standing::Available)
    }

    /// While its trial keeps others out: when it lets in one more.
    fn opens(&self, now: Time) -> Option<Time> {
        let of = |record: &Option<Record>| record.as_ref().and_then(|record| record.opens(now));
        of(&self.own).max(of(&self.credential)).filter(|_| self.standing(now) == Standing::TrialRunning)
    }

    /// What is left of its cooldown, and why it cools.
    #[must_use]
    pub fn cooling(&self, now: Time) -> Option<(Duration, ErrorClass)> {
        self.standing(now).cooling().map(|cooling| (cooling.ends.since(now), cooling.class))
    }

    /// Until about when it is at one of its limits, for a call of so many tokens.
    #[must_use]
    pub fn full_until(&self, limits: &Limits, now: Time, tokens: u64) -> Option<Time> {
        let room = |window: &Window, limit: u32, amount| {
            (limit > 0).then(|| window.room(now, limit.into(), amount)).flatten()
        };
        let crowded = limits.max_concurrency > 0 && self.in_flight >= limits.max_concurrency;
        room(&self.requests, limits.requests_per_minute, 1)
            .max(room(&self.tokens, limits.tokens_per_minute, tokens))
            .max(crowded.then_some(now + CONCURRENCY_PAUSE))
    }

    /// It in the eyes of a pick.
    #[must_use]
    pub fn candidate<'m>(&self, member: &'m Member, now: Time, tried: bool, tokens: u64) -> Candidate<'m> {
        Candidate {
            member,
            tried,
            standing: self.standing(now),
            opens: self.opens(now),
            resort: self.resort(now),
            full_until: self.full_until(&member.limits, now, tokens),
            in_flight: self.in_flight,
        }
    }
}

impl Inspection {
    /// Nothing known: everyone is available.
    #[must_use]
    pub fn blank(pool: &Roster, now: Time) -> Self {
        let members = vec![MemberInspection::default(); pool.members.len()];
        Self { now, turn: Turn::default(), members }
    }
}
