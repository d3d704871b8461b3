//! Makes changes: the one place that opens a transaction, takes the outbox number, and commits.
//!
//! A change is one transaction. It locks the counter's row, which makes writers take turns: the numbers of the outbox are in
//! commit order and have no gaps, and what a writer has checked stays true until it commits. The commit writes the outbox
//! row and the audit event, and returns when this replica serves the change. The other files of this folder say what each
//! change is.
//!
//! When the database is gone, a change answers [`Error::DatabaseUnavailable`] and nothing has changed.

use crate::catalog::{
    handle::Catalog,
    stored::{Change, Reload, Transaction, entity::outbox, has_failed_over, now, patiently},
    types::{Caller, DatabaseState, Error, ModelKey},
    write::audit::{self, Event},
};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, Statement};
use uuid::Uuid;

/// Changes what a [`Catalog`] holds. Audit events name the caller that it was made for.
pub struct Writer {
    pub(in crate::catalog) catalog: Catalog,
    /// `None` for the command line and the service itself.
    caller: Option<Caller>,
}

impl Catalog {
    /// Makes changes for that caller.
    #[must_use]
    pub fn by(&self, caller: &Caller) -> Writer {
        Writer { catalog: self.clone(), caller: Some(caller.clone()) }
    }

    /// Makes changes for the operator at the command line, and for the service itself.
    #[must_use]
    pub fn by_command_line(&self) -> Writer {
        Writer { catalog: self.clone(), caller: None }
    }

    /// Asks the database whether it answers and takes changes. Where it has refused the last one, only one that it takes
    /// shows that it does: a full disk says nothing beforehand.
    pub async fn database_state(&self) -> DatabaseState {
        let writable = match patiently(self.db().takes_writes()).await {
            Err(_) => return DatabaseState::Away,
            Ok(true) if self.was_refused() => self.by_command_line().change_nothing().await.is_ok(),
            Ok(writable) => writable,
        };
        if writable { DatabaseState::Writable } else { DatabaseState::ReadOnly }
    }
}

/// A change under way. Dropped without [`commit`](Self::commit), it leaves no trace.
pub(in crate::catalog) struct Write<'w> {
    writer: &'w Writer,
    /// Where the change goes.
    pub tx: Transaction,
    number: i64,
}

impl Writer {
    /// Records an audit event of what changes no row: that a credential is about to be handed out, or that an operator
    /// overrides a cooldown.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`]. What must not happen without a record must not happen then.
    pub async fn note(&self, action: &'static str, key: &ModelKey, resource: &str) -> Result<(), Error> {
        let resource = format!("{resource} of {}", audit::model(key));
        let event = Event::new(action, &key.tenant, resource);
        patiently(self.record(self.catalog.db(), event)).await
    }

    /// Begins a change.
    pub(in crate::catalog) async fn begin(&self) -> Result<Write<'_>, Error> {
        let (tx, number) = self.lock("last + 1").await?;
        Ok(Write { writer: self, tx, number })
    }

    /// Begins a change that no replica has to hear of. It takes no number.
    pub(in crate::catalog) async fn begin_unannounced(&self) -> Result<Transaction, Error> {
        self.lock("last").await.map(|(tx, _)| tx)
    }

    /// Makes a change that changes nothing: whether one would be taken.
    async fn change_nothing(&self) -> Result<(), Error> {
        let tx = self.begin_unannounced().await?;
        let committed = patiently(tx.commit()).await;
        self.catalog.note_change(&committed);
        committed
    }

    /// Writes an audit event.
    pub(in crate::catalog) async fn record(
        &self,
        db: &impl ConnectionTrait,
        event: Event,
    ) -> Result<(), DbErr> {
        event.insert(db, self.caller.as_ref()).await
    }

    async fn lock(&self, next: &str) -> Result<(Transaction, i64), Error> {
        let locked = patiently(async {
            match self.try_lock(next).await {
                // Nothing has been written yet.
                Err(error) if has_failed_over(&error) => self.try_lock(next).await,
                locked => locked,
            }
        })
        .await;
        self.catalog.note_change(&locked);
        locked
    }

    async fn try_lock(&self, next: &str) -> Result<(Transaction, i64), DbErr> {
        let tx = self.catalog.db().begin_write().await?;
        let sql = format!("UPDATE counter SET last = {next} WHERE id = 1 RETURNING last");
        let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), sql)).await?;
        let row = row.ok_or_else(|| DbErr::RecordNotFound("counter".to_owned()))?;
        let number = row.try_get("", "last")?;
        Ok((tx, number))
    }
}

impl Write<'_> {
    /// Commits the change with the event that tells of it, and returns when this replica serves it.
    pub async fn commit(self, tenant: Option<Uuid>, reload: Reload, event: Event) -> Result<(), Error> {
        let Self { writer, tx, number } = self;
        let change = Change { tenant, reload };
        let committed = patiently(async {
            let row = change.row(number, now());
            outbox::Entity::insert(row.into_active_model()).exec_without_returning(&tx).await?;
            writer.record(&tx, event).await?;
            tx.commit().await
        })
        .await;
        writer.catalog.note_change(&committed);
        committed?;
        writer.catalog.announce();
        writer.catalog.refresh(&[change]).await
    }
}

/// Refuses a revision that was sent and is not the current one.
pub(in crate::catalog) fn check_revision(given: i64, current: i64) -> Result<(), Error> {
    if given == 0 || given == current { Ok(()) } else { Err(Error::StaleRevision { given, current }) }
}
