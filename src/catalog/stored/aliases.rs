//! Aliases with the names of their targets.

use crate::{
    catalog::{
        stored::entity::{model_aliases, models, providers, tenants},
        types::{ModelAlias, ModelKey},
    },
    provider::ModelType,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, JoinType, QueryFilter, QueryOrder,
    QuerySelect, RelationTrait, Select,
};
use uuid::Uuid;

/// An alias with the name of its target.
#[derive(FromQueryResult)]
pub(in crate::catalog) struct Row {
    pub id: Uuid,
    /// Its tenant's row id.
    pub tenant_id: Uuid,
    pub name: String,
    pub revision: i64,
    tenant: String,
    provider: String,
    model_type: String,
    model: String,
}

impl Row {
    /// As the rest of the house sees it. `None` where this build does not know the type of the target.
    pub fn alias(self) -> Option<ModelAlias> {
        let model_type = ModelType::from_name(&self.model_type)?;
        let target = ModelKey { tenant: self.tenant, provider: self.provider, model_type, model: self.model };
        Some(ModelAlias { name: self.name, target, revision: self.revision })
    }
}

/// Reads [`Row`]s, with what is added to it.
pub(in crate::catalog) fn select() -> Select<model_aliases::Entity> {
    use model_aliases::{Column, Relation};
    model_aliases::Entity::find()
        .select_only()
        .columns([Column::Id, Column::TenantId, Column::Name, Column::Revision])
        .column_as(tenants::Column::Name, "tenant")
        .column_as(providers::Column::Name, "provider")
        .column_as(models::Column::ModelType, "model_type")
        .column_as(models::Column::Name, "model")
        .join(JoinType::InnerJoin, Relation::Tenant.def())
        .join(JoinType::InnerJoin, Relation::Model.def())
        .join(JoinType::InnerJoin, models::Relation::Provider.def())
}

/// The aliases of a tenant, or of all.
pub(in crate::catalog) async fn all(
    db: &impl ConnectionTrait,
    tenant: Option<Uuid>,
) -> Result<Vec<Row>, DbErr> {
    let query = match tenant {
        Some(tenant) => select().filter(model_aliases::Column::TenantId.eq(tenant)),
        None => select(),
    };
    query.into_model().all(db).await
}

/// A tenant's alias of that name.
pub(in crate::catalog) async fn one(
    db: &impl ConnectionTrait,
    tenant: Uuid,
    name: &str,
) -> Result<Option<Row>, DbErr> {
    select()
        .filter(model_aliases::Column::TenantId.eq(tenant))
        .filter(model_aliases::Column::Name.eq(name))
        .into_model()
        .one(db)
        .await
}

/// The first of those names that is an alias.
pub(in crate::catalog) async fn named(
    db: &impl ConnectionTrait,
    tenant: Uuid,
    names: &[String],
) -> Result<Option<String>, DbErr> {
    let query = model_aliases::Entity::find()
        .filter(model_aliases::Column::TenantId.eq(tenant))
        .filter(model_aliases::Column::Name.is_in(names));
    Ok(query.one(db).await?.map(|row| row.name))
}

/// The first alias of a model by name.
pub(in crate::catalog) async fn of_model(
    db: &impl ConnectionTrait,
    model: Uuid,
) -> Result<Option<String>, DbErr> {
    let query = model_aliases::Entity::find()
        .filter(model_aliases::Column::ModelId.eq(model))
        .order_by_asc(model_aliases::Column::Name);
    Ok(query.one(db).await?.map(|row| row.name))
}
