//! Lists tenants.

use crate::catalog::{
    handle::Catalog,
    stored::{Paging, entity::tenants, find, time},
    types::{Error, Page, PageRequest, Tenant},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

impl From<tenants::Model> for Tenant {
    fn from(row: tenants::Model) -> Self {
        Self { id: row.name, name: row.display_name, created_at: time(row.created_at) }
    }
}

impl Catalog {
    /// One tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get_tenant(&self, id: &str) -> Result<Tenant, Error> {
        Ok(find::tenant(self.db(), id).await?.into())
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
}
