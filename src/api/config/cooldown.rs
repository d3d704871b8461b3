//! A config's cooldown: what it is, and an operator's hand on it.

use super::service::ConfigApi;
use crate::{
    api::{from_pb, pb, status},
    balance::ErrorClass,
    catalog::{Caller, ConfigFrom, ModelKey, ResourceKind},
    state::Override,
};
use std::time::Duration;
use tonic::Status;

/// The longest cooldown that can be set by hand.
const MOST: Duration = Duration::from_secs(24 * 3600);

impl ConfigApi {
    pub(super) async fn get_cooldown(
        &self,
        caller: &Caller,
        request: pb::GetCooldownRequest,
    ) -> Result<pb::GetCooldownResponse, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let config = self.one_config(&key, &request.config_id).await?;
        Ok(pb::GetCooldownResponse {
            in_cooldown: config.in_cooldown,
            ttl: config.ttl,
            reason: config.cooldown_reason,
        })
    }

    pub(super) async fn set_cooldown(
        &self,
        caller: &Caller,
        mut request: pb::SetCooldownRequest,
    ) -> Result<pb::SetCooldownResponse, Status> {
        let key = from_pb::key(caller, request.key.take(), "key")?;
        let switch = override_in(&request)?;
        let config = self.override_cooldown(caller, "SetCooldown", &key, &request.config_id, switch).await?;
        Ok(pb::SetCooldownResponse {
            in_cooldown: config.in_cooldown,
            ttl: config.ttl,
            reason: config.cooldown_reason,
        })
    }

    pub(super) async fn clear_cooldown(
        &self,
        caller: &Caller,
        request: pb::ClearCooldownRequest,
    ) -> Result<pb::ClearCooldownResponse, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let config = self
            .override_cooldown(caller, "ClearCooldown", &key, &request.config_id, Override::Clear)
            .await?;
        Ok(pb::ClearCooldownResponse {
            in_cooldown: config.in_cooldown,
            ttl: config.ttl,
            reason: config.cooldown_reason,
        })
    }

    /// Changes a config's cooldown, and reads it back.
    async fn override_cooldown(
        &self,
        caller: &Caller,
        action: &'static str,
        key: &ModelKey,
        id: &str,
        change: Override,
    ) -> Result<pb::LoadBalancingConfig, Status> {
        let set = self.catalog.configs(key, ConfigFrom::Any).await.map_err(status::from_catalog)?;
        let config = set
            .configs
            .iter()
            .find(|config| config.id == id)
            .ok_or_else(|| status::not_found(ResourceKind::Config, id))?;
        let resource = format!("config {} ({id})", config.name);
        self.catalog.by(caller).note(action, key, &resource).await.map_err(status::from_catalog)?;
        self.state.override_cooldown(&set.roster, &config.member, change).await;
        self.one_config(key, id).await
    }
}

pub(super) fn override_in(request: &pb::SetCooldownRequest) -> Result<Override, Status> {
    let duration = from_pb::duration(request.duration.unwrap_or_default(), "duration")
        .ok()
        .filter(|duration| *duration <= MOST)
        .ok_or_else(|| status::invalid("duration", "is from 0 to 24 h"))?;
    let class = from_pb::class(request.reason, "reason")?.unwrap_or(ErrorClass::RateLimited);
    if !class.moves_on() {
        return Err(status::invalid("reason", "is a class that does not cool"));
    }
    Ok(if duration.is_zero() { Override::Clear } else { Override::Set { duration, class } })
}
