//! Lists tokens.

use crate::catalog::{
    handle::Catalog,
    stored::{
        Paging,
        entity::{tenants, tokens},
        find, time,
    },
    types::{Error, Page, PageRequest, Role, Token},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use std::collections::HashMap;
use uuid::Uuid;

pub(in crate::catalog) fn token(row: tokens::Model, tenant: String) -> Result<Token, Error> {
    Ok(Token {
        id: row.id,
        tenant,
        role: Role::from_name(&row.role).ok_or_else(|| find::unknown_role(row.id))?,
        name: row.name,
        prefix: row.prefix,
        expires_at: row.expires_at.map(time),
        may_read_credentials: row.may_read_credentials,
        created_at: time(row.created_at),
        last_used_at: row.last_used_at.map(time),
    })
}

impl Catalog {
    /// Tokens, oldest first; of all where no tenant is given.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the tenant.
    pub async fn list_tokens(&self, tenant: &str, page: PageRequest) -> Result<Page<Token>, Error> {
        let paging = Paging::new(&page, 1)?;
        let mut query = tokens::Entity::find().order_by_asc(tokens::Column::Id).limit(paging.size + 1);
        if !tenant.is_empty() {
            let tenant = find::tenant(self.db(), tenant).await?;
            query = query.filter(tokens::Column::TenantId.eq(tenant.id));
        }
        if let Some(after) = paging.after_id()? {
            query = query.filter(tokens::Column::Id.gt(after));
        }
        let rows = query.all(self.db()).await?;
        let owners: Vec<Uuid> = rows.iter().filter_map(|row| row.tenant_id).collect();
        let owners = tenants::Entity::find().filter(tenants::Column::Id.is_in(owners)).all(self.db()).await?;
        let owners: HashMap<Uuid, String> = owners.into_iter().map(|row| (row.id, row.name)).collect();
        let owner = |row: &tokens::Model| row.tenant_id.and_then(|id| owners.get(&id).cloned());
        let page = paging.page(
            rows,
            |row| vec![row.id.to_string()],
            |mut row| {
                let tenant = owner(&row).unwrap_or_default();
                row.last_used_at = Ord::max(row.last_used_at, self.cache().last_use(row.id));
                token(row, tenant)
            },
        );
        Ok(Page { items: page.items.into_iter().collect::<Result<_, _>>()?, next: page.next })
    }
}
