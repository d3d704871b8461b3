//! Models and default models.

use super::{policy, service::ConfigApi};
use crate::{
    api::{from_pb, pb, status, to_pb},
    balance::Gone,
    catalog::{Caller, Model, ModelKey, NewModel},
};
use tonic::Status;

impl ConfigApi {
    pub(super) async fn put_model(
        &self,
        caller: &Caller,
        request: pb::PutModelRequest,
    ) -> Result<pb::PutModelResponse, Status> {
        let new = model_in(request, caller)?;
        let model = self
            .catalog
            .by(caller)
            .put_model(new)
            .await
            .map_err(|error| status::from_catalog(error.under("model")))?;
        Ok(pb::PutModelResponse { model: Some(model_out(model)) })
    }

    pub(super) async fn get_model(
        &self,
        caller: &Caller,
        request: pb::GetModelRequest,
    ) -> Result<pb::GetModelResponse, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let model = self.catalog.get_model(&key).await.map_err(status::from_catalog)?;
        Ok(pb::GetModelResponse { model: Some(model_out(model)) })
    }

    pub(super) async fn list_models(
        &self,
        caller: &Caller,
        request: pb::ListModelsRequest,
    ) -> Result<pb::ListModelsResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let model_type = from_pb::optional_model_type(request.model_type, "model_type")?;
        let page = from_pb::page(request.page_size, request.page_token);
        let page = self
            .catalog
            .list_models(&tenant, &request.provider, model_type, page)
            .await
            .map_err(status::from_catalog)?;
        Ok(pb::ListModelsResponse {
            models: page.items.into_iter().map(model_out).collect(),
            next_page_token: page.next,
        })
    }

    pub(super) async fn delete_model(
        &self,
        caller: &Caller,
        request: pb::DeleteModelRequest,
    ) -> Result<pb::DeleteModelResponse, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let deleted = self.catalog.by(caller).delete_model(&key).await.map_err(status::from_catalog)?;
        let (tenant, pool) = deleted;
        self.state.forget(&Gone { tenant, pools: vec![pool], ..Gone::default() }).await;
        Ok(pb::DeleteModelResponse {})
    }

    pub(super) async fn enable_model(
        &self,
        caller: &Caller,
        request: pb::EnableModelRequest,
    ) -> Result<pb::EnableModelResponse, Status> {
        let model = self.set_model_enabled(caller, request.key, true).await?;
        Ok(pb::EnableModelResponse { model })
    }

    pub(super) async fn disable_model(
        &self,
        caller: &Caller,
        request: pb::DisableModelRequest,
    ) -> Result<pb::DisableModelResponse, Status> {
        let model = self.set_model_enabled(caller, request.key, false).await?;
        Ok(pb::DisableModelResponse { model })
    }

    async fn set_model_enabled(
        &self,
        caller: &Caller,
        key: Option<pb::ModelKey>,
        enabled: bool,
    ) -> Result<Option<pb::Model>, Status> {
        let key = from_pb::key(caller, key, "key")?;
        let model =
            self.catalog.by(caller).set_model_enabled(&key, enabled).await.map_err(status::from_catalog)?;
        Ok(Some(model_out(model)))
    }

    pub(super) async fn get_default_model(
        &self,
        caller: &Caller,
        request: pb::GetDefaultModelRequest,
    ) -> Result<pb::GetDefaultModelResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let model_type = from_pb::model_type(request.model_type, "model_type")?;
        let (key, computed) =
            self.catalog.default_model(&tenant, model_type).await.map_err(status::from_catalog)?;
        Ok(pb::GetDefaultModelResponse { key: Some(to_pb::key(key)), computed })
    }

    pub(super) async fn set_default_model(
        &self,
        caller: &Caller,
        request: pb::SetDefaultModelRequest,
    ) -> Result<pb::SetDefaultModelResponse, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let key = self.catalog.by(caller).set_default_model(&key).await.map_err(status::from_catalog)?;
        Ok(pb::SetDefaultModelResponse { key: Some(to_pb::key(key)) })
    }
}

pub(super) fn model_in(request: pb::PutModelRequest, caller: &Caller) -> Result<NewModel, Status> {
    let model = request.model.ok_or_else(|| status::invalid("model", "is required"))?;
    Ok(NewModel {
        key: from_pb::key(caller, model.key, "model.key")?,
        upstream_model: model.upstream_model,
        enabled: model.enabled,
        fallbacks: fallbacks_in(caller, model.fallbacks)?,
        context_window: model.context_window,
        revision: model.revision,
    })
}

fn fallbacks_in(caller: &Caller, keys: Vec<pb::ModelKey>) -> Result<Vec<ModelKey>, Status> {
    let keys = keys.into_iter().enumerate();
    keys.map(|(index, key)| from_pb::key(caller, Some(key), &format!("model.fallbacks[{index}]"))).collect()
}

pub(super) fn model_out(model: Model) -> pb::Model {
    pb::Model {
        key: Some(to_pb::key(model.key)),
        upstream_model: model.upstream_model,
        enabled: Some(model.enabled),
        fallbacks: model.fallbacks.into_iter().map(to_pb::key).collect(),
        policy: Some(policy::out(&model.policy)),
        load_balancing_enabled: model.load_balancing_enabled,
        revision: model.revision,
        context_window: Some(model.context_window).filter(|window| *window > 0),
    }
}
