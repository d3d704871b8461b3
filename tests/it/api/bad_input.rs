//! Requests that are not as they must be: the code, the reason and the field of each, and that nothing has changed.

use rota::{
    api::pb::{
        ActivateCredentialRequest, CallOptions, CreateTenantRequest, CreateTokenRequest, Credential,
        DeleteModelAliasRequest, DeleteProviderRequest, DeleteTenantRequest, EnableModelRequest,
        ExplainRequest, GetCredentialRequest, GetDefaultModelRequest, GetLoadBalancingConfigRequest,
        GetLoadBalancingConfigsRequest, GetModelRequest, GetProviderRequest, GetTenantRequest,
        InvokeTextEmbeddingRequest, ListCredentialsRequest, ListModelAliasesRequest, ListModelsRequest,
        ListProvidersRequest, ListTenantsRequest, ListTokensRequest, Message, Model, ModelKey, ModelType,
        Part, Provider, PutModelRequest, RevokeTokenRequest, Role, SetDefaultModelRequest, Tenant, Token,
        Tool, UpdateCredentialRequest, UpdateProviderRequest, part::Kind,
    },
    scripted::Upstream,
};
use tonic::Code;

use crate::support::{
    listing::api_key_field,
    refusal::refused,
    rota::{Rota, on_both_databases},
    stage::{Stage, case},
    world::{config, hi},
};

on_both_databases!(
    requests_are_refused_by_field,
    what_is_not_there_is_named,
    malformed_calls_are_refused_before_the_upstream,
);

fn mask(path: &str) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec![path.to_owned()] })
}

async fn requests_are_refused_by_field(rota: &'static Rota) {
    let stage = Stage::set(rota).await;
    let tenant_id = || stage.scene.tenant.clone();
    let key = || stage.key(|_| ());
    let named =
        || Provider { tenant_id: tenant_id(), name: stage.scene.provider.clone(), ..Default::default() };
    let stored = || Credential { fields: [].into(), revision: 0, ..stage.credential.clone() };
    let table = [
        // What must be there.
        (case("AdminService/CreateTenant", &CreateTenantRequest { tenant: None }), "tenant"),
        (
            case("AdminService/CreateTenant", &CreateTenantRequest { tenant: Some(Tenant::default()) }),
            "tenant.id",
        ),
        (case("AdminService/CreateToken", &CreateTokenRequest { token: None }), "token"),
        (case("AdminService/GetTenant", &()), "tenant_id"),
        (case("AdminService/DeleteTenant", &()), "tenant_id"),
        (case("ConfigService/CreateProvider", &()), "provider"),
        (case("ConfigService/UpdateProvider", &()), "provider"),
        (case("ConfigService/CreateCredential", &()), "credential"),
        (case("ConfigService/UpdateCredential", &()), "credential"),
        (case("ConfigService/PutModel", &()), "model"),
        (case("ConfigService/PutModel", &PutModelRequest { model: Some(Model::default()) }), "model.key"),
        (case("ConfigService/GetModel", &()), "key"),
        (case("ConfigService/ListModels", &()), "tenant_id"),
        (case("ConfigService/ListModelAliases", &()), "tenant_id"),
        (case("ConfigService/DeleteModelAlias", &()), "tenant_id"),
        (
            case(
                "ConfigService/DeleteModelAlias",
                &DeleteModelAliasRequest { tenant_id: tenant_id(), name: String::new() },
            ),
            "name",
        ),
        (case("ConfigService/PutModelAlias", &()), "alias"),
        (stage.put_alias(|alias| alias.tenant_id.clear()), "alias.tenant_id"),
        (stage.put_alias(|alias| alias.target = None), "alias.target"),
        (stage.put_alias(|alias| alias.name.clear()), "alias.name"),
        (stage.put_alias(|alias| alias.name = "x".repeat(257)), "alias.name"),
        (stage.put_alias(|alias| alias.name = "a\nb".to_owned()), "alias.name"),
        (stage.put_alias(|alias| alias.target.as_mut().unwrap().provider.clear()), "alias.target.provider"),
        (stage.put_alias(|alias| alias.target.as_mut().unwrap().model.clear()), "alias.target.model"),
        (stage.put_alias(|alias| alias.target.as_mut().unwrap().model_type = 0), "alias.target.model_type"),
        (
            stage.put_alias(|alias| alias.target.as_mut().unwrap().tenant_id = "other".to_owned()),
            "alias.target.tenant_id",
        ),
        (stage.call(|call| call.key.as_mut().unwrap().provider.clear()), "key.provider"),
        (
            case(
                "InvokeService/Explain",
                &ExplainRequest { key: stage.key(|key| key.provider.clear()), ..Default::default() },
            ),
            "key.provider",
        ),
        (
            case(
                "ConfigService/GetProvider",
                &GetProviderRequest { tenant_id: tenant_id(), ..Default::default() },
            ),
            "provider",
        ),
        (stage.create_provider(|provider| provider.tenant_id.clear()), "provider.tenant_id"),
        (stage.create_provider(|provider| provider.name.clear()), "provider.name"),
        (stage.create_provider(|provider| provider.kind.clear()), "provider.kind"),
        (stage.create_provider(|provider| provider.base_url.clear()), "provider.base_url"),
        (stage.create_credential(|credential| credential.provider.clear()), "credential.provider"),
        (stage.create_credential(|credential| credential.name.clear()), "credential.name"),
        (stage.create_credential(|credential| credential.name = "  ".to_owned()), "credential.name"),
        (stage.create_credential(|credential| credential.model = "chat".to_owned()), "credential.model_type"),
        (stage.put_model(|model| model.key.as_mut().unwrap().provider.clear()), "model.key.provider"),
        (stage.put_model(|model| model.key.as_mut().unwrap().model.clear()), "model.key.model"),
        (stage.put_model(|model| model.key.as_mut().unwrap().model_type = 0), "model.key.model_type"),
        (stage.save_one(|config| config.name.clear()), "configs[1].name"),
        (stage.save_one(|config| config.enabled = None), "configs[1].enabled"),
        (stage.save_one(|config| config.credentials.clear()), "configs[1].credentials"),
        // What cannot be.
        (stage.create_provider(|provider| provider.kind = "nonsense".to_owned()), "provider.kind"),
        (stage.create_provider(|provider| provider.display_name = "x".repeat(257)), "provider.display_name"),
        (stage.put_model(|model| model.upstream_model = "a\nb".to_owned()), "model.upstream_model"),
        (stage.put_model(|model| model.key.as_mut().unwrap().model_type = 99), "model.key.model_type"),
        (stage.put_model(|model| model.key.as_mut().unwrap().model_type = -1), "model.key.model_type"),
        (
            case(
                "ConfigService/GetDefaultModel",
                &GetDefaultModelRequest { tenant_id: tenant_id(), model_type: 99 },
            ),
            "model_type",
        ),
        (
            case(
                "ConfigService/ListModels",
                &ListModelsRequest { tenant_id: tenant_id(), model_type: 99, ..Default::default() },
            ),
            "model_type",
        ),
        (stage.save_one(|config| config.weight = Some(-1)), "configs[1].weight"),
        (stage.save_one(|config| config.weight = Some(i32::MIN)), "configs[1].weight"),
        (
            stage.save_one(|config| config.credential_id = stage.credential.id.clone()),
            "configs[1].credential_id",
        ),
        (stage.save_one(|config| config.name = "__inherit__".to_owned()), "configs[1].name"),
        (
            stage.save_one(|config| {
                config.name.clear();
                config.weight = Some(-1);
                config.enabled = None;
            }),
            "configs[1].enabled configs[1].weight",
        ),
        (stage.save((0..1001).map(|index| config(&format!("{index}"), "k")).collect()), "configs"),
        // Secrets.
        (
            stage.create_credential(|credential| credential.fields = api_key_field("[__HIDDEN__]")),
            "credential.fields.api_key",
        ),
        (
            stage.create_credential(|credential| credential.fields = api_key_field("sk-\nnewline")),
            "credential.fields.api_key",
        ),
        (
            stage.create_credential(|credential| credential.fields = api_key_field(&"k".repeat(5000))),
            "credential.fields.api_key",
        ),
        (
            stage.create_credential(|credential| {
                credential.fields = [("nonsense".to_owned(), "x".to_owned())].into();
            }),
            "credential.fields.nonsense",
        ),
        (
            stage.save_one(|config| config.credentials = api_key_field("[__HIDDEN__]")),
            "configs[1].credentials.api_key",
        ),
        (
            stage.save_one(|config| config.credentials = api_key_field("a\r\nHost: x")),
            "configs[1].credentials.api_key",
        ),
        (
            stage.save_one(|config| {
                config.credentials =
                    [("nonsense".to_owned(), "x".to_owned()), ("api_key".to_owned(), "k".to_owned())].into();
            }),
            "configs[1].credentials.nonsense",
        ),
        (stage.validate(|request| request.credentials = api_key_field("a\nb")), "credentials.api_key"),
        (stage.validate(|request| request.key = None), "key"),
        // Masks and pages.
        (
            case(
                "ConfigService/UpdateProvider",
                &UpdateProviderRequest { provider: Some(named()), update_mask: mask("nonsense") },
            ),
            "update_mask",
        ),
        (
            case(
                "ConfigService/UpdateProvider",
                &UpdateProviderRequest { provider: Some(named()), update_mask: mask("kind") },
            ),
            "update_mask",
        ),
        (
            case(
                "ConfigService/UpdateCredential",
                &UpdateCredentialRequest { credential: Some(stored()), update_mask: mask("id") },
            ),
            "update_mask",
        ),
        (
            case(
                "ConfigService/ListProviders",
                &ListProvidersRequest { tenant_id: tenant_id(), page_size: -1, ..Default::default() },
            ),
            "page_size",
        ),
        (
            case(
                "ConfigService/ListModels",
                &ListModelsRequest { tenant_id: tenant_id(), page_size: i32::MIN, ..Default::default() },
            ),
            "page_size",
        ),
        (
            case(
                "AdminService/ListTenants",
                &ListTenantsRequest { page_token: "garbage!".to_owned(), ..Default::default() },
            ),
            "page_token",
        ),
        (
            case(
                "AdminService/ListTokens",
                &ListTokensRequest { page_token: "WyJub25lIl0".to_owned(), ..Default::default() },
            ),
            "page_token",
        ),
        (
            case(
                "ConfigService/ListProviders",
                &ListProvidersRequest {
                    tenant_id: tenant_id(),
                    page_token: "WyJhIiwiYiJd".to_owned(),
                    ..Default::default()
                },
            ),
            "page_token",
        ),
        // `["\u0000"]`, which PostgreSQL takes in no text.
        (
            case(
                "ConfigService/ListProviders",
                &ListProvidersRequest {
                    tenant_id: tenant_id(),
                    page_token: "WyJcdTAwMDAiXQ".to_owned(),
                    ..Default::default()
                },
            ),
            "page_token",
        ),
        (
            case(
                "ConfigService/ListCredentials",
                &ListCredentialsRequest {
                    tenant_id: tenant_id(),
                    page_token: "WzFd".to_owned(),
                    ..Default::default()
                },
            ),
            "page_token",
        ),
        (
            case(
                "ConfigService/GetLoadBalancingConfigs",
                &GetLoadBalancingConfigsRequest { key: key(), config_from: "nonsense".to_owned() },
            ),
            "config_from",
        ),
        (
            case(
                "ConfigService/SetDefaultModel",
                &SetDefaultModelRequest { key: stage.key(|key| key.model.clear()) },
            ),
            "key.model",
        ),
    ];
    stage.refuses(table).await;
}

async fn what_is_not_there_is_named(rota: &'static Rota) {
    let stage = Stage::set(rota).await;
    let tenant_id = || stage.scene.tenant.clone();
    let provider = || stage.scene.provider.clone();
    let nobody = || "nobody".to_owned();
    let before = stage.scene.listing().await;
    let of = |change: fn(&mut ModelKey)| GetModelRequest { key: stage.key(change) };
    let table = [
        (case("AdminService/GetTenant", &GetTenantRequest { tenant_id: nobody() }), "tenant", "nobody"),
        (case("AdminService/DeleteTenant", &DeleteTenantRequest { tenant_id: nobody() }), "tenant", "nobody"),
        (
            case(
                "AdminService/CreateToken",
                &CreateTokenRequest {
                    token: Some(Token {
                        role: Role::Viewer.into(),
                        tenant_id: nobody(),
                        ..Default::default()
                    }),
                },
            ),
            "tenant",
            "nobody",
        ),
        (case("AdminService/RevokeToken", &RevokeTokenRequest { id: nobody() }), "token", "nobody"),
        (case("AdminService/RevokeToken", &RevokeTokenRequest::default()), "token", ""),
        (stage.create_provider(|provider| provider.tenant_id = "nobody".to_owned()), "tenant", "nobody"),
        (
            case(
                "ConfigService/ListProviders",
                &ListProvidersRequest { tenant_id: nobody(), ..Default::default() },
            ),
            "tenant",
            "nobody",
        ),
        (
            stage.put_alias(|alias| alias.target.as_mut().unwrap().model = "nobody".to_owned()),
            "model",
            "nobody",
        ),
        (
            stage.put_alias(|alias| alias.target.as_mut().unwrap().provider = "nobody".to_owned()),
            "provider",
            "nobody",
        ),
        (stage.put_alias(|alias| (alias.name, alias.revision) = ("nobody".to_owned(), 1)), "alias", "nobody"),
        (
            case(
                "ConfigService/DeleteModelAlias",
                &DeleteModelAliasRequest { tenant_id: tenant_id(), name: nobody() },
            ),
            "alias",
            "nobody",
        ),
        (
            case(
                "ConfigService/ListModelAliases",
                &ListModelAliasesRequest { tenant_id: nobody(), ..Default::default() },
            ),
            "tenant",
            "nobody",
        ),
        (stage.update_provider(|provider| provider.name = "nobody".to_owned()), "provider", "nobody"),
        (
            case(
                "ConfigService/DeleteProvider",
                &DeleteProviderRequest { tenant_id: tenant_id(), provider: nobody() },
            ),
            "provider",
            "nobody",
        ),
        (
            stage.create_credential(|credential| credential.provider = "nobody".to_owned()),
            "provider",
            "nobody",
        ),
        (
            case(
                "ConfigService/ListCredentials",
                &ListCredentialsRequest { tenant_id: tenant_id(), provider: nobody(), ..Default::default() },
            ),
            "provider",
            "nobody",
        ),
        (
            case(
                "ConfigService/ListModels",
                &ListModelsRequest { tenant_id: tenant_id(), provider: nobody(), ..Default::default() },
            ),
            "provider",
            "nobody",
        ),
        (
            case(
                "ConfigService/GetCredential",
                &GetCredentialRequest { tenant_id: tenant_id(), provider: provider(), id: nobody() },
            ),
            "credential",
            "nobody",
        ),
        (
            case(
                "ConfigService/ActivateCredential",
                &ActivateCredentialRequest {
                    tenant_id: tenant_id(),
                    provider: provider(),
                    id: String::new(),
                },
            ),
            "credential",
            "",
        ),
        (
            case(
                "ConfigService/UpdateCredential",
                &UpdateCredentialRequest {
                    credential: Some(Credential { id: nobody(), ..stage.credential.clone() }),
                    update_mask: None,
                },
            ),
            "credential",
            "nobody",
        ),
        (
            stage.save_one(|config| {
                config.credentials.clear();
                config.credential_id = "nobody".to_owned();
            }),
            "credential",
            "nobody",
        ),
        (stage.save_one(|config| config.id = "nobody".to_owned()), "config", "nobody"),
        (
            case(
                "ConfigService/GetLoadBalancingConfig",
                &GetLoadBalancingConfigRequest { key: stage.key(|_| ()), id: nobody() },
            ),
            "config",
            "nobody",
        ),
        (stage.validate(|request| request.config_id = "nobody".to_owned()), "config", "nobody"),
        (case("ConfigService/GetModel", &of(|key| key.tenant_id = "nobody".to_owned())), "tenant", "nobody"),
        (case("ConfigService/GetModel", &of(|key| key.provider = "nobody".to_owned())), "provider", "nobody"),
        (case("ConfigService/GetModel", &of(|key| key.model = "nobody".to_owned())), "model", "nobody"),
        (case("ConfigService/GetModel", &of(|key| key.model_type = ModelType::Tts.into())), "model", "chat"),
        (
            case(
                "ConfigService/EnableModel",
                &EnableModelRequest { key: stage.key(|key| key.model = "nobody".to_owned()) },
            ),
            "model",
            "nobody",
        ),
        (
            stage.put_model(|model| model.key.as_mut().unwrap().provider = "nobody".to_owned()),
            "provider",
            "nobody",
        ),
        (stage.call(|call| call.key.as_mut().unwrap().tenant_id = "nobody".to_owned()), "tenant", "nobody"),
        (stage.call(|call| call.key.as_mut().unwrap().provider = "nobody".to_owned()), "provider", "nobody"),
        (stage.call(|call| call.key.as_mut().unwrap().model = "nobody".to_owned()), "model", "nobody"),
    ];
    for (case, kind, name) in table {
        let (rpc, reason) = (case.0, format!("{}_NOT_FOUND", kind.to_uppercase()));
        let refusal = refused(stage.send(case).await, Code::NotFound, &reason);
        assert_eq!(refusal.resource, Some((kind.to_owned(), name.to_owned())), "{rpc}");
    }
    assert_eq!(stage.scene.listing().await, before, "something has changed");
}

async fn malformed_calls_are_refused_before_the_upstream(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let stage = Stage::set(rota).await;
    let message =
        |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned(), ..hi() };
    let text = Part { kind: Some(Kind::Text("another text".to_owned())), ..Part::default() };
    let number = |number: f64| {
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(number)) };
        let list = prost_types::ListValue { values: vec![value] };
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::ListValue(list)) };
        Some(prost_types::Struct { fields: [("temperature".to_owned(), value)].into() })
    };
    let embed = |change: fn(&mut InvokeTextEmbeddingRequest)| {
        let mut request = InvokeTextEmbeddingRequest {
            key: stage.key(|key| key.model_type = 0),
            texts: vec!["one".to_owned()],
            ..Default::default()
        };
        change(&mut request);
        case("InvokeService/InvokeTextEmbedding", &request)
    };
    let mut table = vec![
        (embed(|request| request.texts.clear()), "texts"),
        (embed(|request| request.texts.push(String::new())), "texts[1]"),
        (embed(|request| request.dimensions = -1), "dimensions"),
        (embed(|request| request.key.as_mut().unwrap().model_type = ModelType::Llm.into()), "key.model_type"),
    ];
    for rpc in ["InvokeService/InvokeLlm", "InvokeService/StreamLlm"] {
        let calls = [
            (stage.call(|call| call.messages.clear()), "messages"),
            (stage.call(|call| call.messages.push(message("robot", "hi"))), "messages[1].role"),
            (stage.call(|call| call.messages.push(message("", "hi"))), "messages[1].role"),
            (stage.call(|call| call.messages.push(message("User", "hi"))), "messages[1].role"),
            (stage.call(|call| call.messages[0].parts.push(text.clone())), "messages[0].parts"),
            (
                stage.call(|call| {
                    call.messages[0] =
                        Message { content: String::new(), parts: vec![Part::default()], ..hi() }
                }),
                "messages[0].parts[0]",
            ),
            (stage.call(|call| call.parameters = number(f64::NAN)), "parameters"),
            (stage.call(|call| call.parameters = number(f64::INFINITY)), "parameters"),
            (stage.call(|call| call.tools.push(Tool::default())), "tools[0].name"),
            (
                stage
                    .call(|call| call.options = Some(CallOptions { max_attempts: -1, ..Default::default() })),
                "options.max_attempts",
            ),
            (
                stage.call(|call| {
                    call.options = Some(CallOptions { flow: "f".repeat(257), ..Default::default() });
                }),
                "options.flow",
            ),
            (
                stage.call(|call| call.options = Some(CallOptions { on_break: 9, ..Default::default() })),
                "options.on_break",
            ),
            (
                stage.call(|call| call.key.as_mut().unwrap().model_type = ModelType::TextEmbedding.into()),
                "key.model_type",
            ),
            (stage.call(|call| call.key.as_mut().unwrap().model_type = 99), "key.model_type"),
            (stage.call(|call| call.key.as_mut().unwrap().tenant_id.clear()), "key.tenant_id"),
            (stage.call(|call| call.key.as_mut().unwrap().model.clear()), "key.model"),
            (stage.call(|call| call.key.as_mut().unwrap().provider.clear()), "key.provider"),
        ];
        table.extend(calls.map(|((_, request), field)| ((rpc, request), field)));
    }
    stage.refuses(table).await;
    assert_eq!(upstream.total_hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_out_of_range() {
    let rota = Rota::builder().arg("--max-message-size").arg("64KiB").start().await;
    let stage = Stage::set(&rota).await;
    let before = stage.scene.listing().await;
    for case in [
        stage.create_provider(|provider| provider.display_name = "x".repeat(70_000)),
        stage.call(|call| call.messages[0].content = "x".repeat(70_000)),
    ] {
        assert_eq!(stage.send(case).await.unwrap_err().code(), Code::OutOfRange);
    }
    assert_eq!(stage.scene.listing().await, before);
}
