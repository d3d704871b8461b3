//! Aliases of models.

use super::service::ConfigApi;
use crate::{
    api::{from_pb, pb, status, to_pb},
    catalog::{Caller, ModelAlias},
};
use tonic::Status;

impl ConfigApi {
    pub(super) async fn put_model_alias(
        &self,
        caller: &Caller,
        request: pb::PutModelAliasRequest,
    ) -> Result<pb::PutModelAliasResponse, Status> {
        let new = alias_in(request, caller)?;
        let alias = self.catalog.by(caller).put_alias(new).await;
        let alias = alias.map_err(|error| status::from_catalog(error.under("alias")))?;
        Ok(pb::PutModelAliasResponse { alias: Some(alias_out(alias)) })
    }

    pub(super) async fn list_model_aliases(
        &self,
        caller: &Caller,
        request: pb::ListModelAliasesRequest,
    ) -> Result<pb::ListModelAliasesResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let page = from_pb::page(request.page_size, request.page_token);
        let page = self.catalog.list_aliases(&tenant, page).await.map_err(status::from_catalog)?;
        Ok(pb::ListModelAliasesResponse {
            aliases: page.items.into_iter().map(alias_out).collect(),
            next_page_token: page.next,
        })
    }

    pub(super) async fn delete_model_alias(
        &self,
        caller: &Caller,
        request: pb::DeleteModelAliasRequest,
    ) -> Result<pb::DeleteModelAliasResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        self.catalog.by(caller).delete_alias(&tenant, &request.name).await.map_err(status::from_catalog)?;
        Ok(pb::DeleteModelAliasResponse {})
    }
}

pub(super) fn alias_in(request: pb::PutModelAliasRequest, caller: &Caller) -> Result<ModelAlias, Status> {
    let alias = request.alias.ok_or_else(|| status::invalid("alias", "is required"))?;
    let tenant = from_pb::tenant(caller, &alias.tenant_id, "alias.tenant_id")?;
    let mut target = alias.target.ok_or_else(|| status::invalid("alias.target", "is required"))?;
    if target.tenant_id.is_empty() {
        target.tenant_id.clone_from(&tenant);
    }
    let target = from_pb::key(caller, Some(target), "alias.target")?;
    if target.tenant != tenant {
        return Err(status::invalid("alias.target.tenant_id", "is not the tenant of the alias"));
    }
    Ok(ModelAlias { name: alias.name, target, revision: alias.revision })
}

pub(super) fn alias_out(alias: ModelAlias) -> pb::ModelAlias {
    pb::ModelAlias {
        tenant_id: alias.target.tenant.clone(),
        name: alias.name,
        target: Some(to_pb::key(alias.target)),
        revision: alias.revision,
    }
}
