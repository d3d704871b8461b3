//! Retry budgets. They keep retries from doubling the load of a provider that is already failing.
//!
//! A budget is per pool and replica: a share of its calls plus a rate. It only bounds retries after server errors, timeouts
//! and connection failures. A rate limit, a dead key or an empty account says nothing about the next config, so the call
//! always moves on. The rule is that of [Finagle](https://twitter.github.io/finagle/docs/com/twitter/finagle/service/RetryBudget).

use crate::balance::ErrorClass;
use dashmap::DashMap;
use std::{sync::Arc, time::Duration};
use tower::retry::budget::{Budget, TpsBudget};
use uuid::Uuid;

/// How many retries a pool may make on this replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Retries per call, from 0 to 10.
    pub share: f32,
    /// Retries per second in addition.
    pub per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { share: 0.2, per_second: 10 }
    }
}

/// Calls and retries count for this long.
const WINDOW: Duration = Duration::from_secs(10);

pub(super) struct RetryBudgets {
    rule: RetryBudget,
    /// By the pool's row id. A pool that has never failed has none.
    pools: DashMap<Uuid, Arc<TpsBudget>>,
}

impl RetryBudgets {
    pub(super) fn new(rule: RetryBudget) -> Self {
        Self { rule, pools: DashMap::new() }
    }

    /// Counts a call that has begun.
    pub(super) fn deposit(&self, pool: Uuid) {
        if let Some(budget) = self.pools.get(&pool) {
            budget.deposit();
        }
    }

    /// Whether another attempt may follow a failure of that class. If so, the budget has paid for it.
    pub(super) fn allow(&self, pool: Uuid, class: ErrorClass) -> bool {
        if !matches!(class, ErrorClass::ServerError | ErrorClass::Timeout | ErrorClass::Connection) {
            return true;
        }
        let budget = self.pools.entry(pool).or_insert_with(|| {
            Arc::new(TpsBudget::new(WINDOW, self.rule.per_second, self.rule.share.clamp(0.0, 10.0)))
        });
        budget.withdraw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_calls_plus_a_reserve() {
        let budgets = RetryBudgets::new(RetryBudget { share: 0.2, per_second: 1 });
        let pool = Uuid::new_v4();
        let granted = || (0..1000).take_while(|_| budgets.allow(pool, ErrorClass::Timeout)).count();
        assert_eq!(granted(), 10, "a reserve of 1 a second for 10 seconds");
        for _ in 0..100 {
            budgets.deposit(pool);
        }
        assert_eq!(granted(), 20);
    }

    #[test]
    fn failures_that_say_nothing_of_the_next_config_are_free() {
        let budgets = RetryBudgets::new(RetryBudget { share: 0.0, per_second: 0 });
        let pool = Uuid::new_v4();
        for class in ErrorClass::ALL {
            let bounded =
                matches!(class, ErrorClass::ServerError | ErrorClass::Timeout | ErrorClass::Connection);
            assert_eq!(budgets.allow(pool, class), !bounded, "{class:?}");
        }
    }
}
