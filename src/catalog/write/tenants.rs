//! Changes of tenants. Each tenant has a data key of its own.

use crate::catalog::{
    names::{self, Check},
    stored::{
        Reload,
        entity::{data_keys, models, tenants},
        find, now, taken,
    },
    types::{Error, ResourceKind, Tenant},
    write::{
        audit::Event,
        cascade::{Deleted, With},
        writer::Writer,
    },
};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

impl Writer {
    /// Makes a tenant.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] where the id is taken.
    pub async fn create_tenant(&self, id: &str, name: &str) -> Result<Tenant, Error> {
        let mut check = Check::default();
        check.note(names::tenant("id", id))?;
        check.text("name", name);
        check.finish()?;
        let row_id = Uuid::now_v7();
        let (key, key_row) = self.catalog.ring().new_data_key(row_id, None)?;
        let row = tenants::Model {
            id: row_id,
            name: id.to_owned(),
            display_name: name.to_owned(),
            data_key_id: key.id,
            created_at: now(),
        };
        let write = self.begin().await?;
        tenants::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(&write.tx)
            .await
            .map_err(taken(ResourceKind::Tenant, id))?;
        data_keys::Entity::insert(key_row.into_active_model()).exec_without_returning(&write.tx).await?;
        let event = Event::new("CreateTenant", id, format!("tenant {id}")).after(&row);
        write.commit(Some(row_id), Reload::Tenant(row_id), event).await?;
        Ok(row.into())
    }

    /// Deletes a tenant with all it has. Returns its row id and those of its models, for the state that is kept of them.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_tenant(&self, id: &str) -> Result<(Uuid, Vec<Uuid>), Error> {
        names::tenant("tenant_id", id)?;
        let write = self.begin().await?;
        let row = find::tenant(&write.tx, id).await?;
        let row_id = row.id;
        let models = models::Entity::find()
            .select_only()
            .column(models::Column::Id)
            .filter(models::Column::TenantId.eq(row_id))
            .into_tuple()
            .all(&write.tx)
            .await?;
        let with = With::tenant(&write.tx, row_id).await?;
        let event = Event::new("DeleteTenant", id, format!("tenant {id}"));
        let event = event.before(&Deleted { row: &row, with });
        row.delete(&write.tx).await?;
        write.commit(Some(row_id), Reload::Tenant(row_id), event).await?;
        Ok((row_id, models))
    }
}
