//! What goes on beside changes: old rows of the outbox and of the audit are removed, and what is counted in memory is
//! written.
//!
//! Rows go in small batches. Each waits for its turn like a change, so that no change waits for more than one.
//!
//! When the database is gone, nothing is removed, and a later round does it.

use crate::catalog::{
    handle::Catalog,
    stored::{entity::audit_events, now, patiently},
    types::Error,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement, Value,
};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often what is counted is written.
const COUNTS: Duration = Duration::from_secs(15);
/// How often old rows are removed, in rounds of [`COUNTS`].
const ROUNDS: u32 = 4;
/// Rows a statement.
const BATCH: u64 = 500;

impl Catalog {
    /// Does it until cancelled.
    pub async fn maintain(self, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(COUNTS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A fresh start does nothing at once: many replicas may start together.
        ticks.tick().await;
        let mut failing = false;
        for round in 1_u32.. {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let done = tokio::select! {
                () = cancel.cancelled() => return,
                done = self.round(round.is_multiple_of(ROUNDS)) => done,
            };
            match done {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "old audit events and outbox rows are not removed");
                }
                Err(_) => {}
            }
        }
    }

    /// Writes what is counted in memory, before it goes.
    pub async fn keep_counts(&self) {
        if let Err(error) = self.store_counts(true).await {
            tracing::warn!(%error, "when tokens were last used, or how often credentials were read, was not stored");
        }
    }

    async fn store_counts(&self, all: bool) -> Result<(), Error> {
        self.tell_reads(all).await?;
        self.store_last_uses().await
    }

    async fn round(&self, remove: bool) -> Result<(), Error> {
        self.store_counts(false).await?;
        if remove {
            self.prune(now() - millis(self.bounds().outbox_age)).await?;
            self.prune_audit(now() - millis(self.bounds().audit_age)).await?;
        }
        Ok(())
    }

    /// Removes outbox rows from before a time, in milliseconds since 1970, and those that are too many, but never the newest:
    /// it tells a replica that nothing is missing.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn prune(&self, before: i64) -> Result<(), Error> {
        let ask = "SELECT COALESCE(MAX(number), 0) AS newest FROM outbox";
        let ask = Statement::from_string(self.db().get_database_backend(), ask);
        let row = patiently(self.db().query_one_raw(ask)).await?;
        let newest: i64 = row.map(|row| row.try_get("", "newest")).transpose()?.unwrap_or_default();
        let kept = i64::try_from(self.bounds().outbox_rows).unwrap_or(i64::MAX);
        // Numbers grow with time, so that the oldest rows are the first.
        let sql = format!(
            "DELETE FROM outbox WHERE number IN (SELECT number FROM outbox ORDER BY number LIMIT {BATCH}) \
             AND number < $1 AND (created_at < $2 OR number <= $3)"
        );
        self.remove(&sql, [newest.into(), before.into(), newest.saturating_sub(kept).into()]).await
    }

    /// Removes audit events from before a time, in milliseconds since 1970, and of each tenant those that are too many.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn prune_audit(&self, before: i64) -> Result<(), Error> {
        // The first id of that millisecond: ids are UUIDs of version 7, which begin with the time.
        let first = Uuid::from_u128(u128::from(before.max(0).unsigned_abs()) << 80);
        let of = "DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events WHERE";
        let old = format!("{of} id < $1 ORDER BY id LIMIT {BATCH})");
        self.remove(&old, [first.into()]).await?;
        let excess = format!("{of} tenant = $1 AND id <= $2 ORDER BY id LIMIT {BATCH})");
        let mut tenants = self.take_audited().into_iter();
        while let Some(tenant) = tenants.next() {
            let removed = match self.newest_excess(&tenant).await {
                Ok(None) => Ok(()),
                Ok(Some(last)) => self.remove(&excess, [tenant.as_str().into(), last.into()]).await,
                Err(error) => Err(error),
            };
            if removed.is_err() {
                self.audited(&tenant);
                tenants.for_each(|tenant| self.audited(&tenant));
                return removed;
            }
        }
        Ok(())
    }

    /// The newest event of a tenant that is one too many.
    async fn newest_excess(&self, tenant: &str) -> Result<Option<Uuid>, Error> {
        let newest = audit_events::Entity::find()
            .select_only()
            .column(audit_events::Column::Id)
            .filter(audit_events::Column::Tenant.eq(tenant))
            .order_by_desc(audit_events::Column::Id)
            .offset(self.bounds().audit_events)
            .limit(1);
        patiently(newest.into_tuple().one(self.db())).await
    }

    /// Runs a statement that removes a batch until there is nothing left to remove.
    async fn remove<const N: usize>(&self, sql: &str, values: [Value; N]) -> Result<(), Error> {
        let statement = Statement::from_sql_and_values(self.db().get_database_backend(), sql, values);
        let writer = self.by_command_line();
        loop {
            let turn = writer.turn().await?;
            let held = patiently(turn.database()).await?;
            let began = Instant::now();
            let removed = patiently(async {
                Ok::<_, DbErr>(self.db().execute_raw(statement.clone()).await?.rows_affected())
            })
            .await?;
            drop((held, turn));
            if removed < BATCH {
                return Ok(());
            }
            // Half of the time belongs to those who change something.
            tokio::time::sleep(began.elapsed()).await;
        }
    }
}

fn millis(age: Duration) -> i64 {
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}
