//! Follows the outbox: this is how a replica learns what others have changed.
//!
//! A change that cannot be loaded is passed over: it never keeps the replica from the next one.
//!
//! When the database is gone, the follower says so once, goes on asking, and catches up when the database is back. A replica
//! that was away for longer than the outbox is kept loads everything anew. So does one that cannot read an outbox row.

use crate::catalog::{
    handle::Catalog,
    stored::{Change, entity::outbox, patiently},
    types::Error,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QueryResult,
    QuerySelect, QueryTrait,
};
use std::{collections::HashSet, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often the outbox is read.
const INTERVAL: Duration = Duration::from_millis(250);
/// Rows a read.
const BATCH: u64 = 500;

impl Catalog {
    /// Takes in what other replicas change, until cancelled. Loads first where nothing was loaded.
    pub async fn follow(self, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut down = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.hinted() => {}
            }
            // A refresh is left half done at most; the next start loads anew.
            let round = self.rounds().begin();
            let caught_up = tokio::select! {
                () = cancel.cancelled() => return,
                result = self.catch_up() => result,
            };
            self.rounds().end(round, caught_up.is_ok());
            match caught_up {
                Ok(()) if down => {
                    down = false;
                    tracing::info!("the database is back; configuration is up to date");
                }
                Err(error) if !down => {
                    down = true;
                    tracing::warn!(%error, "changes of configuration cannot be read; serving what is known");
                }
                _ => {}
            }
        }
    }

    /// Takes in all that the outbox holds now, as [`follow`](Self::follow) does again and again. Loads everything where
    /// nothing was loaded, or where the outbox does not reach back to what was.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn catch_up(&self) -> Result<(), Error> {
        loop {
            let Some(seen) = self.cache().seen() else { return self.load().await };
            // Starts with the last one seen: where that is gone, others may be gone behind it.
            let query = outbox::Entity::find()
                .filter(outbox::Column::Number.gte(seen))
                .order_by_asc(outbox::Column::Number)
                .limit(BATCH);
            let statement = query.build(self.db().get_database_backend());
            let rows = patiently(self.db().query_all_raw(statement)).await?;
            let number = |row: &QueryResult| row.try_get::<i64>("", "number");
            let first = rows.first().map(number).transpose()?;
            let in_step = if seen == 0 { matches!(first, None | Some(1)) } else { first == Some(seen) };
            if !in_step {
                tracing::info!(seen, "the outbox does not reach back to here; loading everything");
                return self.load().await;
            }
            let last = rows.last().map(number).transpose()?;
            let Some(last) = last.filter(|&last| last > seen) else { return Ok(()) };
            let (mut changes, mut known) = (Vec::new(), HashSet::new());
            let served = self.take_served(last);
            // The first was taken in before, unless it is the very first.
            for row in rows.iter().skip(usize::from(seen != 0)) {
                match outbox::Model::from_query_result(row, "") {
                    Ok(row) if served.contains(&row.number) => {}
                    Ok(row) => changes.extend(Change::from_row(&row).filter(|change| known.insert(*change))),
                    Err(error) => {
                        tracing::error!(%error, "an outbox row cannot be read; loading everything");
                        return self.load().await;
                    }
                }
            }
            match self.refresh(&changes).await {
                Err(Error::DatabaseUnavailable) => return Err(Error::DatabaseUnavailable),
                // Logged where it happened. Reading the same rows again would fail again.
                Ok(()) | Err(_) => self.cache().set_seen(last),
            }
        }
    }
}
