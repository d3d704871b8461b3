//! Sets the model that a tenant means when a call names none.

use crate::catalog::{
    names,
    stored::{Located, Reload, entity::default_models, locate},
    types::{Error, ModelKey},
    write::{
        audit::{self, Event},
        writer::Writer,
    },
};
use sea_orm::{EntityTrait, IntoActiveModel, sea_query::OnConflict};

impl Writer {
    /// Sets the tenant's default model of the key's type.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] where the model or its provider is disabled.
    pub async fn set_default_model(&self, key: &ModelKey) -> Result<ModelKey, Error> {
        let key = names::key(key)?;
        let write = self.begin().await?;
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
        let event = Event::new("SetDefaultModel", &key.tenant, audit::model(&key)).after(&row);
        default_models::Entity::insert(row.into_active_model())
            .on_conflict(replace)
            .exec_without_returning(&write.tx)
            .await?;
        write.commit(Some(tenant.id), Reload::Model(model.id), event).await?;
        Ok(key.into_owned())
    }
}
