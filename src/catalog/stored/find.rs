//! Finds the rows that a request names, or says which of them is missing.

use crate::{
    catalog::{
        names::{self, shown},
        stored::entity::{models, providers, tenants},
        types::{Error, ModelKey, ResourceKind},
    },
    provider::{self, KindSpec, ModelType},
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, Statement};
use uuid::Uuid;

/// The number of the last change.
pub(in crate::catalog) async fn last_number(db: &impl ConnectionTrait) -> Result<i64, DbErr> {
    let sql = Statement::from_string(db.get_database_backend(), "SELECT last FROM counter");
    let row = db.query_one_raw(sql).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("counter".to_owned()))?.try_get("", "last")
}

/// The tenant of that id.
pub(in crate::catalog) async fn tenant(db: &impl ConnectionTrait, id: &str) -> Result<tenants::Model, Error> {
    names::tenant("tenant_id", id)?;
    let row = tenants::Entity::find().filter(tenants::Column::Name.eq(id)).one(db).await?;
    row.ok_or_else(|| Error::NotFound(ResourceKind::Tenant, id.to_owned()))
}

/// A tenant's provider, by its one spelling.
pub(in crate::catalog) async fn provider(
    db: &impl ConnectionTrait,
    tenant: Uuid,
    name: &str,
) -> Result<providers::Model, Error> {
    let row = providers::Entity::find()
        .filter(providers::Column::TenantId.eq(tenant))
        .filter(providers::Column::Name.eq(name))
        .one(db)
        .await?;
    row.ok_or_else(|| Error::NotFound(ResourceKind::Provider, name.to_owned()))
}

/// The rows a key names.
pub(in crate::catalog) struct Located {
    pub tenant: tenants::Model,
    pub provider: providers::Model,
    pub model: models::Model,
}

/// The rows of a key in its one spelling, or which of them is not there.
pub(in crate::catalog) async fn locate(db: &impl ConnectionTrait, key: &ModelKey) -> Result<Located, Error> {
    let tenant = tenant(db, &key.tenant).await?;
    let provider = provider(db, tenant.id, &key.provider).await?;
    let model = model(db, provider.id, key.model_type, &key.model).await?;
    let model = model.ok_or_else(|| Error::NotFound(ResourceKind::Model, shown(&key.model)))?;
    Ok(Located { tenant, provider, model })
}

/// A provider's model.
pub(in crate::catalog) async fn model(
    db: &impl ConnectionTrait,
    provider: Uuid,
    model_type: ModelType,
    name: &str,
) -> Result<Option<models::Model>, DbErr> {
    models::Entity::find()
        .filter(models::Column::ProviderId.eq(provider))
        .filter(models::Column::ModelType.eq(model_type.name()))
        .filter(models::Column::Name.eq(name))
        .one(db)
        .await
}

/// The kind of a stored provider.
pub(in crate::catalog) fn kind(row: &providers::Model) -> Result<&'static KindSpec, Error> {
    provider::kind(&row.kind).ok_or_else(|| {
        tracing::error!(provider = %row.id, kind = row.kind, "this build does not know this kind of provider");
        Error::Internal
    })
}

/// Refuses a token whose role this build does not know.
pub(in crate::catalog) fn unknown_role(token: Uuid) -> Error {
    tracing::error!(%token, "a token has a role that this build does not know");
    Error::Internal
}
