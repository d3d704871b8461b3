//! Every RPC that takes a provider's name, with a request that is right but for that name.

use rota::api::pb::{
    AcquireRequest, ActivateCredentialRequest, BalancingPolicy, ClearCooldownRequest, CountTokensRequest,
    CreateCredentialRequest, Credential, DeleteCredentialRequest, DeleteModelRequest, DeleteProviderRequest,
    DisableModelLoadBalancingRequest, DisableModelRequest, EnableModelLoadBalancingRequest,
    EnableModelRequest, ExplainRequest, ForwardRequest, GetCooldownRequest, GetCredentialRequest,
    GetLoadBalancingConfigRequest, GetLoadBalancingConfigsRequest, GetModelRequest,
    GetProviderModelBundleRequest, GetProviderRequest, InvokeLlmRequest, InvokeModerationRequest,
    InvokeRerankRequest, InvokeSpeechToTextRequest, InvokeTextEmbeddingRequest, InvokeTtsRequest,
    ListCredentialsRequest, ListModelsRequest, ListTtsVoicesRequest, Model, ModelKey, ModelType, Provider,
    PutModelRequest, SetCooldownRequest, SetDefaultModelRequest, StreamLlmRequest,
    UpdateBalancingPolicyRequest, UpdateCredentialRequest, UpdateLoadBalancingConfigsRequest,
    UpdateProviderRequest, ValidateCredentialRequest, ValidateLoadBalancingCredentialsRequest,
    WatchPoolRequest,
};

use super::{
    listing::api_key_field,
    raw,
    stage::{Case, case},
    world::{Scene, hi},
};

/// A request of every RPC that takes a provider, naming `provider`, for the scene's model, its first config and that
/// credential. Sent one after the other, each of them serves: what is switched off is switched on again, and what is
/// deleted comes last.
pub fn requests(scene: &Scene, provider: &str, credential: &Credential) -> Vec<Case> {
    let tenant_id = || scene.tenant.clone();
    let name = || provider.to_owned();
    let id = || credential.id.clone();
    let key = || Some(ModelKey { provider: name(), ..scene.key.clone() });
    let config_id = || scene.configs[0].id.clone();
    let requests = [
        reads(scene, provider, credential),
        vec![
            case(
                "ConfigService/UpdateProvider",
                &UpdateProviderRequest {
                    provider: Some(Provider { tenant_id: tenant_id(), name: name(), ..Default::default() }),
                    update_mask: None,
                },
            ),
            case(
                "ConfigService/CreateCredential",
                &CreateCredentialRequest {
                    credential: Some(Credential {
                        tenant_id: tenant_id(),
                        provider: name(),
                        name: "created".to_owned(),
                        fields: api_key_field("key-created"),
                        ..Default::default()
                    }),
                    activate: false,
                },
            ),
            case(
                "ConfigService/UpdateCredential",
                &UpdateCredentialRequest {
                    credential: Some(Credential {
                        id: id(),
                        tenant_id: tenant_id(),
                        provider: name(),
                        name: "updated".to_owned(),
                        ..Default::default()
                    }),
                    update_mask: None,
                },
            ),
            case(
                "ConfigService/ActivateCredential",
                &ActivateCredentialRequest { tenant_id: tenant_id(), provider: name(), id: id() },
            ),
            case(
                "ConfigService/PutModel",
                &PutModelRequest { model: Some(Model { key: key(), ..Default::default() }) },
            ),
            case("ConfigService/DisableModel", &DisableModelRequest { key: key() }),
            case("ConfigService/EnableModel", &EnableModelRequest { key: key() }),
            case("ConfigService/SetDefaultModel", &SetDefaultModelRequest { key: key() }),
            case(
                "ConfigService/UpdateLoadBalancingConfigs",
                &UpdateLoadBalancingConfigsRequest {
                    key: key(),
                    configs: scene.configs.clone(),
                    ..Default::default()
                },
            ),
            case("ConfigService/DisableModelLoadBalancing", &DisableModelLoadBalancingRequest { key: key() }),
            case("ConfigService/EnableModelLoadBalancing", &EnableModelLoadBalancingRequest { key: key() }),
            case(
                "ConfigService/UpdateBalancingPolicy",
                &UpdateBalancingPolicyRequest {
                    key: key(),
                    policy: Some(BalancingPolicy { max_attempts: 2, ..Default::default() }),
                    update_mask: None,
                },
            ),
            case(
                "ConfigService/SetCooldown",
                &SetCooldownRequest {
                    key: key(),
                    config_id: config_id(),
                    duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
                    reason: 0,
                },
            ),
            case("ConfigService/ClearCooldown", &ClearCooldownRequest { key: key(), config_id: config_id() }),
        ],
        calls(scene, provider),
        vec![
            case(
                "ConfigService/DeleteCredential",
                &DeleteCredentialRequest { tenant_id: tenant_id(), provider: name(), id: id() },
            ),
            case("ConfigService/DeleteModel", &DeleteModelRequest { key: key() }),
            case(
                "ConfigService/DeleteProvider",
                &DeleteProviderRequest { tenant_id: tenant_id(), provider: name() },
            ),
        ],
    ]
    .concat();
    complete(&requests);
    requests
}

/// Those that change nothing.
pub fn reads(scene: &Scene, provider: &str, credential: &Credential) -> Vec<Case> {
    let tenant_id = || scene.tenant.clone();
    let name = || provider.to_owned();
    let id = || credential.id.clone();
    let key = || Some(ModelKey { provider: name(), ..scene.key.clone() });
    let config_id = || scene.configs[0].id.clone();
    vec![
        case("ConfigService/GetProvider", &GetProviderRequest { tenant_id: tenant_id(), provider: name() }),
        case(
            "ConfigService/GetProviderModelBundle",
            &GetProviderModelBundleRequest {
                tenant_id: tenant_id(),
                provider: name(),
                model_type: ModelType::Llm.into(),
                ..Default::default()
            },
        ),
        case(
            "ConfigService/GetCredential",
            &GetCredentialRequest { tenant_id: tenant_id(), provider: name(), id: id() },
        ),
        case(
            "ConfigService/ListCredentials",
            &ListCredentialsRequest { tenant_id: tenant_id(), provider: name(), ..Default::default() },
        ),
        case("ConfigService/GetModel", &GetModelRequest { key: key() }),
        case(
            "ConfigService/ListModels",
            &ListModelsRequest { tenant_id: tenant_id(), provider: name(), ..Default::default() },
        ),
        case(
            "ConfigService/GetLoadBalancingConfigs",
            &GetLoadBalancingConfigsRequest { key: key(), ..Default::default() },
        ),
        case(
            "ConfigService/GetLoadBalancingConfig",
            &GetLoadBalancingConfigRequest { key: key(), id: config_id() },
        ),
        case("ConfigService/GetCooldown", &GetCooldownRequest { key: key(), config_id: config_id() }),
        case("InvokeService/Explain", &ExplainRequest { key: key(), ..Default::default() }),
    ]
}

/// Those that go upstream or stay open.
fn calls(scene: &Scene, provider: &str) -> Vec<Case> {
    let key = || Some(ModelKey { provider: provider.to_owned(), ..scene.key.clone() });
    vec![
        case("ConfigService/WatchPool", &WatchPoolRequest { key: key() }),
        case(
            "ConfigService/ValidateCredential",
            &ValidateCredentialRequest {
                tenant_id: scene.tenant.clone(),
                provider: provider.to_owned(),
                fields: api_key_field("key-tried"),
                ..Default::default()
            },
        ),
        case(
            "ConfigService/ValidateLoadBalancingCredentials",
            &ValidateLoadBalancingCredentialsRequest {
                key: key(),
                credentials: api_key_field("key-tried"),
                ..Default::default()
            },
        ),
        case(
            "InvokeService/InvokeLlm",
            &InvokeLlmRequest { key: key(), messages: vec![hi()], ..Default::default() },
        ),
        case(
            "InvokeService/StreamLlm",
            &StreamLlmRequest { key: key(), messages: vec![hi()], ..Default::default() },
        ),
        case(
            "InvokeService/InvokeTextEmbedding",
            &InvokeTextEmbeddingRequest {
                key: key().map(|key| ModelKey { model_type: ModelType::TextEmbedding.into(), ..key }),
                texts: vec!["text".to_owned()],
                ..Default::default()
            },
        ),
        case(
            "InvokeService/InvokeModeration",
            &InvokeModerationRequest {
                key: key().map(|key| ModelKey { model_type: ModelType::Moderation.into(), ..key }),
                text: "text".to_owned(),
                ..Default::default()
            },
        ),
        case(
            "InvokeService/InvokeSpeechToText",
            &InvokeSpeechToTextRequest {
                key: key().map(|key| ModelKey { model_type: ModelType::SpeechToText.into(), ..key }),
                audio: b"audio".to_vec(),
                ..Default::default()
            },
        ),
        case(
            "InvokeService/InvokeRerank",
            &InvokeRerankRequest {
                key: key().map(|key| ModelKey { model_type: ModelType::Rerank.into(), ..key }),
                query: "text".to_owned(),
                documents: vec!["text".to_owned()],
                ..Default::default()
            },
        ),
        case(
            "InvokeService/InvokeTts",
            &InvokeTtsRequest {
                key: key().map(|key| ModelKey { model_type: ModelType::Tts.into(), ..key }),
                text: "text".to_owned(),
                ..Default::default()
            },
        ),
        case(
            "InvokeService/ListTtsVoices",
            &ListTtsVoicesRequest {
                key: key().map(|key| ModelKey { model_type: ModelType::Tts.into(), ..key }),
                ..Default::default()
            },
        ),
        case(
            "InvokeService/CountTokens",
            &CountTokensRequest { key: key(), texts: vec!["text".to_owned()], ..Default::default() },
        ),
        case(
            "InvokeService/Forward",
            &ForwardRequest {
                key: key(),
                method: "GET".to_owned(),
                path: "models".to_owned(),
                ..Default::default()
            },
        ),
        case("InvokeService/Acquire", &AcquireRequest { key: key(), ..Default::default() }),
    ]
}

/// Fails where the contract has an RPC that takes a provider and is not among these.
fn complete(requests: &[Case]) {
    let contract = raw::contract();
    let messages: Vec<_> = contract.file.iter().flat_map(|file| &file.message_type).collect();
    for (rpc, input) in raw::rpcs() {
        let input = input.trim_start_matches(".rota.v1.");
        let message = messages.iter().find(|message| message.name() == input).expect("the request of an RPC");
        let takes_one = message.field.iter().any(|field| {
            let by_name = field.name() == "provider" && field.type_name().is_empty();
            let objects = ["ModelKey", "Provider", "Credential", "Model"];
            by_name || objects.iter().any(|object| field.type_name() == format!(".rota.v1.{object}"))
        });
        let here = requests.iter().any(|(name, _)| *name == rpc);
        // A new provider's name is known to nobody yet.
        assert_eq!(takes_one && rpc != "ConfigService/CreateProvider", here, "{rpc}: see {}", file!());
    }
}
