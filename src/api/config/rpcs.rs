//! The RPCs of ConfigService: one line each.

use super::{service::ConfigApi, watch::PoolStream};
use crate::api::{
    from_pb,
    pb::{self, config_service_server::ConfigService},
};
use tonic::{Request, Response, Status, async_trait};

/// Each RPC is a method of the same name on `ConfigApi`, in the file of what it is about.
macro_rules! serve {
    ($($method:ident: $request:ident -> $response:ident;)*) => {
        #[async_trait]
        impl ConfigService for ConfigApi {
            type WatchPoolStream = PoolStream;

            async fn watch_pool(
                &self,
                request: Request<pb::WatchPoolRequest>,
            ) -> Result<Response<Self::WatchPoolStream>, Status> {
                let caller = from_pb::caller(&request)?;
                self.watch_pool(&caller, request.into_inner()).map(Response::new)
            }

            $(async fn $method(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                let caller = from_pb::caller(&request)?;
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
    put_model_alias: PutModelAliasRequest -> PutModelAliasResponse;
    list_model_aliases: ListModelAliasesRequest -> ListModelAliasesResponse;
    delete_model_alias: DeleteModelAliasRequest -> DeleteModelAliasResponse;
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
