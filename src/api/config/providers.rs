//! Providers.

use super::{mask::Mask, service::ConfigApi};
use crate::{
    api::{from_pb, pb, status},
    catalog::{Caller, NewProvider, Provider, ProviderChange},
    provider::Switches,
};
use tonic::Status;

impl ConfigApi {
    pub(super) async fn create_provider(
        &self,
        caller: &Caller,
        request: pb::CreateProviderRequest,
    ) -> Result<pb::CreateProviderResponse, Status> {
        let provider = request.provider.ok_or_else(|| status::invalid("provider", "is required"))?;
        let tenant = from_pb::tenant(caller, &provider.tenant_id, "provider.tenant_id")?;
        let new = NewProvider {
            name: provider.name,
            kind: provider.kind,
            display_name: provider.display_name,
            base_url: provider.base_url,
            enabled: provider.enabled,
            switches: switches_in(provider.switches),
        };
        let provider = self
            .catalog
            .by(caller)
            .create_provider(&tenant, new)
            .await
            .map_err(|error| status::from_catalog(error.under("provider")))?;
        Ok(pb::CreateProviderResponse { provider: Some(provider_out(provider)) })
    }

    pub(super) async fn get_provider(
        &self,
        caller: &Caller,
        request: pb::GetProviderRequest,
    ) -> Result<pb::GetProviderResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let provider =
            self.catalog.get_provider(&tenant, &request.provider).await.map_err(status::from_catalog)?;
        Ok(pb::GetProviderResponse { provider: Some(provider_out(provider)) })
    }

    pub(super) async fn list_providers(
        &self,
        caller: &Caller,
        request: pb::ListProvidersRequest,
    ) -> Result<pb::ListProvidersResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let page = from_pb::page(request.page_size, request.page_token);
        let page = self.catalog.list_providers(&tenant, page).await.map_err(status::from_catalog)?;
        Ok(pb::ListProvidersResponse {
            providers: page.items.into_iter().map(provider_out).collect(),
            next_page_token: page.next,
        })
    }

    pub(super) async fn update_provider(
        &self,
        caller: &Caller,
        request: pb::UpdateProviderRequest,
    ) -> Result<pb::UpdateProviderResponse, Status> {
        let provider = request.provider.ok_or_else(|| status::invalid("provider", "is required"))?;
        let tenant = from_pb::tenant(caller, &provider.tenant_id, "provider.tenant_id")?;
        let mask = Mask::read(request.update_mask, &["display_name", "base_url", "enabled", "switches"])?;
        let change = ProviderChange {
            display_name: mask.pick("display_name", !provider.display_name.is_empty(), provider.display_name),
            base_url: mask.pick("base_url", !provider.base_url.is_empty(), provider.base_url),
            enabled: mask.pick("enabled", provider.enabled.is_some(), provider.enabled.unwrap_or(true)),
            switches: mask.pick("switches", provider.switches.is_some(), switches_in(provider.switches)),
            revision: provider.revision,
        };
        let provider = self
            .catalog
            .by(caller)
            .update_provider(&tenant, &provider.name, change)
            .await
            .map_err(|error| status::from_catalog(error.under("provider")))?;
        Ok(pb::UpdateProviderResponse { provider: Some(provider_out(provider)) })
    }

    pub(super) async fn delete_provider(
        &self,
        caller: &Caller,
        request: pb::DeleteProviderRequest,
    ) -> Result<pb::DeleteProviderResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        self.catalog
            .by(caller)
            .delete_provider(&tenant, &request.provider)
            .await
            .map_err(status::from_catalog)?;
        Ok(pb::DeleteProviderResponse {})
    }
}

fn switches_in(switches: Option<pb::ProviderSwitches>) -> Switches {
    let switches = switches.unwrap_or_default();
    Switches {
        no_stream_options: switches.no_stream_options,
        no_developer_role: switches.no_developer_role,
        no_max_completion_tokens: switches.no_max_completion_tokens,
        no_parallel_tool_calls: switches.no_parallel_tool_calls,
        think_tags: switches.think_tags,
        responses: switches.responses,
        takes_prefill: switches.takes_prefill,
    }
}

fn switches_out(switches: Switches) -> Option<pb::ProviderSwitches> {
    let shown = pb::ProviderSwitches {
        no_stream_options: switches.no_stream_options,
        no_developer_role: switches.no_developer_role,
        no_max_completion_tokens: switches.no_max_completion_tokens,
        no_parallel_tool_calls: switches.no_parallel_tool_calls,
        think_tags: switches.think_tags,
        responses: switches.responses,
        takes_prefill: switches.takes_prefill,
    };
    (switches != Switches::default()).then_some(shown)
}

pub(super) fn provider_out(provider: Provider) -> pb::Provider {
    pb::Provider {
        tenant_id: provider.tenant,
        name: provider.name,
        kind: provider.kind,
        display_name: provider.display_name,
        base_url: provider.base_url,
        enabled: Some(provider.enabled),
        active_credential_id: provider.active_credential.map(|id| id.to_string()).unwrap_or_default(),
        revision: provider.revision,
        switches: switches_out(provider.switches),
    }
}
