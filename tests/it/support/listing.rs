//! Reads and writes of a scene's configuration, in a line each.

use rota::api::pb::{
    CreateCredentialRequest, Credential, GetDefaultModelRequest, GetDefaultModelResponse,
    GetLoadBalancingConfigsRequest, GetLoadBalancingConfigsResponse, ListCredentialsRequest,
    ListModelAliasesRequest, ListModelsRequest, ListProvidersRequest, LoadBalancingConfig, Model, ModelAlias,
    ModelKey, ModelType, Provider, PutModelRequest, UpdateLoadBalancingConfigsRequest,
    UpdateLoadBalancingConfigsResponse,
};
use tonic::Status;

use super::world::Scene;

/// Everything a tenant has configured, as its listings tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    pub providers: Vec<Provider>,
    pub credentials: Vec<Credential>,
    pub models: Vec<Model>,
    pub aliases: Vec<ModelAlias>,
    pub configs: Vec<GetLoadBalancingConfigsResponse>,
    pub default: Option<GetDefaultModelResponse>,
}

impl Scene {
    /// Reads all listings.
    pub async fn listing(&self) -> Listing {
        let mut client = self.clients.config.clone();
        let tenant_id = self.tenant.clone();
        let page_size = 1000;
        let providers =
            ListProvidersRequest { tenant_id: tenant_id.clone(), page_size, ..Default::default() };
        let providers = client.list_providers(providers).await.expect("ListProviders").into_inner().providers;
        let credentials =
            ListCredentialsRequest { tenant_id: tenant_id.clone(), page_size, ..Default::default() };
        let credentials = client.list_credentials(credentials).await.expect("ListCredentials");
        let models = ListModelsRequest { tenant_id: tenant_id.clone(), page_size, ..Default::default() };
        let models = client.list_models(models).await.expect("ListModels").into_inner().models;
        let aliases =
            ListModelAliasesRequest { tenant_id: tenant_id.clone(), page_size, ..Default::default() };
        let aliases =
            client.list_model_aliases(aliases).await.expect("ListModelAliases").into_inner().aliases;
        let mut configs = Vec::new();
        for model in &models {
            let request = GetLoadBalancingConfigsRequest { key: model.key.clone(), ..Default::default() };
            let answer = client.get_load_balancing_configs(request).await.expect("GetLoadBalancingConfigs");
            configs.push(answer.into_inner());
        }
        let default = GetDefaultModelRequest { tenant_id, model_type: ModelType::Llm.into() };
        let default = client.get_default_model(default).await.ok().map(tonic::Response::into_inner);
        let credentials = credentials.into_inner().credentials;
        Listing { providers, credentials, models, aliases, configs, default }
    }

    /// Stores a credential of the scene's provider.
    pub async fn create_credential(&self, name: &str, api_key: &str) -> Credential {
        let credential = Credential {
            tenant_id: self.tenant.clone(),
            provider: self.provider.clone(),
            name: name.to_owned(),
            fields: api_key_field(api_key),
            ..Credential::default()
        };
        self.store(credential).await.expect("CreateCredential")
    }

    /// Stores a credential of the scene's model.
    pub async fn create_model_credential(&self, name: &str, api_key: &str) -> Credential {
        let credential = Credential {
            tenant_id: self.tenant.clone(),
            provider: self.provider.clone(),
            model_type: self.key.model_type,
            model: self.key.model.clone(),
            name: name.to_owned(),
            fields: api_key_field(api_key),
            ..Credential::default()
        };
        self.store(credential).await.expect("CreateCredential")
    }

    /// Stores a credential.
    pub async fn store(&self, credential: Credential) -> Result<Credential, Status> {
        let request = CreateCredentialRequest { credential: Some(credential), activate: false };
        let answer = self.clients.config.clone().create_credential(request).await?;
        Ok(answer.into_inner().credential.expect("CreateCredential returns the credential"))
    }

    /// Creates a model of the scene's provider, or replaces its settings.
    pub async fn put_model(&self, key: &ModelKey) -> Model {
        let model = Model { key: Some(key.clone()), ..Model::default() };
        let answer = self.clients.config.clone().put_model(PutModelRequest { model: Some(model) }).await;
        answer.expect("PutModel").into_inner().model.expect("PutModel returns the model")
    }

    /// Replaces the configs of the scene's model.
    pub async fn save(
        &self,
        configs: Vec<LoadBalancingConfig>,
    ) -> Result<UpdateLoadBalancingConfigsResponse, Status> {
        self.save_with("", 0, configs).await
    }

    /// Replaces the configs of the scene's model of that source, at that revision.
    pub async fn save_with(
        &self,
        config_from: &str,
        revision: i64,
        configs: Vec<LoadBalancingConfig>,
    ) -> Result<UpdateLoadBalancingConfigsResponse, Status> {
        let request = UpdateLoadBalancingConfigsRequest {
            key: Some(self.key.clone()),
            config_from: config_from.to_owned(),
            revision,
            configs,
        };
        Ok(self.clients.config.clone().update_load_balancing_configs(request).await?.into_inner())
    }

    /// The configs of the scene's model of that source.
    pub async fn set_of(&self, config_from: &str) -> GetLoadBalancingConfigsResponse {
        let request = GetLoadBalancingConfigsRequest {
            key: Some(self.key.clone()),
            config_from: config_from.to_owned(),
        };
        let answer = self.clients.config.clone().get_load_balancing_configs(request).await;
        answer.expect("GetLoadBalancingConfigs").into_inner()
    }

    /// The names of the configs that serve the next `calls` calls, sorted.
    pub async fn served_by(&self, calls: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..calls {
            let route = self.ask().await.expect("InvokeLlm").route.expect("an answer holds its route");
            names.push(route.config_name);
        }
        names.sort();
        names
    }
}

/// Credential fields that hold this key.
pub fn api_key_field<M: FromIterator<(String, String)>>(api_key: &str) -> M {
    [("api_key".to_owned(), api_key.to_owned())].into_iter().collect()
}

/// A config that links a credential, enabled.
pub fn link(credential: &Credential) -> LoadBalancingConfig {
    LoadBalancingConfig {
        credential_id: credential.id.clone(),
        enabled: Some(true),
        ..LoadBalancingConfig::default()
    }
}

/// The virtual config.
pub fn inherit(enabled: bool) -> LoadBalancingConfig {
    LoadBalancingConfig {
        id: "__inherit__".to_owned(),
        name: "__inherit__".to_owned(),
        enabled: Some(enabled),
        ..LoadBalancingConfig::default()
    }
}

/// The names of configs, in their order.
pub fn names(configs: &[LoadBalancingConfig]) -> Vec<&str> {
    configs.iter().map(|config| config.name.as_str()).collect()
}
