//! ConfigService: providers, credentials, models and their balancing configs.

mod balancing;
mod cooldown;
mod credentials;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod models;
mod overview;
mod policy;
mod providers;
mod watch;

use super::{
    convert,
    pb::{self, config_service_server::ConfigService},
    status,
};
use crate::{
    catalog::{Caller, Catalog},
    provider::Drivers,
    state::StateStore,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

/// See the module's documentation.
#[derive(Clone)]
pub struct ConfigApi {
    catalog: Catalog,
    state: Arc<dyn StateStore>,
    drivers: Drivers,
    stop: CancellationToken,
}

impl ConfigApi {
    /// Serves that catalog, with the state of its pools, and validates over those drivers. Watches end when `stop` is
    /// cancelled.
    pub fn new(
        catalog: Catalog,
        state: Arc<dyn StateStore>,
        drivers: Drivers,
        stop: CancellationToken,
    ) -> Self {
        Self { catalog, state, drivers, stop }
    }
}

/// Who calls. The gate has put it there; without it nothing is answered.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    request.extensions().get::<Arc<Caller>>().cloned().ok_or_else(status::token_invalid)
}

/// Each RPC is a method of the same name on `ConfigApi`, in the file of what it is about.
macro_rules! serve {
    ($($method:ident: $request:ident -> $response:ident;)*) => {
        #[async_trait]
        impl ConfigService for ConfigApi {
            type WatchPoolStream = watch::PoolStream;

            async fn watch_pool(
                &self,
                request: Request<pb::WatchPoolRequest>,
            ) -> Result<Response<Self::WatchPoolStream>, Status> {
                let caller = caller(&request)?;
                self.watch_pool(&caller, request.into_inner()).map(Response::new)
            }

            $(async fn $method(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                let caller = caller(&request)?;
                self.$method(&caller, request.into_inner()).await.map(Response::new)
            })*
        }
    };
}

serve! {
    list_provider_kinds: ListProviderKindsRequest -> ListProviderKindsResponse;
    get_configurations: GetConfigurationsRequest -> GetConfigurationsResponse;
    get_provider_model_bundle: GetProviderModelBundleRequest -> GetProviderModelBundleResponse;
    validate_credential: ValidateCredentialRequest -> ValidateCredentialResponse;
    create_provider: CreateProviderRequest -> CreateProviderResponse;
    get_provider: GetProviderRequest -> GetProviderResponse;
    list_providers: ListProvidersRequest -> ListProvidersResponse;
    update_provider: UpdateProviderRequest -> UpdateProviderResponse;
    delete_provider: DeleteProviderRequest -> DeleteProviderResponse;
    create_credential: CreateCredentialRequest -> CreateCredentialResponse;
    get_credential: GetCredentialRequest -> GetCredentialResponse;
    list_credentials: ListCredentialsRequest -> ListCredentialsResponse;
    update_credential: UpdateCredentialRequest -> UpdateCredentialResponse;
    delete_credential: DeleteCredentialRequest -> DeleteCredentialResponse;
    activate_credential: ActivateCredentialRequest -> ActivateCredentialResponse;
    put_model: PutModelRequest -> PutModelResponse;
    get_model: GetModelRequest -> GetModelResponse;
    list_models: ListModelsRequest -> ListModelsResponse;
    delete_model: DeleteModelRequest -> DeleteModelResponse;
    enable_model: EnableModelRequest -> EnableModelResponse;
    disable_model: DisableModelRequest -> DisableModelResponse;
    get_default_model: GetDefaultModelRequest -> GetDefaultModelResponse;
    set_default_model: SetDefaultModelRequest -> SetDefaultModelResponse;
    enable_model_load_balancing: EnableModelLoadBalancingRequest -> EnableModelLoadBalancingResponse;
    disable_model_load_balancing: DisableModelLoadBalancingRequest -> DisableModelLoadBalancingResponse;
    get_load_balancing_configs: GetLoadBalancingConfigsRequest -> GetLoadBalancingConfigsResponse;
    get_load_balancing_config: GetLoadBalancingConfigRequest -> GetLoadBalancingConfigResponse;
    update_load_balancing_configs: UpdateLoadBalancingConfigsRequest -> UpdateLoadBalancingConfigsResponse;
    validate_load_balancing_credentials:
        ValidateLoadBalancingCredentialsRequest -> ValidateLoadBalancingCredentialsResponse;
    update_balancing_policy: UpdateBalancingPolicyRequest -> UpdateBalancingPolicyResponse;
    set_cooldown: SetCooldownRequest -> SetCooldownResponse;
    clear_cooldown: ClearCooldownRequest -> ClearCooldownResponse;
    get_cooldown: GetCooldownRequest -> GetCooldownResponse;
}

/// Which fields an update changes: those of its mask, or without one those that are there.
struct Mask(Option<Vec<String>>);

impl Mask {
    /// Refuses a path that is none of `known`.
    fn read(mask: Option<prost_types::FieldMask>, known: &[&str]) -> Result<Self, Status> {
        let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else { return Ok(Self(None)) };
        if mask.paths.iter().any(|path| !known.contains(&path.as_str())) {
            return Err(status::invalid("update_mask", format!("may name {}", known.join(", "))));
        }
        Ok(Self(Some(mask.paths)))
    }

    /// `value`, where the mask names `path`, or where there is no mask and it is `present`.
    fn pick<T>(&self, path: &str, present: bool, value: T) -> Option<T> {
        let chosen = match &self.0 {
            Some(paths) => paths.iter().any(|named| named == path),
            None => present,
        };
        chosen.then_some(value)
    }
}
