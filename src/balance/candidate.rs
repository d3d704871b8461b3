//! One member, and where it stands when a pick looks at it.

use super::{Cooling, ErrorClass, Member, Resort, Standing, Time};

/// One member in the eyes of a pick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'m> {
    /// Whom it is about.
    pub member: &'m Member,
    /// Whether this call has tried it already.
    pub tried: bool,
    /// Its own standing and its credential's, together.
    pub standing: Standing,
    /// While its trial keeps others out: when it lets in one more.
    pub opens: Option<Time>,
    /// What the last resort goes by; none where it must leave this member alone.
    pub resort: Option<Resort>,
    /// At one of its limits: until about when.
    pub full_until: Option<Time>,
    /// Calls in flight on it, over all replicas.
    pub in_flight: u32,
}

impl Candidate<'_> {
    /// Whether it can serve now, as a trial where it is half-open.
    #[must_use]
    pub fn may_serve(&self) -> bool {
        self.full_until.is_none() && matches!(self.standing, Standing::Available | Standing::HalfOpen)
    }

    /// Whether it may serve beside its trial, where nobody else can.
    pub(super) fn may_be_joined(&self) -> bool {
        self.full_until.is_none() && self.standing == Standing::Joinable
    }

    /// Until when it cannot serve, and why; `None` where it can, or a trial decides.
    pub(super) fn away(&self) -> Option<Cooling> {
        let full = self.full_until.map(|ends| Cooling { ends, class: ErrorClass::RateLimited });
        match (self.standing, full) {
            (Standing::Cooling(cooling), Some(full)) if full.ends > cooling.ends => Some(full),
            (Standing::Cooling(cooling), _) => Some(cooling),
            (_, full) => full,
        }
    }
}
