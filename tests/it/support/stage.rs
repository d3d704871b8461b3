//! A tenant's whole configuration, and requests against it that are wrong in one place.

use rota::api::pb::{
    CreateCredentialRequest, CreateProviderRequest, Credential, InvokeLlmRequest, LoadBalancingConfig, Model,
    ModelAlias, ModelKey, Provider, PutModelAliasRequest, PutModelRequest, UpdateLoadBalancingConfigsRequest,
    UpdateProviderRequest, ValidateLoadBalancingCredentialsRequest,
};
use tonic::{Code, Status};

use super::{
    listing::api_key_field,
    raw::Raw,
    refusal::refusal,
    rota::Rota,
    world::{Scene, config, hi},
};

/// An RPC as `Service/Method` with a request that it must refuse.
pub type Case = (&'static str, Vec<u8>);

/// An RPC with its request.
pub fn case(rpc: &'static str, request: &impl prost::Message) -> Case {
    (rpc, request.encode_to_vec())
}

/// A tenant with a provider, a model, a credential and two configs, and the operator's connection.
pub struct Stage {
    pub scene: Scene,
    pub credential: Credential,
    pub raw: Raw,
}

impl Stage {
    pub async fn set(rota: &Rota) -> Self {
        let mut scene = Scene::tenant(rota).await;
        scene.add_model("http://127.0.0.1:9/v1").await;
        let credential = scene.create_credential("credential", "key").await;
        scene.add_configs(2).await;
        let raw = Raw::new(&rota.operator().await);
        Self { scene, credential, raw }
    }

    fn provider(&self, change: impl FnOnce(&mut Provider)) -> Provider {
        let mut provider = Provider {
            tenant_id: self.scene.tenant.clone(),
            name: "new".to_owned(),
            kind: "openai_compatible".to_owned(),
            base_url: "http://127.0.0.1:9/v1".to_owned(),
            ..Provider::default()
        };
        change(&mut provider);
        provider
    }

    pub fn create_provider(&self, change: impl FnOnce(&mut Provider)) -> Case {
        let request = CreateProviderRequest { provider: Some(self.provider(change)) };
        case("ConfigService/CreateProvider", &request)
    }

    pub fn update_provider(&self, change: impl FnOnce(&mut Provider)) -> Case {
        let provider = Provider {
            tenant_id: self.scene.tenant.clone(),
            name: self.scene.provider.clone(),
            ..Provider::default()
        };
        let mut request = UpdateProviderRequest { provider: Some(provider), update_mask: None };
        change(request.provider.as_mut().unwrap());
        case("ConfigService/UpdateProvider", &request)
    }

    pub fn create_credential(&self, change: impl FnOnce(&mut Credential)) -> Case {
        let mut credential = Credential {
            tenant_id: self.scene.tenant.clone(),
            provider: self.scene.provider.clone(),
            name: "new".to_owned(),
            fields: api_key_field("key"),
            ..Credential::default()
        };
        change(&mut credential);
        let request = CreateCredentialRequest { credential: Some(credential), activate: false };
        case("ConfigService/CreateCredential", &request)
    }

    pub fn key(&self, change: impl FnOnce(&mut ModelKey)) -> Option<ModelKey> {
        let mut key = self.scene.key.clone();
        change(&mut key);
        Some(key)
    }

    pub fn put_model(&self, change: impl FnOnce(&mut Model)) -> Case {
        let mut model = Model { key: self.key(|_| ()), ..Model::default() };
        change(&mut model);
        case("ConfigService/PutModel", &PutModelRequest { model: Some(model) })
    }

    pub fn put_alias(&self, change: impl FnOnce(&mut ModelAlias)) -> Case {
        let (tenant_id, name) = (self.scene.tenant.clone(), "alias".to_owned());
        let mut alias = ModelAlias { tenant_id, name, target: self.key(|_| ()), revision: 0 };
        change(&mut alias);
        case("ConfigService/PutModelAlias", &PutModelAliasRequest { alias: Some(alias) })
    }

    pub fn save(&self, configs: Vec<LoadBalancingConfig>) -> Case {
        let request =
            UpdateLoadBalancingConfigsRequest { key: self.key(|_| ()), configs, ..Default::default() };
        case("ConfigService/UpdateLoadBalancingConfigs", &request)
    }

    pub fn save_one(&self, change: impl FnOnce(&mut LoadBalancingConfig)) -> Case {
        let mut one = config("new", "key");
        change(&mut one);
        self.save(vec![config("before", "key"), one])
    }

    pub fn validate(&self, change: impl FnOnce(&mut ValidateLoadBalancingCredentialsRequest)) -> Case {
        let mut request = ValidateLoadBalancingCredentialsRequest {
            key: self.key(|_| ()),
            credentials: api_key_field("key"),
            ..Default::default()
        };
        change(&mut request);
        case("ConfigService/ValidateLoadBalancingCredentials", &request)
    }

    pub fn call(&self, change: impl FnOnce(&mut InvokeLlmRequest)) -> Case {
        let mut request =
            InvokeLlmRequest { key: self.key(|_| ()), messages: vec![hi()], ..Default::default() };
        change(&mut request);
        case("InvokeService/InvokeLlm", &request)
    }

    pub async fn send(&self, (rpc, request): Case) -> Result<Vec<u8>, Status> {
        self.raw.call(rpc, request).await
    }

    /// Sends each, holds its fields against those named, and the listings against those before.
    pub async fn refuses(&self, table: impl IntoIterator<Item = (Case, &str)>) {
        let before = self.scene.listing().await;
        for (case, field) in table {
            let rpc = case.0;
            let Err(status) = self.send(case).await else { panic!("{rpc} serves, {field} notwithstanding") };
            let refusal = refusal(&status);
            let told = (status.code(), refusal.reason.as_str(), refusal.fields.join(" "));
            assert_eq!(told, (Code::InvalidArgument, "INVALID_FIELD", field.to_owned()), "{rpc}");
            small(&status);
        }
        assert_eq!(self.scene.listing().await, before, "something has changed");
    }
}

/// A refusal fits into what peers accept of headers, and repeats no huge value.
pub fn small(status: &Status) {
    assert!(status.message().len() <= 512, "{} bytes: {}", status.message().len(), status.message());
    assert!(status.details().len() <= 4096, "{} bytes of details", status.details().len());
}

impl Stage {
    /// Tries an address everywhere one can be given.
    pub async fn refuses_address(&self, address: &str) {
        let table = [
            (self.create_provider(|provider| provider.base_url = address.to_owned()), "provider.base_url"),
            (self.update_provider(|provider| provider.base_url = address.to_owned()), "provider.base_url"),
            (self.save_one(|config| config.base_url = address.to_owned()), "configs[1].base_url"),
            (self.validate(|request| request.base_url = address.to_owned()), "base_url"),
        ];
        self.refuses(table).await;
    }
}
