//! How much of this replica one tenant may have: calls at once, bytes of requests, connections, and calls begun in a
//! second.
//!
//! These limits protect the process, and its other tenants, from one tenant. Each replica counts by itself. Limits that
//! hold over a whole fleet are those of a config. [`shares`](super::shares) says how what is shared is divided.

use super::{
    refusal::Refusal,
    shares::{Bound, Over, Party, give_back},
};
use dashmap::DashMap;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::keyed::HashMapStateStore,
};
use parking_lot::Mutex;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// When to come again if a call must end first. Nobody knows when one does.
const SOON: Duration = Duration::from_millis(100);
/// How often tenants that are idle are forgotten. By then their buckets are full again.
const SWEEP: Duration = Duration::from_secs(1);
/// For how many sweeps a tenant counts as active after its last call.
const ACTIVE: u8 = 10;

/// How many calls a replica serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallLimits {
    /// Calls at once.
    pub calls: Bound,
    /// The most of one tenant that begin in a second; 0: no limit.
    pub tenant_calls_per_second: u32,
    /// Bytes of requests that are held at once, as they came and as they are read.
    pub request_bytes: Bound,
    /// Connections that have shown a valid token.
    pub connections: Bound,
    /// The longest time for a whole request to arrive.
    pub receive_timeout: Duration,
}

/// See the module's documentation.
pub struct TenantLimits<C: Clock = MonotonicClock> {
    limits: CallLimits,
    rates: Option<Rates<C>>,
    all: Arc<All>,
    clock: C,
    swept: Mutex<C::Instant>,
}

/// What is used of everything.
#[derive(Default)]
struct All {
    used: Used,
    tenants: DashMap<Arc<str>, Arc<Used>>,
    /// How many tenants are active.
    active: AtomicUsize,
    operators: Arc<Used>,
}

/// What one party uses.
#[derive(Default)]
struct Used {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    connections: AtomicUsize,
    /// For how many sweeps it still counts as active.
    active: AtomicU8,
}

impl All {
    /// A tenant, as things are now.
    fn tenant(&self) -> Party {
        Party::Tenant { alone: self.active.load(Relaxed) <= 1 }
    }
}

impl TenantLimits {
    pub fn new(limits: CallLimits) -> Self {
        Self::with_clock(limits, MonotonicClock)
    }
}

impl<C: Clock + Clone> TenantLimits<C> {
    fn with_clock(limits: CallLimits, clock: C) -> Self {
        let rate = NonZeroU32::new(limits.tenant_calls_per_second);
        Self {
            limits,
            rates: rate.map(|rate| Rates::new(rate, clock.clone())),
            all: Arc::default(),
            swept: Mutex::new(clock.now()),
            clock,
        }
    }

    /// Counts a call of that tenant, or of an operator, until what is returned is dropped.
    pub fn enter(&self, tenant: Option<&str>) -> Result<PartysCall, Refusal> {
        self.forget_idle();
        let (used, party) = match tenant {
            None => (Arc::clone(&self.all.operators), Party::Operators),
            Some(tenant) => {
                let used = self.used(tenant);
                if used.active.swap(ACTIVE, Relaxed) == 0 {
                    self.all.active.fetch_add(1, Relaxed);
                }
                (used, self.all.tenant())
            }
        };
        // First, so that a call that must wait for another takes no token.
        let taken = self.limits.calls.take(&self.all.used.calls, &used.calls, party, 1);
        taken.map_err(|over| match over {
            Over::Tenant => Refusal::TenantCalls { retry_after: SOON },
            Over::All => Refusal::Overloaded,
        })?;
        let call = PartysCall {
            all: Arc::clone(&self.all),
            used,
            party,
            bytes: 0,
            bound: self.limits.request_bytes,
        };
        if let (Some(rates), Some(tenant)) = (&self.rates, tenant) {
            rates.take(&Arc::from(tenant)).map_err(|retry_after| Refusal::TenantRate { retry_after })?;
        }
        Ok(call)
    }

    /// Counts a connection of that party, until what is returned is dropped. `None` where it has as many as it may.
    pub fn connect(&self, tenant: Option<&str>) -> Option<PartysConnection> {
        let (used, party) = match tenant {
            None => (Arc::clone(&self.all.operators), Party::Operators),
            Some(tenant) => (self.used(tenant), self.all.tenant()),
        };
        let taken = self.limits.connections.take(&self.all.used.connections, &used.connections, party, 1);
        taken.ok().map(|()| PartysConnection { all: Arc::clone(&self.all), used })
    }

    fn used(&self, tenant: &str) -> Arc<Used> {
        if let Some(used) = self.all.tenants.get(tenant) {
            return Arc::clone(&used);
        }
        Arc::clone(&self.all.tenants.entry(tenant.into()).or_default())
    }

    /// Counts the tenants that are active, and forgets those that use nothing. Each is looked at in a few sweeps and then
    /// gone, so a sweep costs each tenant that comes a constant share.
    fn forget_idle(&self) {
        let now = self.clock.now();
        let Some(mut swept) = self.swept.try_lock() else { return };
        if now.duration_since(*swept) < Nanos::from(SWEEP) {
            return;
        }
        *swept = now;
        drop(swept);
        let mut active = 0;
        self.all.tenants.retain(|_, used| {
            let left = used.active.load(Relaxed);
            let left = if used.calls.load(Relaxed) > 0 { left.max(1) } else { left.saturating_sub(1) };
            used.active.store(left, Relaxed);
            active += usize::from(left > 0);
            left > 0 || Arc::strong_count(used) > 1
        });
        self.all.active.store(active, Relaxed);
        if let Some(rates) = &self.rates {
            rates.buckets.retain_recent();
        }
    }
}

/// A call that counts for its party until it is dropped, with the bytes of its request.
pub struct PartysCall {
    all: Arc<All>,
    used: Arc<Used>,
    party: Party,
    bytes: usize,
    bound: Bound,
}

impl PartysCall {
    /// Counts that the call's request takes so many bytes now.
    ///
    /// # Errors
    /// Where that is too much. What was counted before stays.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            give_back(&self.all.used.bytes, &self.used.bytes, self.bytes - bytes);
            self.bytes = bytes;
            return Ok(());
        };
        // Others may have come since the call began.
        let party = if self.party == Party::Operators { self.party } else { self.all.tenant() };
        let taken = self.bound.take(&self.all.used.bytes, &self.used.bytes, party, more);
        taken.map_err(|over| match over {
            Over::Tenant => Refusal::TenantBytes { retry_after: SOON },
            Over::All => Refusal::Overloaded,
        })?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for PartysCall {
    fn drop(&mut self) {
        give_back(&self.all.used.bytes, &self.used.bytes, self.bytes);
        give_back(&self.all.used.calls, &self.used.calls, 1);
    }
}

/// A connection that counts for its party until it is dropped.
pub struct PartysConnection {
    all: Arc<All>,
    used: Arc<Used>,
}

impl Drop for PartysConnection {
    fn drop(&mut self) {
        give_back(&self.all.used.connections, &self.used.connections, 1);
    }
}

type Buckets<C> =
    RateLimiter<Arc<str>, HashMapStateStore<Arc<str>>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A token bucket for each tenant that has called lately. It holds the tokens of one second. A bucket that is full again
/// is as if its tenant had never called.
struct Rates<C: Clock> {
    buckets: Buckets<C>,
}

impl<C: Clock> Rates<C> {
    fn new(per_second: NonZeroU32, clock: C) -> Self {
        Self { buckets: RateLimiter::hashmap_with_clock(Quota::per_second(per_second), clock) }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until there is one.
    fn take(&self, id: &Arc<str>) -> Result<(), Duration> {
        let taken = self.buckets.check_key(id);
        // The clock has gone on since then: a wait that is over is still a refusal.
        taken.map_err(|until| until.wait_time_from(self.buckets.clock().now()).max(Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(
        calls: Bound,
        tenant_calls_per_second: u32,
    ) -> (TenantLimits<FakeRelativeClock>, FakeRelativeClock) {
        let request_bytes = Bound { most: 1600, each: None };
        let connections = Bound { most: 16, each: None };
        let receive_timeout = SECOND;
        let limits =
            CallLimits { calls, tenant_calls_per_second, request_bytes, connections, receive_timeout };
        let clock = FakeRelativeClock::default();
        (TenantLimits::with_clock(limits, clock.clone()), clock)
    }

    const MANY: Bound = Bound { most: 10_000, each: None };

    fn each(tenant_max_calls: usize) -> Bound {
        Bound { each: Some(tenant_max_calls), ..MANY }
    }

    #[test]
    fn calls_at_once_are_counted_by_tenant() {
        let (limits, _) = limits(each(2), 0);
        let held: Vec<_> = (0..2).map(|_| limits.enter(Some("a")).unwrap()).collect();
        let over = limits.enter(Some("a")).map(drop).unwrap_err();
        assert!(matches!(over, Refusal::TenantCalls { retry_after: SOON }), "{over:?}");
        assert!(limits.enter(Some("b")).is_ok() && limits.enter(None).is_ok());
        drop(held);
        assert!(limits.enter(Some("a")).is_ok());
    }

    #[test]
    fn half_is_for_others_from_their_call_until_they_are_idle() {
        let (limits, clock) = limits(Bound { most: 32, each: None }, 0);
        let most = || {
            let mut held = Vec::new();
            while let Ok(call) = limits.enter(Some("a")) {
                held.push(call);
            }
            held.len()
        };
        assert_eq!(most(), 32);
        drop(limits.enter(Some("b")).unwrap());
        assert_eq!(most(), 16);
        for _ in 0..ACTIVE {
            assert_eq!(most(), 16);
            clock.advance(SECOND);
        }
        assert_eq!(most(), 32);
    }

    #[test]
    fn bytes_are_counted_until_the_call_ends() {
        let (limits, _) = limits(MANY, 0);
        let mut call = limits.enter(Some("a")).unwrap();
        assert!(call.hold(1600).is_ok() && call.hold(1601).is_err() && call.hold(900).is_ok());
        let mut other = limits.enter(Some("b")).unwrap();
        assert!(other.hold(700).is_ok());
        // Beside another, half.
        let over = call.hold(901).unwrap_err();
        assert!(matches!(over, Refusal::TenantBytes { .. }), "{over:?}");
        drop((call, other));
        assert_eq!(limits.all.used.bytes.load(Relaxed), 0);
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let (limits, _) = limits(MANY, 0);
        let held: Vec<_> = (0..20).map_while(|_| limits.connect(Some("a"))).collect();
        assert_eq!(held.len(), 16);
        assert!(limits.connect(Some("b")).is_some() && limits.connect(None).is_some());
        drop(held);
        assert_eq!(limits.all.used.connections.load(Relaxed), 0);
    }

    #[test]
    fn a_call_that_waits_for_another_takes_no_token() {
        let (limits, _) = limits(each(1), 2);
        let held = limits.enter(Some("a")).unwrap();
        for _ in 0..10 {
            let over = limits.enter(Some("a")).map(drop).unwrap_err();
            assert!(matches!(over, Refusal::TenantCalls { .. }), "{over:?}");
        }
        drop(held);
        drop(limits.enter(Some("a")).unwrap());
        let over = limits.enter(Some("a")).map(drop).unwrap_err();
        assert_eq!(over.retry_after(), Some(Duration::from_millis(500)));
        assert!(matches!(over, Refusal::TenantRate { .. }), "{over:?}");
    }

    #[test]
    fn tenants_who_are_idle_are_forgotten() {
        let (limits, clock) = limits(each(5), 1);
        let _held = limits.enter(Some("busy")).unwrap();
        for second in 0..100 {
            for i in 0..50 {
                drop(limits.enter(Some(&format!("{second}-{i}"))).unwrap());
            }
            clock.advance(SECOND);
        }
        let buckets = limits.rates.as_ref().unwrap().buckets.len();
        assert!(buckets <= 128, "{buckets}");
        let tenants = limits.all.tenants.len();
        assert!(tenants <= 50 * usize::from(ACTIVE + 2), "{tenants}");
        assert_eq!(limits.all.used.calls.load(Relaxed), 1);
        assert!(limits.all.tenants.contains_key("busy"));
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
