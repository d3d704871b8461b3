//! How much of this replica one tenant may have: calls at once, and calls begun in a second.
//!
//! These limits protect the process, and its other tenants, from one tenant. Each replica counts by itself. Limits that
//! hold over a whole fleet are those of a config.

use super::refusal::Refusal;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::keyed::HashMapStateStore,
};
use parking_lot::Mutex;
use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

/// When to come again if a call must end first. Nobody knows when one does.
const SOON: Duration = Duration::from_millis(100);
/// How often the rates of idle tenants are forgotten. By then their buckets are full again.
const SWEEP: Duration = Duration::from_secs(1);

/// How many calls a replica serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallLimits {
    /// The most at once.
    pub max_calls: usize,
    /// The most at once of one tenant; 0: no limit.
    pub tenant_max_calls: usize,
    /// The most of one tenant that begin in a second; 0: no limit.
    pub tenant_calls_per_second: u32,
    /// The longest time for a whole request to arrive.
    pub receive_timeout: Duration,
}

/// See the module's documentation.
pub struct TenantLimits<C: Clock = MonotonicClock> {
    max_calls: usize,
    rates: Option<Rates<C>>,
    in_flight: Arc<InFlight>,
}

/// The calls in flight of each tenant that has any.
type InFlight = Mutex<HashMap<Arc<str>, usize>>;

impl TenantLimits {
    pub fn new(limits: CallLimits) -> Self {
        Self::with_clock(limits, MonotonicClock)
    }
}

impl<C: Clock> TenantLimits<C> {
    fn with_clock(limits: CallLimits, clock: C) -> Self {
        Self {
            max_calls: limits.tenant_max_calls,
            rates: NonZeroU32::new(limits.tenant_calls_per_second).map(|rate| Rates::new(rate, clock)),
            in_flight: Arc::default(),
        }
    }

    /// Counts a call of that tenant until what is returned is dropped. None if there is no limit.
    pub fn enter(&self, tenant: &str) -> Result<Option<TenantCall>, Refusal> {
        if self.max_calls == 0 && self.rates.is_none() {
            return Ok(None);
        }
        let id: Arc<str> = tenant.into();
        let mut in_flight = self.in_flight.lock();
        let calls = in_flight.get(&id).copied().unwrap_or_default();
        // First, so that a call that must wait for another takes no token.
        if self.max_calls != 0 && calls >= self.max_calls {
            return Err(Refusal::TenantCalls { retry_after: SOON });
        }
        if let Some(rates) = &self.rates {
            rates.take(&id).map_err(|retry_after| Refusal::TenantRate { retry_after })?;
        }
        in_flight.insert(Arc::clone(&id), calls + 1);
        Ok(Some(TenantCall { in_flight: Arc::clone(&self.in_flight), id }))
    }
}

/// A call that counts for its tenant until it is dropped.
pub struct TenantCall {
    in_flight: Arc<InFlight>,
    id: Arc<str>,
}

impl Drop for TenantCall {
    fn drop(&mut self) {
        let mut in_flight = self.in_flight.lock();
        if let Some(calls) = in_flight.get_mut(&self.id) {
            *calls -= 1;
            if *calls == 0 {
                in_flight.remove(&self.id);
            }
        }
    }
}

type Buckets<C> =
    RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A token bucket for each tenant that has called lately. It holds the tokens of one second.
struct Rates<C: Clock> {
    buckets: Buckets<C>,
    swept: Mutex<C::Instant>,
}

impl<C: Clock> Rates<C> {
    fn new(per_second: NonZeroU32, clock: C) -> Self {
        let swept = Mutex::new(clock.now());
        Self { buckets: RateLimiter::hashmap_with_clock(Quota::per_second(per_second), clock), swept }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until there is one.
    fn take(&self, id: &Arc<str>) -> Result<(), Duration> {
        self.forget_idle();
        let taken = self.buckets.check_key(id);
        // The clock has gone on since then: a wait that is over is still a refusal.
        taken.map_err(|until| until.wait_time_from(self.buckets.clock().now()).max(Duration::from_nanos(1)))
    }

    /// A bucket that is full again is as if its tenant had never called. Each bucket is looked at in a few sweeps and
    /// then gone, so a sweep costs each tenant that comes a constant share.
    fn forget_idle(&self) {
        let now = self.buckets.clock().now();
        let mut swept = self.swept.lock();
        if now.duration_since(*swept) >= Nanos::from(SWEEP) {
            *swept = now;
            drop(swept);
            self.buckets.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(
        tenant_max_calls: usize,
        tenant_calls_per_second: u32,
    ) -> (TenantLimits<FakeRelativeClock>, FakeRelativeClock) {
        let limits = CallLimits { tenant_max_calls, tenant_calls_per_second, ..CallLimits::default() };
        let clock = FakeRelativeClock::default();
        (TenantLimits::with_clock(limits, clock.clone()), clock)
    }

    #[test]
    fn calls_at_once_are_counted_by_tenant() {
        let (limits, _) = limits(2, 0);
        let held: Vec<_> = (0..2).map(|_| limits.enter("a").unwrap().unwrap()).collect();
        let over = limits.enter("a").map(drop).unwrap_err();
        assert!(matches!(over, Refusal::TenantCalls { retry_after: SOON }), "{over:?}");
        assert!(limits.enter("b").is_ok());
        drop(held);
        assert!(limits.enter("a").is_ok());
    }

    #[test]
    fn a_call_that_waits_for_another_takes_no_token() {
        let (limits, _) = limits(1, 2);
        let held = limits.enter("a").unwrap();
        for _ in 0..10 {
            let over = limits.enter("a").map(drop).unwrap_err();
            assert!(matches!(over, Refusal::TenantCalls { .. }), "{over:?}");
        }
        drop(held);
        drop(limits.enter("a").unwrap());
        let over = limits.enter("a").map(drop).unwrap_err();
        assert_eq!(over.retry_after(), Some(Duration::from_millis(500)));
        assert!(matches!(over, Refusal::TenantRate { .. }), "{over:?}");
    }

    #[test]
    fn tenants_who_are_idle_are_forgotten() {
        let (limits, clock) = limits(5, 1);
        let _held = limits.enter("busy").unwrap();
        for second in 0..100 {
            for i in 0..500 {
                drop(limits.enter(&format!("{second}-{i}")).unwrap());
            }
            clock.advance(SECOND);
        }
        let buckets = limits.rates.as_ref().unwrap().buckets.len();
        assert!(buckets <= 1024, "{buckets}");
        let in_flight = limits.in_flight.lock();
        assert_eq!((in_flight.len(), in_flight["busy"]), (1, 1));
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let (limits, _) = limits(0, 0);
        assert!(limits.enter("a").unwrap().is_none());
        assert!(limits.in_flight.lock().is_empty() && limits.rates.is_none());
    }

    proptest! {
        #[test]
        fn any_span_of_time_gets_its_rate_and_a_second_more(
            per_second in 1..2000u32,
            pauses in prop::collection::vec(0..3_000_000u64, 1..300),
        ) {
            const MOMENT: Duration = Duration::from_nanos(1);
            let (clock, id) = (FakeRelativeClock::default(), Arc::from("a"));
            let rates = Rates::new(NonZeroU32::new(per_second).unwrap(), clock.clone());
            let (mut now, mut taken) = (Duration::ZERO, Vec::new());
            for pause in pauses {
                let pause = Duration::from_micros(pause / u64::from(per_second));
                clock.advance(pause);
                now += pause;
                if let Err(wait) = rates.take(&id) {
                    prop_assert!(!wait.is_zero() && wait <= SECOND / per_second, "{wait:?}");
                    // Not a moment before, and then surely.
                    clock.advance(wait.saturating_sub(MOMENT));
                    prop_assert!(rates.take(&id).is_err());
                    clock.advance(MOMENT);
                    now += wait;
                    prop_assert!(rates.take(&id).is_ok());
                }
                taken.push(now);
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let worth = (*to).saturating_sub(*from).as_secs_f64() * f64::from(per_second) * 1.000_01;
                    prop_assert!((last - first + 1) as f64 <= f64::from(per_second) + worth + 1e-6);
                }
            }
            // One that has rested gets a whole second's worth at once, and no more.
            clock.advance(SECOND);
            for _ in 0..per_second {
                prop_assert!(rates.take(&id).is_ok());
            }
            prop_assert!(rates.take(&id).is_err());
        }
    }
}
