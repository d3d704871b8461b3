//! The engine itself: what calls need, and how a call is put together. Its kinds of calls are in the other files.

use super::{
    budget::{RetryBudget, RetryBudgets},
    call::{Call, CallOptions},
    counting::Counting,
    error::CallError,
    latencies::Latencies,
};
use crate::{
    catalog::{Catalog, ModelKey, Pool},
    provider::{Driver, Registry},
    state::StateStore,
    telemetry::{Metrics, ModelLabels, ModelNames, Traces},
    wire::Voice,
};
use std::sync::Arc;

/// Makes calls. One serves all tenants.
pub struct Engine {
    pub(super) catalog: Catalog,
    pub(super) state: Arc<dyn StateStore>,
    pub(super) drivers: Registry,
    pub(super) budgets: RetryBudgets,
    pub(super) latencies: Arc<Latencies>,
    pub(super) counting: Counting,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Traces,
    /// How many leases that end by themselves a model may have.
    pub(super) max_leases: u32,
}

/// See [`Engine::with_max_leases`].
pub const MAX_LEASES: u32 = 10_000;

impl Engine {
    /// An engine that calls the models of `catalog`.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        state: Arc<dyn StateStore>,
        drivers: Registry,
        budget: RetryBudget,
        metrics: Arc<Metrics>,
        traces: Traces,
    ) -> Self {
        let budgets = RetryBudgets::new(budget);
        Self {
            catalog,
            state,
            drivers,
            budgets,
            latencies: Arc::default(),
            counting: Counting::default(),
            metrics,
            traces,
            max_leases: MAX_LEASES,
        }
    }

    /// Lets a model have so many leases of [`Engine::lease`] at once, over all replicas. The default is [`MAX_LEASES`].
    #[must_use]
    pub fn with_max_leases(self, most: u32) -> Self {
        Self { max_leases: most, ..self }
    }

    /// The state that calls are balanced by.
    #[must_use]
    pub fn state(&self) -> &dyn StateStore {
        self.state.as_ref()
    }

    /// A call of that model, with its fallbacks looked up.
    #[must_use]
    pub fn call(&self, pool: Arc<Pool>, options: CallOptions) -> Call {
        let policy = usize::try_from(pool.policy.max_attempts).unwrap_or(usize::MAX);
        let max_attempts = match (options.max_attempts, policy) {
            (0, bound) | (bound, 0) => bound,
            (one, other) => one.min(other),
        };
        let total = pool.policy.timeouts.total.map_or(options.deadline, |total| options.began + total);
        let deadline = options.deadline.min(total);
        let on_break = options.on_break.unwrap_or(pool.policy.on_break);
        let mut chain = vec![pool];
        if options.fallback {
            self.append_fallbacks(&mut chain, 0);
        }
        let (began, tokens) = (options.began, options.tokens);
        Call { chain, began, deadline, max_attempts, tokens, repeatable: true, size: None, on_break }
    }

    /// Adds the fallbacks of the pool at `at`, each followed by its own: the nearer a model stands to the one that was
    /// named, the earlier it is tried. Saving refuses cycles; a model that two others fall back to is tried once.
    fn append_fallbacks(&self, chain: &mut Vec<Arc<Pool>>, at: usize) {
        let fallbacks: Vec<ModelKey> = chain.get(at).map(|pool| pool.fallbacks.clone()).unwrap_or_default();
        for key in fallbacks {
            if chain.iter().any(|known| known.key == key) {
                continue;
            }
            if let Some(pool) = self.catalog.pool(&key) {
                chain.push(pool);
                self.append_fallbacks(chain, chain.len() - 1);
            }
        }
    }

    /// The voices that can read aloud.
    ///
    /// # Errors
    /// [`CallError::Disabled`].
    pub fn voices(&self, call: &Call) -> Result<&'static [Voice], CallError> {
        let pool = call.chain.first().filter(|pool| pool.enabled).ok_or(CallError::Disabled)?;
        Ok(self.driver(pool)?.voices())
    }

    /// The driver of the pool's kind of provider.
    pub(super) fn driver(&self, pool: &Pool) -> Result<&dyn Driver, CallError> {
        self.drivers.get(pool.kind.name).ok_or(CallError::Unsupported(pool.kind.name))
    }

    /// How metrics name the pool's model.
    pub(super) fn model(&self, pool: &Pool) -> ModelLabels {
        self.metrics.model(pool.roster.id, || ModelNames {
            tenant: pool.key.tenant.clone(),
            provider: pool.key.provider.clone(),
            kind: pool.kind.telemetry_name,
            model_type: pool.key.model_type.name(),
            model: pool.key.model.clone(),
        })
    }
}
