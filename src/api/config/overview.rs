//! The kinds of providers that this build knows, and reads of many resources at once.

use super::{
    aliases::alias_out, credentials::credential_out, listed::listed, models::model_out,
    providers::provider_out, service::ConfigApi,
};
use crate::{
    api::{from_pb, pb, status, to_pb},
    balance::Time,
    catalog::Caller,
    provider::{self, KindSpec, ModelType},
    state::Inspection,
};
use tonic::Status;

impl ConfigApi {
    #[expect(clippy::unused_async, reason = "as all RPCs are called")]
    pub(super) async fn list_provider_kinds(
        &self,
        _caller: &Caller,
        _request: pb::ListProviderKindsRequest,
    ) -> Result<pb::ListProviderKindsResponse, Status> {
        Ok(pb::ListProviderKindsResponse { kinds: provider::kinds().map(kind_out).collect() })
    }

    pub(super) async fn get_configurations(
        &self,
        caller: &Caller,
        request: pb::GetConfigurationsRequest,
    ) -> Result<pb::GetConfigurationsResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let page = from_pb::page(request.page_size, request.page_token);
        let found = self.catalog.configurations(&tenant, page).await.map_err(status::from_catalog)?;
        let models = found.models.into_iter().map(|(model, set)| {
            // As stored: cooldowns and counts are GetLoadBalancingConfigs' to tell.
            let revision = set.revision;
            let blank = Inspection::blank(&set.roster, Time::default());
            let configs = listed(set, blank);
            pb::ModelConfiguration { model: Some(model_out(model)), revision, configs }
        });
        let defaults = found
            .defaults
            .into_iter()
            .map(|(key, computed)| pb::DefaultModel { key: Some(to_pb::key(key)), computed });
        Ok(pb::GetConfigurationsResponse {
            providers: found.providers.into_iter().map(provider_out).collect(),
            credentials: found.credentials.into_iter().map(credential_out).collect(),
            models: models.collect(),
            default_models: defaults.collect(),
            next_page_token: found.next,
            aliases: found.aliases.into_iter().map(alias_out).collect(),
        })
    }

    pub(super) async fn get_provider_model_bundle(
        &self,
        caller: &Caller,
        request: pb::GetProviderModelBundleRequest,
    ) -> Result<pb::GetProviderModelBundleResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let model_type = from_pb::model_type(request.model_type, "model_type")?;
        let page = from_pb::page(request.page_size, request.page_token);
        let bundle = self.catalog.provider_bundle(&tenant, &request.provider, model_type, page).await;
        let bundle = bundle.map_err(status::from_catalog)?;
        let kind = provider::kind(&bundle.provider.kind).map(kind_out);
        let models = bundle.models.items.into_iter().map(|(model, credential)| pb::BundledModel {
            model: Some(model_out(model)),
            credential_id: credential.map(|id| id.to_string()).unwrap_or_default(),
        });
        Ok(pb::GetProviderModelBundleResponse {
            provider: Some(provider_out(bundle.provider)),
            kind,
            credential: bundle.credential.map(credential_out),
            models: models.collect(),
            next_page_token: bundle.models.next,
        })
    }
}

fn kind_out(kind: &KindSpec) -> pb::ProviderKind {
    let fields = kind.credential_fields.iter().map(|field| pb::CredentialField {
        name: field.name.to_owned(),
        label: field.label.to_owned(),
        secret: field.secret,
        required: field.required,
        default_value: field.default_value.to_owned(),
        options: field.options.iter().map(|&option| option.to_owned()).collect(),
        max_length: u32::try_from(field.max_length).unwrap_or(u32::MAX),
        help: field.help.to_owned(),
    });
    pb::ProviderKind {
        kind: kind.name.to_owned(),
        display_name: kind.display_name.to_owned(),
        model_types: kind.model_types.iter().map(|&of| to_pb::model_type(of)).collect(),
        credential_fields: fields.collect(),
        default_base_url: kind.default_base_url.unwrap_or_default().to_owned(),
        rpcs: kind.model_types.iter().flat_map(|&of| rpcs(of)).map(|&rpc| rpc.to_owned()).collect(),
    }
}

/// Lists the RPCs that call models of a type.
const fn rpcs(model_type: ModelType) -> &'static [&'static str] {
    match model_type {
        ModelType::Llm => &["InvokeLlm", "StreamLlm"],
        ModelType::TextEmbedding => &["InvokeTextEmbedding"],
        ModelType::Rerank => &["InvokeRerank"],
        ModelType::Moderation => &["InvokeModeration"],
        ModelType::SpeechToText => &["InvokeSpeechToText"],
        ModelType::Tts => &["InvokeTts", "ListTtsVoices"],
    }
}
