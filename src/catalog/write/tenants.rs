//! Tenants: the owners of everything else. Each has a data key of its own.

use crate::catalog::{
    Catalog, Error, Page, PageRequest, Tenant, Thing,
    names::{self, Check},
    stored::database::{self, Paging, Scope, now, taken, time},
    stored::entity::{data_keys, models, tenants},
    write::audit::Event,
};
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

impl From<tenants::Model> for Tenant {
    fn from(row: tenants::Model) -> Self {
        Self { id: row.name, name: row.display_name, created_at: time(row.created_at) }
    }
}

impl Catalog {
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
        let (key, key_row) = self.ring().new_data_key(row_id, None).map_err(|_| {
            tracing::error!("a data key could not be made");
            Error::Internal
        })?;
        let row = tenants::Model {
            id: row_id,
            name: id.to_owned(),
            display_name: name.to_owned(),
            data_key_id: key.id,
            created_at: now(),
        };
        let write = self.write().await?;
        tenants::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(&write.tx)
            .await
            .map_err(taken(Thing::Tenant, id))?;
        data_keys::Entity::insert(key_row.into_active_model()).exec_without_returning(&write.tx).await?;
        let event = Event::new("CreateTenant", id, format!("tenant {id}")).after(&row);
        write.commit(Some(row_id), Scope::Tenant(row_id), event).await?;
        Ok(row.into())
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get_tenant(&self, id: &str) -> Result<Tenant, Error> {
        Ok(database::tenant(self.db(), id).await?.into())
    }

    /// Tenants by id.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad page.
    pub async fn list_tenants(&self, page: PageRequest) -> Result<Page<Tenant>, Error> {
        let paging = Paging::new(&page, 1)?;
        let mut query = tenants::Entity::find().order_by_asc(tenants::Column::Name).limit(paging.size + 1);
        if let Some([name]) = paging.after.as_deref() {
            query = query.filter(tenants::Column::Name.gt(name.as_str()));
        }
        let rows = query.all(self.db()).await?;
        Ok(paging.page(rows, |row| vec![row.name.clone()], Tenant::from))
    }

    /// Deletes a tenant with all it has. Returns its row id and those of its models, for the state that is kept of them.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_tenant(&self, id: &str) -> Result<(Uuid, Vec<Uuid>), Error> {
        names::tenant("tenant_id", id)?;
        let write = self.write().await?;
        let row = database::tenant(&write.tx, id).await?;
        let row_id = row.id;
        let models = models::Entity::find()
            .select_only()
            .column(models::Column::Id)
            .filter(models::Column::TenantId.eq(row_id))
            .into_tuple()
            .all(&write.tx)
            .await?;
        let event = Event::new("DeleteTenant", id, format!("tenant {id}")).before(&row);
        row.delete(&write.tx).await?;
        write.commit(Some(row_id), Scope::Tenant(row_id), event).await?;
        Ok((row_id, models))
    }

    /// Whether that tenant is there.
    pub(in crate::catalog) async fn has_tenant(&self, id: Uuid) -> Result<bool, DbErr> {
        Ok(tenants::Entity::find_by_id(id).count(self.db()).await? > 0)
    }
}
