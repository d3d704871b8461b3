//! A balancing config as it is listed, with its live state.

use crate::{
    api::{pb, to_pb},
    balance::ErrorClass,
    catalog::{Config, ConfigSet},
    state::Inspection,
};
use std::time::Duration;

/// The configs of a set, each with its live state.
pub(super) fn listed(set: ConfigSet, state: Inspection) -> Vec<pb::LoadBalancingConfig> {
    let states = state.members.into_iter().map(|member| (member.cooling(state.now), member.in_flight));
    set.configs.into_iter().zip(states).map(|(config, state)| config_out(config, state)).collect()
}

fn config_out(
    config: Config,
    (cooling, in_flight): (Option<(Duration, ErrorClass)>, u32),
) -> pb::LoadBalancingConfig {
    let (ttl, class) = cooling.unzip();
    let limits = config.member.limits;
    pb::LoadBalancingConfig {
        id: config.id,
        name: config.name,
        credential_id: config.credential_id,
        credentials: config.credentials.into_iter().collect(),
        enabled: Some(config.enabled),
        weight: Some(config.weight),
        priority: config.priority,
        base_url: config.base_url,
        upstream_model: config.upstream_model,
        limits: (!limits.is_none()).then_some(pb::Limits {
            requests_per_minute: limits.requests_per_minute,
            tokens_per_minute: limits.tokens_per_minute,
            max_concurrency: limits.max_concurrency,
        }),
        in_cooldown: ttl.is_some(),
        ttl: ttl.map(to_pb::duration),
        cooldown_reason: to_pb::class(class),
        in_flight: i32::try_from(in_flight).unwrap_or(i32::MAX),
        warning: config.warning,
    }
}
