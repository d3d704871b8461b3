//! A model's balancing configs, with the live state of each.

use super::{listed::listed, models::model_out, policy, service::ConfigApi};
use crate::{
    api::{from_pb, pb, status, to_pb},
    balance::{ErrorClass, Failure, Limits},
    catalog::{Caller, ConfigFrom, ConfigSet, ModelKey, NewConfig},
    provider::{KindSpec, Target},
};
use std::time::{Duration, Instant};
use tonic::Status;

/// How long a validation waits for the provider.
const VALIDATION_LIMIT: Duration = Duration::from_secs(10);

impl ConfigApi {
    pub(super) async fn enable_model_load_balancing(
        &self,
        caller: &Caller,
        request: pb::EnableModelLoadBalancingRequest,
    ) -> Result<pb::EnableModelLoadBalancingResponse, Status> {
        let model = self.set_balancing(caller, request.key, true).await?;
        Ok(pb::EnableModelLoadBalancingResponse { model })
    }

    pub(super) async fn disable_model_load_balancing(
        &self,
        caller: &Caller,
        request: pb::DisableModelLoadBalancingRequest,
    ) -> Result<pb::DisableModelLoadBalancingResponse, Status> {
        let model = self.set_balancing(caller, request.key, false).await?;
        Ok(pb::DisableModelLoadBalancingResponse { model })
    }

    async fn set_balancing(
        &self,
        caller: &Caller,
        key: Option<pb::ModelKey>,
        on: bool,
    ) -> Result<Option<pb::Model>, Status> {
        let key = from_pb::key(caller, key, "key")?;
        let model = self.catalog.by(caller).set_balancing(&key, on).await.map_err(status::from_catalog)?;
        Ok(Some(model_out(model)))
    }

    pub(super) async fn get_load_balancing_configs(
        &self,
        caller: &Caller,
        request: pb::GetLoadBalancingConfigsRequest,
    ) -> Result<pb::GetLoadBalancingConfigsResponse, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let from = config_from(&request.config_from)?;
        let set = self.catalog.configs(&key, from).await.map_err(status::from_catalog)?;
        let (enabled, revision, policy) = (set.enabled, set.revision, Some(policy::out(&set.policy)));
        let configs = self.with_state(set).await;
        Ok(pb::GetLoadBalancingConfigsResponse { enabled, revision, policy, configs })
    }

    pub(super) async fn get_load_balancing_config(
        &self,
        caller: &Caller,
        request: pb::GetLoadBalancingConfigRequest,
    ) -> Result<pb::GetLoadBalancingConfigResponse, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let config = self.one_config(&key, &request.id).await?;
        Ok(pb::GetLoadBalancingConfigResponse { config: Some(config) })
    }

    pub(super) async fn update_load_balancing_configs(
        &self,
        caller: &Caller,
        request: pb::UpdateLoadBalancingConfigsRequest,
    ) -> Result<pb::UpdateLoadBalancingConfigsResponse, Status> {
        let revision = request.revision;
        let (key, from, configs) = update_in(request, caller)?;
        let set = self
            .catalog
            .by(caller)
            .update_configs(&key, from, revision, configs)
            .await
            .map_err(status::from_catalog)?;
        let (enabled, revision, policy) = (set.enabled, set.revision, Some(policy::out(&set.policy)));
        let configs = self.with_state(set).await;
        Ok(pb::UpdateLoadBalancingConfigsResponse { enabled, revision, policy, configs })
    }

    pub(super) async fn validate_load_balancing_credentials(
        &self,
        caller: &Caller,
        request: pb::ValidateLoadBalancingCredentialsRequest,
    ) -> Result<pb::ValidateLoadBalancingCredentialsResponse, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let credentials = request.credentials.into_iter().collect();
        let (kind, target) = self
            .catalog
            .config_target(&key, credentials, &request.config_id, &request.base_url)
            .await
            .map_err(status::from_catalog)?;
        if !request.config_id.is_empty() {
            // A stored secret goes out on record, or not at all.
            let resource = format!("config {}", request.config_id);
            // `__inherit__` is another one in each model.
            let credential = format!("{key:?} {}", request.config_id).into();
            let writer = self.catalog.by(caller);
            let noted = writer.note_read("ValidateLoadBalancingCredentials", &key, &resource, &credential);
            noted.await.map_err(status::from_catalog)?;
        }
        let Tried { valid, error_class, message, latency } = self.try_out(kind, &target).await?;
        Ok(pb::ValidateLoadBalancingCredentialsResponse { valid, error_class, message, latency })
    }

    pub(super) async fn validate_credential(
        &self,
        caller: &Caller,
        request: pb::ValidateCredentialRequest,
    ) -> Result<pb::ValidateCredentialResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let fields = request.fields.into_iter().collect();
        let (kind, target) = self
            .catalog
            .credential_target(&tenant, &request.provider, &request.id, fields)
            .await
            .map_err(status::from_catalog)?;
        if !request.id.is_empty() {
            let writer = self.catalog.by(caller);
            let noted = writer.note_credential("ValidateCredential", &tenant, &request.provider, &request.id);
            noted.await.map_err(status::from_catalog)?;
        }
        let Tried { valid, error_class, message, latency } = self.try_out(kind, &target).await?;
        Ok(pb::ValidateCredentialResponse { valid, error_class, message, latency })
    }

    /// Asks the provider whether a credential works.
    async fn try_out(&self, kind: &'static KindSpec, target: &Target) -> Result<Tried, Status> {
        let driver = self
            .drivers
            .get(kind.name)
            .ok_or_else(|| status::invalid("provider", "is of a kind that this build does not speak"))?;
        let began = Instant::now();
        let failure = match tokio::time::timeout(VALIDATION_LIMIT, driver.validate(target)).await {
            Ok(outcome) => outcome.err(),
            Err(_) => Some(Failure::new(ErrorClass::Timeout, "no answer within 10 seconds")),
        };
        Ok(Tried {
            valid: failure.is_none(),
            latency: Some(to_pb::duration(began.elapsed())),
            error_class: to_pb::class(failure.as_ref().map(|failure| failure.class)),
            message: failure.map(|failure| failure.message).unwrap_or_default(),
        })
    }

    pub(super) async fn one_config(
        &self,
        key: &ModelKey,
        id: &str,
    ) -> Result<pb::LoadBalancingConfig, Status> {
        let mut set = self.catalog.configs(key, ConfigFrom::Any).await.map_err(status::from_catalog)?;
        set.configs.retain(|config| config.id == id);
        set.roster.members = set.configs.iter().map(|config| config.member.clone()).collect();
        let config = self.with_state(set).await.pop();
        config.ok_or_else(|| status::not_found(crate::catalog::ResourceKind::Config, id))
    }

    /// Adds their live state to the configs of a set.
    pub(super) async fn with_state(&self, set: ConfigSet) -> Vec<pb::LoadBalancingConfig> {
        let state = self.state.inspect(&set.roster).await;
        listed(set, state)
    }
}

/// The result of trying a credential, as both validations answer it.
struct Tried {
    valid: bool,
    error_class: i32,
    message: String,
    latency: Option<prost_types::Duration>,
}

fn config_from(text: &str) -> Result<ConfigFrom, Status> {
    match text {
        "" => Ok(ConfigFrom::Any),
        "predefined-model" => Ok(ConfigFrom::PredefinedModel),
        "custom-model" => Ok(ConfigFrom::CustomModel),
        _ => Err(status::invalid("config_from", "is empty, `predefined-model` or `custom-model`")),
    }
}

pub(super) fn update_in(
    request: pb::UpdateLoadBalancingConfigsRequest,
    caller: &Caller,
) -> Result<(ModelKey, ConfigFrom, Vec<NewConfig>), Status> {
    let key = from_pb::key(caller, request.key, "key")?;
    let from = config_from(&request.config_from)?;
    Ok((key, from, request.configs.into_iter().map(config_in).collect()))
}

fn config_in(config: pb::LoadBalancingConfig) -> NewConfig {
    let limits = config.limits.unwrap_or_default();
    NewConfig {
        id: config.id,
        name: config.name,
        credential_id: config.credential_id,
        credentials: config.credentials.into_iter().collect(),
        enabled: config.enabled,
        weight: config.weight,
        priority: config.priority,
        base_url: config.base_url,
        upstream_model: config.upstream_model,
        limits: Limits {
            requests_per_minute: limits.requests_per_minute,
            tokens_per_minute: limits.tokens_per_minute,
            max_concurrency: limits.max_concurrency,
        },
    }
}
