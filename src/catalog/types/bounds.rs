//! What a tenant may store, and how long what changes leave behind is kept.

use std::time::Duration;

/// The bounds of what is stored. What was there before a bound was set stays, and can shrink.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most providers of a tenant.
    pub providers: u64,
    /// The most credentials of a tenant.
    pub credentials: u64,
    /// The most models of a tenant.
    pub models: u64,
    /// The most aliases of a tenant.
    pub aliases: u64,
    /// The most configs of a tenant, over all of its models.
    pub configs: u64,
    /// The most configs of one model, at most [`Self::MOST_CONFIGS_PER_MODEL`].
    pub configs_per_model: u64,
    /// The most tokens of a tenant.
    pub tokens: u64,
    /// The most changes of one tenant that wait for their turn on this replica.
    pub waiting_changes: usize,
    /// How long audit events are kept.
    pub audit_age: Duration,
    /// The most audit events of a tenant. The oldest go first.
    pub audit_events: u64,
    /// How long the outbox is kept.
    pub outbox_age: Duration,
    /// The most rows of the outbox. The oldest go first.
    pub outbox_rows: u64,
}

impl Bounds {
    /// What a pick and a change of one model are measured for.
    pub const MOST_CONFIGS_PER_MODEL: u64 = 1000;
}

impl Default for Bounds {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Self {
            providers: 100,
            credentials: 10_000,
            models: 5_000,
            aliases: 1_000,
            configs: 50_000,
            configs_per_model: Self::MOST_CONFIGS_PER_MODEL,
            tokens: 1_000,
            waiting_changes: 100,
            audit_age: days(365),
            audit_events: 100_000,
            outbox_age: days(1),
            outbox_rows: 100_000,
        }
    }
}
