//! A call's place in the line of those who wait for a member of a pool.

use super::engine::Engine;
use crate::{
    balance::{ErrorClass, Roster, constants::CONCURRENCY_PAUSE, most_served},
    state::{LOOK, Outlook, Place, Role, Stand, StateStore},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// What is said to be back at once is looked at no sooner.
const SHORTEST_LOOK: Duration = Duration::from_millis(5);

/// When the first member of a pool may serve again, and why it may not now.
pub(super) type FirstBack = (Duration, ErrorClass);

/// A moment in which those who came before are served.
pub(super) const A_MOMENT: FirstBack = (CONCURRENCY_PAUSE, ErrorClass::RateLimited);

/// A call that stands in line. Dropping it gives the place up at once, whatever became of the call.
pub(super) struct Waiting {
    state: Arc<dyn StateStore>,
    pool: Arc<Roster>,
    /// None when it has left.
    place: Option<Place>,
    /// When it looks again by itself. None: it has not asked yet.
    look: Option<Instant>,
    /// Whether the store believes that others wait behind it.
    followed: bool,
}

impl Engine {
    /// Lets a call that came at `arrived` stand in the line of `pool`.
    ///
    /// # Errors
    /// When to come again, where more calls wait than can be served before its deadline.
    pub(super) fn join(
        &self,
        pool: &Arc<Roster>,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Waiting, FirstBack> {
        let lines = self.state.lines();
        let (usual, left) = (lines.usual(pool.id), deadline.saturating_duration_since(Instant::now()));
        let waiting = lines.length(pool.id) as u64;
        if most_served(&pool.members, usual, left).is_some_and(|most| waiting >= most) {
            return Err((usual.unwrap_or(LOOK).max(CONCURRENCY_PAUSE), ErrorClass::RateLimited));
        }
        let place = Some(lines.join(pool.id, arrived));
        Ok(Waiting { state: self.state.clone(), pool: pool.clone(), place, look: None, followed: false })
    }
}

impl Waiting {
    /// Whether it is in the line of that pool.
    pub(super) fn is_for(&self, pool: &Roster) -> bool {
        self.pool.id == pool.id
    }

    /// Where it stands, with so much time left.
    pub(super) fn stand(&mut self, left: Duration) -> Stand {
        let stand = self.place.as_ref().map(|place| place.stand(left)).unwrap_or_default();
        self.followed = stand.waiting > 1;
        stand
    }

    /// Whether it may ask.
    pub(super) fn may_ask(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.stand(Duration::ZERO).role != Role::Behind)
    }

    /// Waits until it is to ask: it has not yet, has been called, or looks by itself. False where `deadline` comes first.
    pub(super) async fn turn(&mut self, deadline: Instant) -> bool {
        let Some(place) = &self.place else { return false };
        loop {
            let is_in_front = self.may_ask();
            let due = self.look.unwrap_or_else(Instant::now);
            if is_in_front && due <= Instant::now() {
                return true;
            }
            let until = if is_in_front { due.min(deadline) } else { deadline };
            let called = timeout_at(until, place.called()).await.is_ok();
            if Instant::now() >= deadline {
                return false;
            } else if called && self.may_ask() {
                return true;
            }
        }
    }

    /// Notes that it has asked in vain: `first_back` says when the first member is back, `outlook` when more is let in.
    pub(super) fn stays(&mut self, outlook: Outlook, first_back: Option<FirstBack>) {
        let opens = outlook.opens.map_or(LOOK, |after| after.clamp(SHORTEST_LOOK, LOOK));
        self.look = Some(Instant::now() + look_after(first_back).min(opens));
        if let Some(place) = &self.place {
            place.stays(outlook);
        }
    }

    /// Gives the place up after an answer.
    pub(super) fn answered(mut self) {
        let is_last = self.place.take().is_some_and(|mut place| place.leave(true));
        if is_last && self.followed {
            self.state.leave(&self.pool);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.place.take().is_some_and(|mut place| place.leave(false)) {
            self.state.leave(&self.pool);
        }
    }
}

/// After how long one who waits looks by itself: when the first is back, or a second for what gives word when it is free.
pub(super) fn look_after(first_back: Option<FirstBack>) -> Duration {
    match first_back {
        // The store's word for "when a call ends".
        Some((CONCURRENCY_PAUSE, ErrorClass::RateLimited)) | None => LOOK,
        Some((after, _)) => after.clamp(SHORTEST_LOOK, LOOK),
    }
}
