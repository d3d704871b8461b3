//! Limits of one member: requests and tokens a minute, calls at once.
//!
//! A minute is a sliding one, in buckets of 5 seconds: no 60 seconds ever hold more than the limit; what was counted
//! comes free 60 to 65 seconds later. `src/state/redis/common.lua` holds the same rules.

use super::{Time, millis};
use std::time::Duration;

/// What a member may take; 0 means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls begun a minute.
    pub requests_per_minute: u32,
    /// Tokens a minute, in and out: reserved before a call, settled after.
    pub tokens_per_minute: u32,
    /// Calls in flight, over all replicas.
    pub max_concurrency: u32,
}

/// Counts of the last minute, by bucket, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window(Vec<(u64, u64)>);

pub(crate) const BUCKET: Duration = Duration::from_secs(5);
/// A bucket is as old as its youngest count at most after this many: 60 s and its own width.
pub(crate) const BUCKETS: u64 = 13;

/// When a member at its concurrency limit may be free again is anybody's guess: ask soon.
pub(crate) const CONCURRENCY_PAUSE: Duration = Duration::from_millis(100);

impl Limits {
    /// Whether there is none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.requests_per_minute == 0 && self.tokens_per_minute == 0 && self.max_concurrency == 0
    }

    /// The part of one of so many replicas that share them, at least 1: 0 would mean no limit.
    #[must_use]
    pub fn part_of(self, replicas: u32) -> Self {
        let part = |limit: u32| limit.min((limit / replicas.max(1)).max(1));
        Self {
            requests_per_minute: part(self.requests_per_minute),
            tokens_per_minute: part(self.tokens_per_minute),
            max_concurrency: part(self.max_concurrency),
        }
    }
}

impl Window {
    /// Counts `amount` at `now`, and forgets what is over.
    pub fn add(&mut self, now: Time, amount: u64) {
        let bucket = bucket_of(now);
        self.0.retain(|&(old, _)| old + BUCKETS > bucket);
        match self.0.last_mut() {
            Some((last, count)) if *last == bucket => *count += amount,
            _ => self.0.push((bucket, amount)),
        }
    }

    /// Corrects what was counted at `then` from `reserved` to `actual`, where it is still in the window.
    pub fn settle(&mut self, then: Time, reserved: u64, actual: u64) {
        if let Some((_, count)) = self.0.iter_mut().find(|(bucket, _)| *bucket == bucket_of(then)) {
            *count = (*count + actual).saturating_sub(reserved);
        }
    }

    /// What was counted since it was as `told`, for another clock: how long before `now` how much, the newest last. A count is
    /// taken to be as young as its bucket allows.
    #[must_use]
    pub fn since(&self, told: &Self, now: Time) -> Vec<(Duration, u64)> {
        let live = self.0.iter().filter(|&&(bucket, _)| bucket + BUCKETS > bucket_of(now));
        let more = live.filter_map(|&(bucket, count)| {
            let known = told.0.iter().find(|(of, _)| *of == bucket).map_or(0, |(_, known)| *known);
            let youngest = Time::from_millis((bucket + 1) * millis(BUCKET) - 1);
            Some((now.since(youngest), count.checked_sub(known).filter(|more| *more > 0)?))
        });
        more.collect()
    }

    /// When `amount` more fits under `limit`: `None` now, else the time. More than the limit fits into an empty window:
    /// a call that is larger than a minute's share must be possible at all.
    #[must_use]
    pub fn room(&self, now: Time, limit: u64, amount: u64) -> Option<Time> {
        let bucket = bucket_of(now);
        let live = self.0.iter().filter(|&&(old, _)| old + BUCKETS > bucket);
        let mut total: u64 = live.clone().map(|(_, count)| count).sum();
        let mut free_at = None;
        for &(old, count) in live {
            if total == 0 || total + amount <= limit {
                break;
            }
            total -= count;
            free_at = Some(Time::from_millis((old + BUCKETS) * millis(BUCKET)));
        }
        free_at
    }
}

fn bucket_of(time: Time) -> u64 {
    time.millis() / millis(BUCKET)
}

impl FromIterator<(u64, u64)> for Window {
    /// From buckets and their counts, oldest first.
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(buckets: T) -> Self {
        Self(buckets.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_part_of_a_limit_is_a_limit() {
        let whole = Limits { requests_per_minute: 100, tokens_per_minute: 2, max_concurrency: 0 };
        let part = Limits { requests_per_minute: 33, tokens_per_minute: 1, max_concurrency: 0 };
        assert_eq!(whole.part_of(3), part);
        assert_eq!(whole.part_of(1), whole);
    }

    #[test]
    fn a_full_window_says_when_it_has_room() {
        let mut window = Window::default();
        for now in [1_000, 2_000, 12_000] {
            assert_eq!(window.room(at(now), 3, 1), None);
            window.add(at(now), 1);
        }
        assert_eq!(window.room(at(13_000), 3, 1), Some(at(65_000)), "when the first bucket is over");
        assert_eq!(window.room(at(65_000), 3, 1), None);
    }

    #[test]
    fn a_call_larger_than_the_limit_fits_into_an_empty_window() {
        let mut window = Window::default();
        assert_eq!(window.room(at(0), 100, 5_000), None);
        window.add(at(0), 5_000);
        assert_eq!(window.room(at(0), 100, 1), Some(at(65_000)));
    }

    #[test]
    fn settling_corrects_the_bucket_it_was_reserved_in() {
        let mut window = Window::default();
        window.add(at(1_000), 500);
        window.settle(at(1_000), 500, 80);
        assert_eq!(window.room(at(2_000), 100, 20), None);
        window.settle(at(1_000), 0, 40);
        assert_eq!(window.room(at(2_000), 100, 20), Some(at(65_000)));
        window.settle(at(900_000), 1, 1);
    }

    #[test]
    fn what_was_counted_since_is_told_by_its_age() {
        let mut window = Window::default();
        window.add(at(1_000), 3);
        window.add(at(11_000), 4);
        let told = window.clone();
        assert_eq!(window.since(&told, at(12_000)), []);
        window.add(at(12_000), 1);
        window.add(at(21_000), 2);
        let second = Duration::from_secs(1);
        assert_eq!(window.since(&told, at(25_999)), [(second * 11, 1), (second, 2)]);
        assert_eq!(window.since(&Window::default(), at(70_000)).len(), 2, "the first is over");
    }

    proptest! {
        #[test]
        fn no_minute_holds_more_than_the_limit(
            steps in proptest::collection::vec(0u64..4_000, 1..200), limit in 1u64..20,
        ) {
            let mut window = Window::default();
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                if window.room(at(now), limit, 1).is_none() {
                    window.add(at(now), 1);
                    taken.push(now);
                }
            }
            for &start in &taken {
                let within = taken.iter().filter(|&&time| time >= start && time < start + 60_000).count();
                prop_assert!(within as u64 <= limit);
            }
        }
    }
}
