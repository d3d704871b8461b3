//! How long attempts take that succeed: where too little time is left for one, none is begun, and the caller learns at
//! once what went wrong instead of waiting for its deadline.
//!
//! Kept per pool and replica, and apart by the shape of the answer. It is the quickest of late that counts, since one
//! model's answers differ by far: a call is only kept from what even the quickest could not do. A failure says nothing of
//! how long a success takes: a config that hangs must not keep a call from one that answers at once.

use super::attempts::Shape;
use dashmap::DashMap;
use std::time::Duration;
use uuid::Uuid;

/// How slowly what is known gives way to slower ones: by this part of the difference, a success.
const WEIGHT: u32 = 32;
/// A success may well take half of that.
const MARGIN: u32 = 2;

#[derive(Default)]
pub(super) struct Paces(DashMap<(Uuid, Shape), Duration>);

impl Paces {
    /// An attempt has succeeded.
    pub(super) fn note(&self, pool: Uuid, shape: Shape, took: Duration) {
        let mut quickest = self.0.entry((pool, shape)).or_insert(took);
        *quickest = took.min(*quickest + took.saturating_sub(*quickest) / WEIGHT);
    }

    /// Whether an attempt can succeed in what is left.
    pub(super) fn allow(&self, pool: Uuid, shape: Shape, left: Duration) -> bool {
        self.0.get(&(pool, shape)).is_none_or(|quickest| left >= *quickest / MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_succeed_in_time_is_not_begun() {
        let (paces, pool) = (Paces::default(), Uuid::new_v4());
        let allow = |millis| paces.allow(pool, Shape::Whole, Duration::from_millis(millis));
        assert!(allow(1), "nothing is known yet");
        for _ in 0..100 {
            paces.note(pool, Shape::Whole, Duration::from_secs(1));
        }
        assert_eq!((allow(499), allow(501)), (false, true));
        assert!(paces.allow(pool, Shape::Streamed, Duration::from_millis(1)));
        assert!(paces.allow(Uuid::new_v4(), Shape::Whole, Duration::from_millis(1)));
        // One quick answer among long ones shows what is possible.
        paces.note(pool, Shape::Whole, Duration::from_millis(10));
        assert!(allow(5));
        paces.note(pool, Shape::Whole, Duration::from_secs(1));
        assert!(allow(30));
        // It follows a provider that has become slow.
        for _ in 0..200 {
            paces.note(pool, Shape::Whole, Duration::from_secs(1));
        }
        assert!(!allow(30));
    }
}
