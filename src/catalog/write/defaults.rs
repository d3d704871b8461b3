//! The model a tenant means when it names none.

use crate::catalog::{
    Catalog, Error, ModelKey, Thing,
    compiled::load,
    names,
    stored::database::{self, Located, Scope, locate},
    stored::entity::default_models,
    write::audit::Event,
    write::models,
};
use crate::provider::ModelType;
use sea_orm::{EntityTrait, IntoActiveModel, sea_query::OnConflict};

impl Catalog {
    /// A tenant's default model of a type, and whether it was computed: where none is set, the first by provider and
    /// name that is enabled.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the tenant, or for the model where there is none at all.
    pub async fn default_model(
        &self,
        tenant: &str,
        model_type: ModelType,
    ) -> Result<(ModelKey, bool), Error> {
        let owner = database::tenant(self.db(), tenant).await?;
        let found = load::defaults(self.db(), Some(owner.id)).await?;
        let found = found.into_iter().find(|default| default.key.model_type == model_type);
        let found = found
            .ok_or_else(|| Error::NotFound(Thing::Model, format!("default of type {}", model_type.name())))?;
        Ok((found.key, found.computed))
    }

    /// Sets the tenant's default model of the key's type.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] where the model or its provider is disabled.
    pub async fn set_default_model(&self, key: &ModelKey) -> Result<ModelKey, Error> {
        let key = names::key(key)?;
        let write = self.write().await?;
        let Located { tenant, provider, model } = locate(&write.tx, &key).await?;
        if !model.enabled {
            return Err(Error::invalid("key.model", "is disabled"));
        }
        if !provider.enabled {
            return Err(Error::invalid("key.provider", "is disabled"));
        }
        let row =
            default_models::Model { tenant_id: tenant.id, model_type: model.model_type, model_id: model.id };
        let replace =
            OnConflict::columns([default_models::Column::TenantId, default_models::Column::ModelType])
                .update_column(default_models::Column::ModelId)
                .to_owned();
        let event = Event::new("SetDefaultModel", &key.tenant, models::resource(&key)).after(&row);
        default_models::Entity::insert(row.into_active_model())
            .on_conflict(replace)
            .exec_without_returning(&write.tx)
            .await?;
        write.commit(Some(tenant.id), Scope::Model(model.id), event).await?;
        Ok(key.into_owned())
    }
}
