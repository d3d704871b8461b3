//! How long attempts of a pool that serve take, as this replica has seen it.
//!
//! *The lowest* says what even the quickest attempt could not do. Where too little time is left for that, none is begun: the
//! caller learns at once what went wrong, instead of waiting for its deadline. It is the lowest and not the average, since
//! the answers of one model differ by far.
//!
//! *The usual* says when an attempt that its caller's deadline has cut off had hung: one that had lasted well above it, while
//! its member served nobody else. What a short deadline cuts off says nothing about the member.
//!
//! A failure does not count, since it does not say how long a success takes: a config that hangs must not keep a call from
//! one that answers at once.

use super::call::CallMode;
use crate::balance::MemberKey;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// A success that is slower than the lowest raises it by this part of the difference.
const SMOOTHING: u32 = 32;
/// A success may take as little as this part of the lowest.
const MARGIN: u32 = 2;
/// The usual is a mean in which a success has this part.
const USUAL_SMOOTHING: u32 = 8;
/// After so many successes it is known.
const FEW: u32 = 3;
/// An attempt that has hung took so many times the usual …
const WELL_ABOVE: u32 = 4;
/// … and at least this long, since what answers in no time has pauses of its own …
const LEAST_HUNG: Duration = Duration::from_millis(250);
/// … or this long where the usual is not known.
const LONG: Duration = Duration::from_secs(30);

/// What has served nobody for so long is forgotten, such as a deleted pool, or a member that has left its pool …
const KEPT: Duration = Duration::from_secs(3600);
/// … by a look at all of them, so often.
const SWEEP: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct Latencies {
    pools: DashMap<Uuid, OfPool>,
    swept: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct OfPool {
    by_mode: HashMap<CallMode, OfMode>,
    /// When each member last served, by its place.
    served: HashMap<u32, Instant>,
}

struct OfMode {
    lowest: Duration,
    usual: Duration,
    count: u32,
}

impl Latencies {
    /// Counts an attempt at that member of a pool of so many that has served.
    pub(super) fn record(&self, pool: Uuid, mode: CallMode, member: &MemberKey, took: Duration) {
        self.sweep();
        let mut pool = self.pools.entry(pool).or_default();
        let of_mode = pool.by_mode.entry(mode).or_insert(OfMode { lowest: took, usual: took, count: 0 });
        of_mode.lowest = took.min(of_mode.lowest + took.saturating_sub(of_mode.lowest) / SMOOTHING);
        of_mode.usual =
            of_mode.usual.saturating_sub(of_mode.usual / USUAL_SMOOTHING) + took / USUAL_SMOOTHING;
        of_mode.count = of_mode.count.saturating_add(1);
        pool.served.insert(member.ordinal, Instant::now());
    }

    /// Whether an attempt can serve in the time that is left.
    pub(super) fn allow(&self, pool: Uuid, mode: CallMode, left: Duration) -> bool {
        let lowest = self.pools.get(&pool).and_then(|pool| pool.by_mode.get(&mode).map(|known| known.lowest));
        lowest.is_none_or(|lowest| left >= lowest / MARGIN)
    }

    /// Whether an attempt had hung that was cut off after that time: it had lasted well above the usual, and its member has
    /// served nobody meanwhile.
    pub(super) fn has_hung(&self, pool: Uuid, mode: CallMode, member: &MemberKey, took: Duration) -> bool {
        let Some(pool) = self.pools.get(&pool) else { return took >= LONG };
        let usual = pool.by_mode.get(&mode).filter(|known| known.count >= FEW).map(|known| known.usual);
        let hung = usual.map_or(LONG, |usual| (usual * WELL_ABOVE).max(LEAST_HUNG));
        let served = pool.served.get(&member.ordinal).is_some_and(|at| at.elapsed() <= took);
        took >= hung && !served
    }

    /// Forgets what has served nobody for long, once in a while. Of those who come at the same moment, one looks.
    fn sweep(&self) {
        let Some(mut swept) = self.swept.try_lock() else { return };
        if swept.get_or_insert_with(Instant::now).elapsed() < SWEEP {
            return;
        }
        *swept = Some(Instant::now());
        drop(swept);
        self.forget_idle(KEPT);
    }

    fn forget_idle(&self, kept: Duration) {
        self.pools.retain(|_, pool| {
            pool.served.retain(|_, at| at.elapsed() < kept);
            !pool.served.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNARY: CallMode = CallMode::Unary;

    fn member(ordinal: u32) -> MemberKey {
        MemberKey::new(ordinal, "0")
    }

    #[test]
    fn what_cannot_succeed_in_time_is_not_begun() {
        let (latencies, pool) = (Latencies::default(), Uuid::new_v4());
        let allow = |millis| latencies.allow(pool, UNARY, Duration::from_millis(millis));
        assert!(allow(1), "nothing is known yet");
        for _ in 0..100 {
            latencies.record(pool, UNARY, &member(1), Duration::from_secs(1));
        }
        assert_eq!((allow(499), allow(501)), (false, true));
        assert!(latencies.allow(pool, CallMode::Streaming, Duration::from_millis(1)));
        assert!(latencies.allow(Uuid::new_v4(), UNARY, Duration::from_millis(1)));
        // One quick answer among long ones shows what is possible.
        latencies.record(pool, UNARY, &member(1), Duration::from_millis(10));
        assert!(allow(5));
        latencies.record(pool, UNARY, &member(1), Duration::from_secs(1));
        assert!(allow(30));
        // It follows a provider that has become slow.
        for _ in 0..200 {
            latencies.record(pool, UNARY, &member(1), Duration::from_secs(1));
        }
        assert!(!allow(30));
    }

    #[test]
    fn what_has_served_nobody_for_long_is_forgotten() {
        let (latencies, pool) = (Latencies::default(), Uuid::new_v4());
        for place in 0..100 {
            latencies.record(pool, UNARY, &member(place), Duration::from_secs(1));
        }
        latencies.forget_idle(Duration::from_secs(3600));
        assert_eq!(latencies.pools.get(&pool).map(|pool| pool.served.len()), Some(100));
        latencies.forget_idle(Duration::ZERO);
        assert!(latencies.pools.is_empty());
    }

    #[test]
    fn what_lasts_well_above_the_usual_has_hung_unless_its_member_serves() {
        let (latencies, pool) = (Latencies::default(), Uuid::new_v4());
        let hung =
            |place, seconds| latencies.has_hung(pool, UNARY, &member(place), Duration::from_secs(seconds));
        assert_eq!((hung(1, 29), hung(1, 30)), (false, true), "the usual is not known");
        for _ in 0..FEW {
            latencies.record(pool, UNARY, &member(2), Duration::from_secs(2));
        }
        assert_eq!((hung(1, 7), hung(1, 8)), (false, true));
        assert!(!hung(2, 30), "it has served since that one began");
        for _ in 0..100 {
            latencies.record(pool, UNARY, &member(2), Duration::from_millis(1));
        }
        let quick = |millis| latencies.has_hung(pool, UNARY, &member(1), Duration::from_millis(millis));
        assert_eq!((quick(249), quick(250)), (false, true), "a pause is no hang");
    }
}
