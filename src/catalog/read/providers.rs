//! Lists providers.

use crate::catalog::{
    handle::Catalog,
    names,
    stored::{
        Paging,
        entity::{credentials, providers},
        find, switches,
    },
    types::{Error, Page, PageRequest, Provider},
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use std::collections::HashMap;
use uuid::Uuid;

pub(in crate::catalog) fn provider(
    row: providers::Model,
    tenant: &str,
    active_credential: Option<Uuid>,
) -> Provider {
    Provider {
        tenant: tenant.to_owned(),
        name: row.name,
        kind: row.kind,
        display_name: row.display_name,
        base_url: row.base_url,
        enabled: row.enabled,
        active_credential,
        switches: switches(&row.switches),
        revision: row.revision,
    }
}

/// The active credentials of providers, by provider.
pub(in crate::catalog) async fn active(
    db: &impl ConnectionTrait,
    providers: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Uuid>, DbErr> {
    let rows: Vec<(Uuid, Uuid)> = credentials::Entity::find()
        .select_only()
        .column(credentials::Column::ProviderId)
        .column(credentials::Column::Id)
        .filter(credentials::Column::ProviderId.is_in(providers))
        .filter(credentials::Column::Model.eq(""))
        .filter(credentials::Column::Active.eq(true))
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().collect())
}

impl Catalog {
    /// One provider.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get_provider(&self, tenant: &str, name: &str) -> Result<Provider, Error> {
        let name = names::provider("provider", name)?;
        let owner = find::tenant(self.db(), tenant).await?;
        let row = find::provider(self.db(), owner.id, name).await?;
        let active = active(self.db(), [row.id]).await?.remove(&row.id);
        Ok(provider(row, tenant, active))
    }

    /// A tenant's providers by name.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the tenant.
    pub async fn list_providers(&self, tenant: &str, page: PageRequest) -> Result<Page<Provider>, Error> {
        let paging = Paging::new(&page, 1)?;
        let owner = find::tenant(self.db(), tenant).await?;
        let mut query = providers::Entity::find()
            .filter(providers::Column::TenantId.eq(owner.id))
            .order_by_asc(providers::Column::Name)
            .limit(paging.size + 1);
        if let Some([name]) = paging.after.as_deref() {
            query = query.filter(providers::Column::Name.gt(name.as_str()));
        }
        let rows = query.all(self.db()).await?;
        let active = active(self.db(), rows.iter().map(|row| row.id)).await?;
        let item = |row: providers::Model| {
            let active = active.get(&row.id).copied();
            provider(row, tenant, active)
        };
        Ok(paging.page(rows, |row| vec![row.name.clone()], item))
    }
}
