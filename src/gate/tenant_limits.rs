//! How much of this replica one tenant may have: calls at once, and calls begun in a second.
//!
//! They protect the process, and its other tenants, from one. Each replica counts by itself; limits that hold over a
//! whole fleet are those of a config.

use super::refusal::Refusal;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

/// When to come again where a call must end first: nobody knows when one does.
const SOON: Duration = Duration::from_millis(100);
/// So many tenants are kept without a look at which of them are idle.
const FEW: usize = 1024;
const SECOND: Duration = Duration::from_secs(1);

/// What a replica takes of calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallLimits {
    /// The most at once.
    pub max_calls: usize,
    /// The most at once of one tenant; 0: no limit.
    pub tenant_max_calls: usize,
    /// The most of one tenant that begin in a second; 0: no limit.
    pub tenant_calls_per_second: u32,
    /// How long a request may take to come in whole.
    pub receive_timeout: Duration,
}

/// See the module's documentation.
pub struct TenantLimits {
    max_calls: usize,
    per_second: Option<NonZeroU32>,
    tenants: Mutex<Tenants>,
}

struct Tenants {
    by_id: HashMap<Arc<str>, Tenant>,
    /// How many there are when the idle ones are swept out.
    sweep_at: usize,
}

#[derive(Default)]
struct Tenant {
    inside: usize,
    bucket: Bucket,
}

impl TenantLimits {
    pub fn new(limits: CallLimits) -> Self {
        Self {
            max_calls: limits.tenant_max_calls,
            per_second: NonZeroU32::new(limits.tenant_calls_per_second),
            tenants: Mutex::new(Tenants { by_id: HashMap::new(), sweep_at: FEW }),
        }
    }

    /// Counts a call of that tenant until what is returned is dropped; none where there is no limit.
    pub fn enter(self: &Arc<Self>, tenant: &str) -> Result<Option<TenantCall>, Refusal> {
        self.enter_at(tenant, Instant::now())
    }

    fn enter_at(self: &Arc<Self>, id: &str, now: Instant) -> Result<Option<TenantCall>, Refusal> {
        if self.max_calls == 0 && self.per_second.is_none() {
            return Ok(None);
        }
        let mut tenants = self.tenants.lock();
        let known = tenants.by_id.get_key_value(id).map(|(id, _)| Arc::clone(id));
        let id = known.unwrap_or_else(|| {
            tenants.sweep(now);
            Arc::from(id)
        });
        let tenant = tenants.by_id.entry(Arc::clone(&id)).or_default();
        // First, so that a call that must wait for another takes no token.
        if self.max_calls != 0 && tenant.inside >= self.max_calls {
            return Err(Refusal::TenantCalls { retry_after: SOON });
        }
        if let Some(per_second) = self.per_second {
            let taken = tenant.bucket.take(per_second, now);
            taken.map_err(|retry_after| Refusal::TenantRate { retry_after })?;
        }
        tenant.inside += 1;
        Ok(Some(TenantCall { limits: Arc::clone(self), id }))
    }
}

impl Tenants {
    /// Forgets those who are as if they had never called. Done when as many again have come as stayed the last time,
    /// which costs each that comes a constant share.
    fn sweep(&mut self, now: Instant) {
        if self.by_id.len() >= self.sweep_at {
            self.by_id.retain(|_, tenant| tenant.inside > 0 || !tenant.bucket.is_full(now));
            self.sweep_at = FEW.max(self.by_id.len() * 2);
        }
    }
}

/// A call that counts for its tenant, until it is dropped.
pub struct TenantCall {
    limits: Arc<TenantLimits>,
    id: Arc<str>,
}

impl Drop for TenantCall {
    fn drop(&mut self) {
        if let Some(tenant) = self.limits.tenants.lock().by_id.get_mut(&self.id) {
            tenant.inside -= 1;
        }
    }
}

/// A token bucket that holds one second's worth, told by the one moment at which it is full again (the generic cell rate
/// algorithm). None: it has been full since the start.
#[derive(Default)]
struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    /// In how long there is one.
    fn take(&mut self, per_second: NonZeroU32, now: Instant) -> Result<(), Duration> {
        let one = SECOND / per_second.get();
        let lacks =
            self.full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now)) + one;
        // As tokens come, not a second: the two differ by rounding.
        match lacks.checked_sub(one * per_second.get()) {
            None | Some(Duration::ZERO) => {
                self.full_at = Some(now + lacks);
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(tenant_max_calls: usize, tenant_calls_per_second: u32) -> Arc<TenantLimits> {
        let limits = CallLimits { tenant_max_calls, tenant_calls_per_second, ..CallLimits::default() };
        Arc::new(TenantLimits::new(limits))
    }

    #[test]
    fn calls_at_once_are_counted_by_tenant() {
        let limits = limits(2, 0);
        let held: Vec<_> = (0..2).map(|_| limits.enter("a").unwrap().unwrap()).collect();
        let over = limits.enter("a").map(drop).unwrap_err();
        assert!(matches!(over, Refusal::TenantCalls { retry_after: SOON }), "{over:?}");
        assert!(limits.enter("b").is_ok());
        drop(held);
        assert!(limits.enter("a").is_ok());
    }

    #[test]
    fn a_call_that_waits_for_another_takes_no_token() {
        let limits = limits(1, 2);
        let now = Instant::now();
        let held = limits.enter_at("a", now).unwrap();
        for _ in 0..10 {
            let over = limits.enter_at("a", now).map(drop).unwrap_err();
            assert!(matches!(over, Refusal::TenantCalls { .. }), "{over:?}");
        }
        drop(held);
        drop(limits.enter_at("a", now).unwrap());
        let over = limits.enter_at("a", now).map(drop).unwrap_err();
        assert_eq!(over.retry_after(), Some(Duration::from_millis(500)));
        assert!(matches!(over, Refusal::TenantRate { .. }), "{over:?}");
    }

    #[test]
    fn tenants_who_are_idle_are_forgotten() {
        let limits = limits(5, 1);
        let begin = Instant::now();
        let _held = limits.enter_at("busy", begin).unwrap();
        for second in 0..100 {
            let now = begin + SECOND * second;
            for i in 0..500 {
                drop(limits.enter_at(&format!("{second}-{i}"), now).unwrap());
            }
        }
        let tenants = limits.tenants.lock();
        assert!(tenants.by_id.len() <= FEW, "{}", tenants.by_id.len());
        assert_eq!(tenants.by_id["busy"].inside, 1);
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let limits = limits(0, 0);
        assert!(limits.enter("a").unwrap().is_none());
        assert!(limits.tenants.lock().by_id.is_empty());
    }

    proptest! {
        #[test]
        fn any_span_of_time_gets_its_rate_and_a_second_more(
            per_second in 1..2000u32,
            pauses in prop::collection::vec(0..3_000_000u64, 1..300),
        ) {
            let rate = NonZeroU32::new(per_second).unwrap();
            let (mut bucket, begin) = (Bucket::default(), Instant::now());
            let (mut now, mut taken) = (begin, Vec::new());
            for pause in pauses {
                now += Duration::from_micros(pause / u64::from(per_second));
                if let Err(wait) = bucket.take(rate, now) {
                    prop_assert!(!wait.is_zero() && wait <= SECOND / per_second, "{wait:?}");
                    // Not a moment before, and then surely.
                    prop_assert!(bucket.take(rate, now + wait.saturating_sub(Duration::from_nanos(1))).is_err());
                    now += wait;
                    prop_assert!(bucket.take(rate, now).is_ok());
                }
                taken.push(now);
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let worth = (*to - *from).as_secs_f64() * f64::from(per_second) * 1.000_01;
                    prop_assert!((last - first + 1) as f64 <= f64::from(per_second) + worth + 1e-6);
                }
            }
            // One that has rested gets a whole second's worth at once, and no more.
            now += SECOND;
            for _ in 0..per_second {
                prop_assert!(bucket.take(rate, now).is_ok());
            }
            prop_assert!(bucket.take(rate, now).is_err());
        }
    }
}
