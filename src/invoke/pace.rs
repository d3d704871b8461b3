//! How long attempts take that succeed: where too little time is left for one, none is begun, and the caller learns at
//! once what went wrong instead of waiting for its deadline.
//!
//! Kept per pool and replica, and apart for whole and streamed answers. A failure says nothing of how long a success
//! takes: a config that hangs must not keep a call from one that answers at once.

use super::attempts::Shape;
use dashmap::DashMap;
use std::time::Duration;
use uuid::Uuid;

/// The weight of the latest of them, as in TCP's smoothed round trip (RFC 6298, section 2).
const WEIGHT: u32 = 8;
/// A success may well take half of the usual time.
const MARGIN: u32 = 2;

#[derive(Default)]
pub(super) struct Paces(DashMap<(Uuid, Shape), Duration>);

impl Paces {
    /// An attempt has succeeded.
    pub(super) fn note(&self, pool: Uuid, shape: Shape, took: Duration) {
        let mut usual = self.0.entry((pool, shape)).or_insert(took);
        *usual = (*usual * (WEIGHT - 1) + took) / WEIGHT;
    }

    /// Whether an attempt can succeed in what is left.
    pub(super) fn allow(&self, pool: Uuid, shape: Shape, left: Duration) -> bool {
        self.0.get(&(pool, shape)).is_none_or(|usual| left >= *usual / MARGIN)
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
        // It follows a provider that has become quick.
        for _ in 0..100 {
            paces.note(pool, Shape::Whole, Duration::from_millis(10));
        }
        assert!(allow(10));
    }
}
