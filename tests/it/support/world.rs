//! Sets a scene over gRPC: a tenant with one model whose calls are balanced over several keys of a scripted upstream.

use rota::{
    api::pb::{
        BalancingPolicy, CallOptions, CreateCredentialRequest, CreateProviderRequest, CreateTenantRequest,
        CreateTokenRequest, Credential, EnableModelLoadBalancingRequest, GetLoadBalancingConfigsRequest,
        InvokeLlmRequest, InvokeLlmResponse, LoadBalancingConfig, Message, Model, ModelKey, ModelType,
        Provider, PutModelRequest, Role, StreamLlmRequest, StreamLlmResponse, Tenant, Token,
        UpdateBalancingPolicyRequest, UpdateLoadBalancingConfigsRequest,
    },
    scripted::Upstream,
};
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::{
    kinds::{self, Kind},
    rota::{Clients, Rota},
};

/// A tenant with a balanced model. Tenant and keys are random, so scenes may share a Rota, a Redis, a database and an
/// upstream.
#[derive(Clone)]
pub struct Scene {
    /// The tenant's id.
    pub tenant: String,
    /// The provider's name.
    pub provider: String,
    /// The API key of each config, in the order of the configs: what the upstream counts by.
    pub keys: Vec<String>,
    /// The configs as stored, in the order they were given: `config-0`, `config-1` and so on.
    pub configs: Vec<LoadBalancingConfig>,
    /// Names the model.
    pub key: ModelKey,
    /// The secret of the token that `clients` send: a tenant admin's.
    pub token: String,
    /// Clients of the Rota that the scene was set on.
    pub clients: Clients,
}

impl Scene {
    /// Sets the policy of the model.
    pub async fn set_policy(&self, policy: BalancingPolicy) {
        let key = Some(self.key.clone());
        let request = UpdateBalancingPolicyRequest { key, policy: Some(policy), ..Default::default() };
        self.clients.config.clone().update_balancing_policy(request).await.unwrap();
    }

    /// A tenant, its provider at `upstream`, a model, `members` configs with a key each, balancing on.
    pub async fn set(rota: &Rota, upstream: &Upstream, members: usize) -> Self {
        Self::of_kind(rota, &kinds::OPENAI_COMPATIBLE, upstream, members).await
    }

    /// The same with a provider of that kind.
    pub async fn of_kind(rota: &Rota, kind: &Kind, upstream: &Upstream, members: usize) -> Self {
        let mut scene = Self::tenant(rota).await;
        scene.add_model_of(kind, &kind.base_url(upstream)).await;
        scene.add_configs(members).await;
        scene.enable().await;
        scene
    }

    /// A tenant with an admin's token and nothing else.
    pub async fn tenant(rota: &Rota) -> Self {
        let id = &Uuid::new_v4().simple().to_string()[..12];
        let tenant = format!("tenant-{id}");
        let provider = "upstream".to_owned();
        let mut operator = rota.operator().await;
        let new_tenant = Tenant { id: tenant.clone(), name: "A tenant".to_owned(), ..Tenant::default() };
        let request = CreateTenantRequest { tenant: Some(new_tenant) };
        operator.admin.create_tenant(request).await.expect("CreateTenant");
        let token = create_token(&mut operator, &tenant, Role::TenantAdmin).await;
        let key = ModelKey {
            tenant_id: tenant.clone(),
            provider: provider.clone(),
            model_type: ModelType::Llm.into(),
            model: "chat".to_owned(),
        };
        let clients = rota.clients(&token).await;
        Self { tenant, provider, keys: Vec::new(), configs: Vec::new(), key, token, clients }
    }

    /// The same with a model of another type beside, and its configs.
    pub async fn of_type(&self, model_type: ModelType, name: &str) -> Self {
        let mut scene = self.clone();
        scene.key = ModelKey { model_type: model_type.into(), model: name.to_owned(), ..self.key.clone() };
        let model = Model { key: Some(scene.key.clone()), ..Model::default() };
        scene.clients.config.put_model(PutModelRequest { model: Some(model) }).await.expect("PutModel");
        scene.add_configs(2).await;
        scene.enable().await;
        scene
    }

    /// The secret of a token that may call, and that credentials may be handed to.
    pub async fn reader(&self, rota: &Rota) -> String {
        let mut operator = rota.operator().await;
        let token = Token {
            tenant_id: self.tenant.clone(),
            role: Role::Invoker.into(),
            may_read_credentials: true,
            ..Token::default()
        };
        let response = operator.admin.create_token(CreateTokenRequest { token: Some(token) }).await;
        response.expect("CreateToken").into_inner().secret
    }

    /// The provider at `base_url` and the model.
    pub async fn add_model(&mut self, base_url: &str) {
        self.add_model_of(&kinds::OPENAI_COMPATIBLE, base_url).await;
    }

    /// The same with a provider of that kind.
    pub async fn add_model_of(&mut self, kind: &Kind, base_url: &str) {
        let provider = Provider {
            tenant_id: self.tenant.clone(),
            name: self.provider.clone(),
            kind: kind.name.to_owned(),
            base_url: base_url.to_owned(),
            ..Provider::default()
        };
        let request = CreateProviderRequest { provider: Some(provider) };
        self.clients.config.create_provider(request).await.expect("CreateProvider");
        let model = Model { key: Some(self.key.clone()), ..Model::default() };
        self.clients.config.put_model(PutModelRequest { model: Some(model) }).await.expect("PutModel");
    }

    /// Replaces the configs by `members` new ones with a key each.
    pub async fn add_configs(&mut self, members: usize) {
        self.keys = (0..members).map(|i| format!("key-{}-{i}", Uuid::new_v4().simple())).collect();
        let configs =
            self.keys.iter().enumerate().map(|(i, key)| config(&format!("config-{i}"), key)).collect();
        self.put_configs(configs).await;
    }

    /// Replaces the configs by these.
    pub async fn put_configs(&mut self, configs: Vec<LoadBalancingConfig>) {
        let request =
            UpdateLoadBalancingConfigsRequest { key: Some(self.key.clone()), configs, ..Default::default() };
        let response = self.clients.config.update_load_balancing_configs(request).await;
        self.configs = response.expect("UpdateLoadBalancingConfigs").into_inner().configs;
    }

    /// Replaces the configs by the same with this change made to them.
    pub async fn change_configs(&mut self, change: impl FnOnce(&mut [LoadBalancingConfig])) {
        let mut configs = self.configs.clone();
        change(&mut configs);
        self.put_configs(configs).await;
    }

    /// Stores a credential of the provider and returns its id. The first one becomes `__inherit__`.
    pub async fn add_credential(&mut self, name: &str, api_key: &str) -> String {
        let credential = Credential {
            provider: self.provider.clone(),
            name: name.to_owned(),
            fields: [("api_key".to_owned(), api_key.to_owned())].into(),
            ..Credential::default()
        };
        let request = CreateCredentialRequest { credential: Some(credential), ..Default::default() };
        let response = self.clients.config.create_credential(request).await.expect("CreateCredential");
        response.into_inner().credential.unwrap().id
    }

    /// Switches balancing on.
    pub async fn enable(&mut self) {
        let request = EnableModelLoadBalancingRequest { key: Some(self.key.clone()) };
        self.clients.config.enable_model_load_balancing(request).await.expect("EnableModelLoadBalancing");
    }

    /// The same scene through another replica.
    pub async fn through(&self, rota: &Rota) -> Self {
        Self { clients: rota.clients(&self.token).await, ..self.clone() }
    }

    /// The configs as they are now, cooldowns included.
    pub async fn configs_now(&self) -> Vec<LoadBalancingConfig> {
        let request = GetLoadBalancingConfigsRequest { key: Some(self.key.clone()), ..Default::default() };
        let response = self.clients.config.clone().get_load_balancing_configs(request).await;
        response.expect("GetLoadBalancingConfigs").into_inner().configs
    }

    /// The calls in flight of each config, in the order of the pool.
    pub async fn in_flight(&self) -> Vec<i32> {
        self.configs_now().await.iter().map(|config| config.in_flight).collect()
    }

    /// One call.
    pub async fn ask(&self) -> Result<InvokeLlmResponse, Status> {
        self.send(self.request()).await
    }

    /// What [`ask`](Self::ask) sends.
    pub fn request(&self) -> InvokeLlmRequest {
        InvokeLlmRequest { key: Some(self.key.clone()), messages: vec![hi()], ..Default::default() }
    }

    /// The same with at most so many attempts.
    pub fn bounded(&self, max_attempts: i32) -> InvokeLlmRequest {
        let options = CallOptions { max_attempts, ..CallOptions::default() };
        InvokeLlmRequest { options: Some(options), ..self.request() }
    }

    /// One call.
    pub async fn send(&self, request: InvokeLlmRequest) -> Result<InvokeLlmResponse, Status> {
        Ok(self.clients.invoke.clone().invoke_llm(request).await?.into_inner())
    }

    /// How often each key was asked, in the order of the configs.
    pub fn hits(&self, upstream: &Upstream) -> Vec<u64> {
        self.keys.iter().map(|key| upstream.hits(key)).collect()
    }

    /// Begins a streamed call.
    pub async fn open_stream(&self) -> Result<Streaming<StreamLlmResponse>, Status> {
        let request =
            StreamLlmRequest { key: Some(self.key.clone()), messages: vec![hi()], ..Default::default() };
        Ok(self.clients.invoke.clone().stream_llm(request).await?.into_inner())
    }

    /// One streamed call, read to its end.
    pub async fn ask_stream(&self) -> Result<Vec<StreamLlmResponse>, Status> {
        let mut stream = self.open_stream().await?;
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }
}

/// A config of its own key, enabled.
pub fn config(name: &str, api_key: &str) -> LoadBalancingConfig {
    LoadBalancingConfig {
        name: name.to_owned(),
        credentials: [("api_key".to_owned(), api_key.to_owned())].into(),
        enabled: Some(true),
        ..Default::default()
    }
}

/// Makes a token and returns its secret; `tenant` is empty for an operator's.
pub async fn create_token(operator: &mut Clients, tenant: &str, role: Role) -> String {
    let token = Token {
        tenant_id: tenant.to_owned(),
        role: role.into(),
        name: "test".to_owned(),
        ..Token::default()
    };
    let response = operator.admin.create_token(CreateTokenRequest { token: Some(token) }).await;
    response.expect("CreateToken").into_inner().secret
}

/// The message that every call of a scene sends.
pub fn hi() -> Message {
    Message { role: "user".to_owned(), content: "hi".to_owned(), ..Message::default() }
}
