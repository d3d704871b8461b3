//! Makes changes: the one place that opens a transaction, takes the outbox number, and commits.
//!
//! A change is one transaction. It waits for its turn on this replica, and then locks the counter's row, which makes all
//! writers take turns: the numbers of the outbox are in commit order and have no gaps, and what a writer has checked stays
//! true until it commits. The commit writes the outbox row and the audit event, and returns when this replica serves the
//! change. The other files of this folder say what each change is.
//!
//! When the database is gone, a change answers [`Error::DatabaseUnavailable`] and nothing has changed.

use crate::catalog::{
    handle::Catalog,
    stored::{Change, Reload, Transaction, entity::outbox, has_failed_over, now, patiently},
    types::{Bounds, Caller, DatabaseState, Error, ModelKey},
    write::{
        audit::{self, Event},
        turns::{Held, Turn},
    },
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
    held: Held,
    turn: Turn,
}

impl Writer {
    /// Records an audit event of what changes no row, such as that an operator overrides a cooldown.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`]. What must not happen without a record must not happen then.
    pub async fn note(&self, action: &'static str, key: &ModelKey, resource: &str) -> Result<(), Error> {
        let resource = format!("{resource} of {}", audit::model(key));
        self.note_event(Event::new(action, &key.tenant, resource)).await.map(drop)
    }

    /// The same in a turn of its own.
    pub(in crate::catalog) async fn note_event(&self, event: Event) -> Result<Uuid, Error> {
        let turn = self.turn().await?;
        let _held = patiently(turn.database()).await?;
        patiently(self.record(self.catalog.db(), event)).await
    }

    /// The token that changes are made for.
    pub(in crate::catalog) fn token(&self) -> Option<Uuid> {
        self.caller.as_ref().map(|caller| caller.token)
    }

    /// Waits until the earlier changes of the same party on this replica are done.
    pub(in crate::catalog) async fn turn(&self) -> Result<Turn, Error> {
        let party = self.caller.as_ref().and_then(|caller| caller.tenant.as_deref());
        patiently(self.catalog.turns().take(party)).await
    }

    /// Begins a change.
    pub(in crate::catalog) async fn begin(&self) -> Result<Write<'_>, Error> {
        self.begin_in(self.turn().await?).await
    }

    /// Begins a change in that turn.
    pub(in crate::catalog) async fn begin_in(&self, turn: Turn) -> Result<Write<'_>, Error> {
        let (held, tx, number) = self.lock(&turn, "last + 1").await?;
        Ok(Write { writer: self, tx, number, held, turn })
    }

    /// Begins a change that no replica has to hear of. It takes no number. The turn ends with what comes beside it.
    pub(in crate::catalog) async fn begin_unannounced(&self) -> Result<(Transaction, (Held, Turn)), Error> {
        let turn = self.turn().await?;
        let (held, tx, _) = self.lock(&turn, "last").await?;
        Ok((tx, (held, turn)))
    }

    /// Makes a change that changes nothing: whether one would be taken.
    async fn change_nothing(&self) -> Result<(), Error> {
        let (tx, _turn) = self.begin_unannounced().await?;
        let committed = patiently(tx.commit()).await;
        self.catalog.note_change(&committed);
        committed
    }

    /// Writes an audit event.
    pub(in crate::catalog) async fn record(
        &self,
        db: &impl ConnectionTrait,
        event: Event,
    ) -> Result<Uuid, DbErr> {
        self.catalog.audited(event.tenant());
        event.insert(db, self.caller.as_ref()).await
    }

    async fn lock(&self, turn: &Turn, next: &str) -> Result<(Held, Transaction, i64), Error> {
        let locked = patiently(async {
            let held = turn.database().await?;
            let (tx, number) = match self.try_lock(next).await {
                // Nothing has been written yet.
                Err(error) if has_failed_over(&error) => self.try_lock(next).await,
                locked => locked,
            }?;
            Ok::<_, Error>((held, tx, number))
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
    /// Gives the change up, and keeps the turn.
    pub async fn abandon(self) -> Result<Turn, Error> {
        patiently(self.tx.rollback()).await?;
        Ok(self.turn)
    }

    /// What may be stored.
    pub fn bounds(&self) -> &Bounds {
        self.writer.catalog.bounds()
    }

    /// The number of the change before this one.
    pub fn last(&self) -> i64 {
        self.number - 1
    }

    /// Commits the change with the event that tells of it, and returns when this replica serves it.
    pub async fn commit(self, tenant: Option<Uuid>, reload: Reload, event: Event) -> Result<(), Error> {
        let Self { writer, tx, number, held, turn: _turn } = self;
        let change = Change { tenant, reload };
        let committed = patiently(async {
            let row = change.row(number, now());
            outbox::Entity::insert(row.into_active_model()).exec_without_returning(&tx).await?;
            writer.record(&tx, event).await?;
            tx.commit().await
        })
        .await;
        // What follows is this replica's own: the next change need not wait for it.
        drop(held);
        writer.catalog.note_change(&committed);
        committed?;
        writer.catalog.announce();
        writer.catalog.refresh(&[change]).await?;
        writer.catalog.served(number);
        Ok(())
    }
}

/// Refuses a revision that was sent and is not the current one.
pub(in crate::catalog) fn check_revision(given: i64, current: i64) -> Result<(), Error> {
    if given == 0 || given == current { Ok(()) } else { Err(Error::StaleRevision { given, current }) }
}
