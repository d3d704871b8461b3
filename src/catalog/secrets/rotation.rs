//! Rotates keys: a tenant's data key, and the master key over all data keys.
//!
//! A rotation works under load. It writes in short transactions that take turns with all other changes. It may be cut off at
//! any point: what the old key sealed still opens, and the next rotation continues. What serves does not change, so no replica
//! has to load anything. When the database is gone, the rotation fails, and a later call continues it.

use crate::catalog::{
    names,
    secrets::{
        fields::{self, Holder, Keys},
        key_ring::DataKey,
        tenant_keys,
    },
    stored::{
        Transaction,
        entity::{data_keys, meta, tenants},
        find, patiently,
    },
    types::{Error, ResourceKind},
    write::{audit::Event, writer::Writer},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Statement, Value, sea_query::Expr,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// The holders of sealed fields: every table with such a column.
const HOLDERS: [fn(Uuid) -> Holder; 2] = [Holder::credential, Holder::config];
/// Rows a write.
const BATCH: u64 = 500;
/// The least pause between two writes: SQLite's waiters poll.
const PAUSE: Duration = Duration::from_millis(25);

/// What became of a tenant's secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantRotation {
    /// Rows whose secrets are now under the new key.
    pub resealed: u64,
    /// Rows that do not open. They are as they were, and so are the keys they name.
    pub unreadable: u64,
    /// An earlier rotation that was cut off was finished; no new key was made.
    pub resumed: bool,
}

/// What became of the data keys of all tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MasterRotation {
    /// Those now under the first master key.
    pub resealed: u64,
    /// Those that had been under it.
    pub current: u64,
    /// Those that no master key of the ring opens. They are as they were.
    pub unreadable: u64,
}

impl Writer {
    /// Gives a tenant a new data key, seals all its secrets by it, and deletes the old one. Where an earlier call was
    /// cut off, finishes that instead.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::DatabaseUnavailable`], after which a call continues.
    pub async fn rotate_tenant_key(&self, tenant: &str) -> Result<TenantRotation, Error> {
        names::tenant("tenant_id", tenant)?;
        let tenant = patiently(find::tenant(self.catalog.db(), tenant)).await?.id;
        let (mut rotation, dropped) = self.reseal_tenant(tenant).await?;
        rotation.resumed = rotation.resealed > 0 || dropped > 0;
        if !rotation.resumed {
            self.new_tenant_key(tenant).await?;
            (rotation, _) = self.reseal_tenant(tenant).await?;
        }
        tracing::info!(
            %tenant,
            resealed = rotation.resealed,
            unreadable = rotation.unreadable,
            resumed = rotation.resumed,
            "a tenant's data key was rotated"
        );
        Ok(rotation)
    }

    /// From its commit on, all that is new is sealed by the new key.
    pub(in crate::catalog) async fn new_tenant_key(&self, tenant: Uuid) -> Result<(), Error> {
        let (tx, _turn) = self.begin_unannounced().await?;
        patiently(async {
            let (row, keys) = self.current(&tx, tenant).await?;
            let before = keys.get(&row.data_key_id).map(AsRef::as_ref);
            let (key, key_row) = self.catalog.ring().new_data_key(tenant, before)?;
            data_keys::Entity::insert(key_row.into_active_model()).exec_without_returning(&tx).await?;
            let event = Event::new("RotateTenantKey", &row.name, format!("tenant {}", row.name));
            self.record(&tx, event).await?;
            tenants::Entity::update_many()
                .col_expr(tenants::Column::DataKeyId, Expr::value(key.id))
                .filter(tenants::Column::Id.eq(tenant))
                .exec(&tx)
                .await?;
            tx.commit().await.map_err(Error::from)
        })
        .await
    }

    async fn current(&self, tx: &Transaction, tenant: Uuid) -> Result<(tenants::Model, Arc<Keys>), Error> {
        let row = tenants::Entity::find_by_id(tenant).one(tx).await?;
        let row = row.ok_or_else(|| Error::NotFound(ResourceKind::Tenant, tenant.to_string()))?;
        Ok((row, tenant_keys::of_tenant(tx, self.catalog.ring(), tenant).await?))
    }

    /// Brings all secrets of a tenant under its current key and deletes the keys that nothing names any more; also says
    /// how many those are.
    async fn reseal_tenant(&self, tenant: Uuid) -> Result<(TenantRotation, u64), Error> {
        let mut rotation = TenantRotation::default();
        let of_tenant = data_keys::Entity::find().filter(data_keys::Column::TenantId.eq(tenant));
        if patiently(of_tenant.limit(2).all(self.catalog.db())).await?.len() < 2 {
            return Ok((rotation, 0));
        }
        for holder in HOLDERS {
            let mut after = Uuid::nil();
            loop {
                let began = Instant::now();
                let last = self.reseal_batch(tenant, holder, after, &mut rotation).await?;
                let Some(last) = last else { break };
                after = last;
                // Half of the time belongs to the other writers.
                tokio::time::sleep(began.elapsed().max(PAUSE)).await;
            }
        }
        Ok((rotation, self.drop_unused_keys(tenant).await?))
    }

    /// One write; returns the last row it saw. A row that is added behind it is under the current key by itself.
    async fn reseal_batch(
        &self,
        tenant: Uuid,
        holder: fn(Uuid) -> Holder,
        after: Uuid,
        rotation: &mut TenantRotation,
    ) -> Result<Option<Uuid>, Error> {
        let (tx, _turn) = self.begin_unannounced().await?;
        patiently(async {
            // Read anew each time: another call may have begun another rotation.
            let (row, keys) = self.current(&tx, tenant).await?;
            // One that does not open takes nothing in: a new one is made.
            let Some(to) = keys.get(&row.data_key_id) else { return Ok::<_, Error>(None) };
            let rows = sealed_rows(&tx, holder, tenant, after).await?;
            for (id, json) in &rows {
                reseal_row(&tx, holder(*id), json, &keys, to, rotation).await?;
            }
            tx.commit().await?;
            Ok(rows.last().map(|(id, _)| *id))
        })
        .await
    }

    /// Deletes the tenant's keys, but for the current one and those that a row names.
    async fn drop_unused_keys(&self, tenant: Uuid) -> Result<u64, Error> {
        let (tx, _turn) = self.begin_unannounced().await?;
        patiently(async {
            let (row, _) = self.current(&tx, tenant).await?;
            let old = data_keys::Entity::find()
                .select_only()
                .column(data_keys::Column::Id)
                .filter(data_keys::Column::TenantId.eq(tenant))
                .filter(data_keys::Column::Id.ne(row.data_key_id));
            let mut dropped = 0;
            for key in old.into_tuple::<Uuid>().all(&tx).await? {
                if !is_named(&tx, tenant, key).await? {
                    data_keys::Entity::delete_by_id(key).exec(&tx).await?;
                    dropped += 1;
                }
            }
            tx.commit().await?;
            Ok::<_, Error>(dropped)
        })
        .await
    }

    /// Seals the data keys of all tenants, and the check value, by the first master key of the ring. Afterwards the
    /// others may go from every ring, unless something was unreadable. A dry run changes nothing.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`], after which a call continues.
    pub async fn rotate_master_key(&self, dry_run: bool) -> Result<MasterRotation, Error> {
        let mut rotation = MasterRotation::default();
        let mut after = Uuid::nil();
        loop {
            let began = Instant::now();
            let (tx, turn) = self.begin_unannounced().await?;
            let last = patiently(async {
                let last = self.reseal_data_keys(&tx, after, dry_run, &mut rotation).await?;
                tx.commit().await?;
                Ok::<_, Error>(last)
            });
            let Some(last) = last.await? else { break };
            after = last;
            drop(turn);
            tokio::time::sleep(began.elapsed().max(PAUSE)).await;
        }
        if !dry_run {
            // Last: until here a ring that has only the old key is still the right one.
            let value = self.catalog.ring().check_value()?;
            let (tx, _turn) = self.begin_unannounced().await?;
            patiently(async {
                meta::Entity::update_many()
                    .col_expr(meta::Column::Value, Expr::value(value))
                    .filter(meta::Column::Key.eq(meta::MASTER_KEY_CHECK))
                    .exec(&tx)
                    .await?;
                let event = Event::new("keys rotate", "", "master key");
                self.record(&tx, event).await?;
                tx.commit().await
            })
            .await?;
        }
        Ok(rotation)
    }

    async fn reseal_data_keys(
        &self,
        tx: &Transaction,
        after: Uuid,
        dry_run: bool,
        rotation: &mut MasterRotation,
    ) -> Result<Option<Uuid>, Error> {
        let first = self.catalog.ring().first_id();
        let rows = data_keys::Entity::find()
            .filter(data_keys::Column::Id.gt(after))
            .order_by_asc(data_keys::Column::Id)
            .limit(BATCH);
        let rows = rows.all(tx).await?;
        for row in &rows {
            let Some(sealed) = self.catalog.ring().reseal(row)? else {
                tracing::error!(
                    tenant = %row.tenant_id,
                    master_key_id = row.master_key_id,
                    "a data key cannot be opened with this master key ring"
                );
                rotation.unreadable += 1;
                continue;
            };
            if row.master_key_id == first {
                rotation.current += 1;
                continue;
            }
            rotation.resealed += 1;
            if !dry_run {
                data_keys::Entity::update_many()
                    .col_expr(data_keys::Column::MasterKeyId, Expr::value(first))
                    .col_expr(data_keys::Column::Sealed, Expr::value(sealed))
                    .filter(data_keys::Column::Id.eq(row.id))
                    .exec(tx)
                    .await?;
            }
        }
        Ok(rows.last().map(|row| row.id))
    }
}

/// The next rows of a tenant that hold fields, with the fields.
async fn sealed_rows(
    tx: &Transaction,
    holder: fn(Uuid) -> Holder,
    tenant: Uuid,
    after: Uuid,
) -> Result<Vec<(Uuid, String)>, DbErr> {
    let sql = format!(
        "SELECT id, fields FROM {} WHERE tenant_id = $1 AND id > $2 AND fields <> '{}' ORDER BY id LIMIT {BATCH}",
        holder(after).table,
        fields::NONE,
    );
    let values: [Value; 2] = [tenant.into(), after.into()];
    let rows = tx.query_all_raw(Statement::from_sql_and_values(tx.get_database_backend(), sql, values));
    rows.await?.iter().map(|row| Ok((row.try_get("", "id")?, row.try_get("", "fields")?))).collect()
}

async fn reseal_row(
    tx: &Transaction,
    holder: Holder,
    json: &str,
    keys: &Keys,
    to: &DataKey,
    rotation: &mut TenantRotation,
) -> Result<(), DbErr> {
    match fields::reseal(json, holder, keys, to) {
        Ok(None) => {}
        Ok(Some(json)) => {
            // No revision counts up: what the fields say is what they said.
            let sql = format!("UPDATE {} SET fields = $1 WHERE id = $2", holder.table);
            let values: [Value; 2] = [json.into(), holder.row.into()];
            let update = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
            tx.execute_raw(update).await?;
            rotation.resealed += 1;
        }
        Err(fields::Unreadable) => {
            tracing::error!(table = holder.table, row = %holder.row, "a secret cannot be read: kept as it is");
            rotation.unreadable += 1;
        }
    }
    Ok(())
}

/// Whether any row of the tenant names that data key.
async fn is_named(tx: &Transaction, tenant: Uuid, key: Uuid) -> Result<bool, DbErr> {
    for holder in HOLDERS {
        let table = holder(key).table;
        let sql = format!("SELECT 1 FROM {table} WHERE tenant_id = $1 AND fields LIKE $2 LIMIT 1");
        let values: [Value; 2] = [tenant.into(), format!("%{key}%").into()];
        let named = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
        if tx.query_one_raw(named).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
