//! The data keys of tenants, opened with the master key ring.

use crate::catalog::{
    secrets::{
        fields::Keys,
        key_ring::{DataKey, KeyRing},
    },
    stored::entity::{data_keys, tenants},
    types::Error,
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// The data keys of tenants, opened. One that no master key opens is left out: what it sealed is unreadable.
pub async fn of_tenants(
    db: &impl ConnectionTrait,
    ring: &KeyRing,
    tenants: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Arc<Keys>>, DbErr> {
    let rows = data_keys::Entity::find().filter(data_keys::Column::TenantId.is_in(tenants)).all(db).await?;
    let mut keys: HashMap<Uuid, Keys> = HashMap::new();
    for row in rows {
        let Some(key) = ring.data_key(&row) else {
            tracing::error!(
                tenant = %row.tenant_id,
                master_key_id = row.master_key_id,
                "a data key cannot be opened with this master key ring"
            );
            continue;
        };
        keys.entry(row.tenant_id).or_default().insert(row.id, Arc::new(key));
    }
    Ok(keys.into_iter().map(|(tenant, keys)| (tenant, Arc::new(keys))).collect())
}

/// The data keys of one tenant.
pub async fn of_tenant(db: &impl ConnectionTrait, ring: &KeyRing, tenant: Uuid) -> Result<Arc<Keys>, DbErr> {
    Ok(of_tenants(db, ring, [tenant]).await?.remove(&tenant).unwrap_or_default())
}

/// The key that seals what is new of a tenant.
pub fn sealing_key<'k>(keys: &'k Keys, tenant: &tenants::Model) -> Result<&'k DataKey, Error> {
    keys.get(&tenant.data_key_id).map(AsRef::as_ref).ok_or_else(|| {
        tracing::error!(
            tenant = tenant.name,
            "the tenant's data key cannot be opened: nothing can be sealed"
        );
        Error::Internal
    })
}
