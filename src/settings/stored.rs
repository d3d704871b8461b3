//! The settings of what tenants may store, of what changes leave behind, and of the health checks that policies ask for.

use super::{
    RawSettings,
    values::{Problems, time},
};
use crate::catalog::Bounds;

/// The bounds of what is stored, with the defaults filled in.
pub(super) fn bounds(raw: &mut RawSettings, problems: &mut Problems) -> Bounds {
    let usual = Bounds::default();
    let waiting = u64::try_from(usual.waiting_changes).unwrap_or(u64::MAX);
    let waiting =
        at_least_one("tenant-max-waiting-changes", raw.tenant_max_waiting_changes, waiting, problems);
    let per_model = raw.max_configs_per_model.unwrap_or(usual.configs_per_model);
    if !(1..=Bounds::MOST_CONFIGS_PER_MODEL).contains(&per_model) {
        problems.add("max-configs-per-model", "is a number from 1 to 1000");
    }
    Bounds {
        providers: at_least_one("tenant-max-providers", raw.tenant_max_providers, usual.providers, problems),
        credentials: at_least_one(
            "tenant-max-credentials",
            raw.tenant_max_credentials,
            usual.credentials,
            problems,
        ),
        models: at_least_one("tenant-max-models", raw.tenant_max_models, usual.models, problems),
        aliases: at_least_one("tenant-max-aliases", raw.tenant_max_aliases, usual.aliases, problems),
        configs: at_least_one("tenant-max-configs", raw.tenant_max_configs, usual.configs, problems),
        configs_per_model: per_model,
        tokens: at_least_one("tenant-max-tokens", raw.tenant_max_tokens, usual.tokens, problems),
        waiting_changes: usize::try_from(waiting).unwrap_or(usize::MAX),
        audit_age: time("audit-retention", raw.audit_retention.take(), usual.audit_age, problems),
        audit_events: at_least_one(
            "tenant-max-audit-events",
            raw.tenant_max_audit_events,
            usual.audit_events,
            problems,
        ),
        outbox_age: time("outbox-retention", raw.outbox_retention.take(), usual.outbox_age, problems),
        outbox_rows: at_least_one("outbox-max-rows", raw.outbox_max_rows, usual.outbox_rows, problems),
    }
}

/// How many health checks may be under way at once.
pub(super) fn slots(setting: &str, given: Option<u32>, usual: u32, problems: &mut Problems) -> usize {
    let slots = given.unwrap_or(usual);
    if !(1..=10_000).contains(&slots) {
        problems.add(setting, "is a number from 1 to 10000");
        return usize::try_from(usual).unwrap_or_default();
    }
    usize::try_from(slots).unwrap_or_default()
}

fn at_least_one(setting: &str, given: Option<u64>, usual: u64, problems: &mut Problems) -> u64 {
    match given {
        // More than any database counts to.
        Some(count) if count == 0 || i64::try_from(count).is_err() => {
            problems.add(setting, "is a number from 1");
            usual
        }
        given => given.unwrap_or(usual),
    }
}
