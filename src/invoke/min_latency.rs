//! The lowest latency of late. Where too little time is left for an attempt, none is begun: the caller learns at once what
//! went wrong, instead of waiting for its deadline.
//!
//! It is kept per pool, replica and mode of call. It is the lowest and not the average, since the answers of one model
//! differ by far: a call is only kept from what even the quickest attempt could not do. A failure does not count, since it
//! does not say how long a success takes: a config that hangs must not keep a call from one that answers at once.

use super::call::CallMode;
use dashmap::DashMap;
use std::time::Duration;
use uuid::Uuid;

/// A success that is slower than the lowest raises it by this part of the difference.
const SMOOTHING: u32 = 32;
/// A success may take as little as this part of the lowest.
const MARGIN: u32 = 2;

#[derive(Default)]
pub(super) struct MinLatencies(DashMap<(Uuid, CallMode), Duration>);

impl MinLatencies {
    /// Counts an attempt of that pool that has served.
    pub(super) fn record(&self, pool: Uuid, mode: CallMode, took: Duration) {
        let mut lowest = self.0.entry((pool, mode)).or_insert(took);
        *lowest = took.min(*lowest + took.saturating_sub(*lowest) / SMOOTHING);
    }

    /// Whether an attempt can serve in the time that is left.
    pub(super) fn allow(&self, pool: Uuid, mode: CallMode, left: Duration) -> bool {
        self.0.get(&(pool, mode)).is_none_or(|lowest| left >= *lowest / MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_succeed_in_time_is_not_begun() {
        let (latencies, pool) = (MinLatencies::default(), Uuid::new_v4());
        let allow = |millis| latencies.allow(pool, CallMode::Unary, Duration::from_millis(millis));
        assert!(allow(1), "nothing is known yet");
        for _ in 0..100 {
            latencies.record(pool, CallMode::Unary, Duration::from_secs(1));
        }
        assert_eq!((allow(499), allow(501)), (false, true));
        assert!(latencies.allow(pool, CallMode::Streaming, Duration::from_millis(1)));
        assert!(latencies.allow(Uuid::new_v4(), CallMode::Unary, Duration::from_millis(1)));
        // One quick answer among long ones shows what is possible.
        latencies.record(pool, CallMode::Unary, Duration::from_millis(10));
        assert!(allow(5));
        latencies.record(pool, CallMode::Unary, Duration::from_secs(1));
        assert!(allow(30));
        // It follows a provider that has become slow.
        for _ in 0..200 {
            latencies.record(pool, CallMode::Unary, Duration::from_secs(1));
        }
        assert!(!allow(30));
    }
}
