//! Lists aliases.

use crate::catalog::{
    handle::Catalog,
    stored::{Paging, aliases, entity::model_aliases, find},
    types::{Error, ModelAlias, Page, PageRequest},
};
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, QuerySelect};

impl Catalog {
    /// A tenant's aliases by name.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the tenant.
    pub async fn list_aliases(&self, tenant: &str, page: PageRequest) -> Result<Page<ModelAlias>, Error> {
        let paging = Paging::new(&page, 1)?;
        let owner = find::tenant(self.db(), tenant).await?;
        let mut query = aliases::select()
            .filter(model_aliases::Column::TenantId.eq(owner.id))
            .order_by_asc(model_aliases::Column::Name)
            .limit(paging.size + 1);
        if let Some([name]) = paging.after.as_deref() {
            query = query.filter(model_aliases::Column::Name.gt(name.as_str()));
        }
        let rows: Vec<aliases::Row> = query.into_model().all(self.db()).await?;
        let page = paging.page(rows, |row| vec![row.name.clone()], aliases::Row::alias);
        Ok(Page { items: page.items.into_iter().flatten().collect(), next: page.next })
    }
}
