//! How the catalog talks to its database: one shape of write, one shape of snapshot read, one meaning of an error.
//!
//! When the database is gone, writes and reads answer [`Error::DatabaseUnavailable`]; pools and tokens that are already
//! in memory go on serving.

use crate::catalog::{
    Catalog, Error, ModelKey, Page, PageRequest, Thing,
    names::{self, shown},
    stored::entity::{models, outbox, providers, tenants},
    write::audit::Event,
};
use crate::provider::ModelType;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use sea_orm::{
    AccessMode, ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, IntoActiveModel, IsolationLevel, QueryFilter, RuntimeErr, SqlErr, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait, sqlx,
};
use std::{future::Future, time::Duration};
use uuid::Uuid;

/// How long one step of a write or a reload may take. A database that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a change concerns: what a replica loads anew when it hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::catalog) enum Scope {
    Tenant(Uuid),
    Provider(Uuid),
    Model(Uuid),
    Token(Uuid),
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant",
            Self::Provider(_) => "provider",
            Self::Model(_) => "model",
            Self::Token(_) => "token",
        }
    }

    pub fn id(self) -> Uuid {
        match self {
            Self::Tenant(id) | Self::Provider(id) | Self::Model(id) | Self::Token(id) => id,
        }
    }
}

/// One change, as the outbox carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::catalog) struct Change {
    /// Whose default models it may touch; none for an operator's token.
    pub tenant: Option<Uuid>,
    pub scope: Scope,
}

impl Change {
    /// The change of an outbox row; none where this build does not know its scope.
    pub fn from_row(row: &outbox::Model) -> Option<Self> {
        let scope = match row.scope.as_str() {
            "tenant" => Scope::Tenant(row.scope_id),
            "provider" => Scope::Provider(row.scope_id),
            "model" => Scope::Model(row.scope_id),
            "token" => Scope::Token(row.scope_id),
            _ => return None,
        };
        Some(Self { tenant: row.tenant_id, scope })
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if is_away(&error) {
            return Self::DatabaseUnavailable;
        }
        // The error's text holds names of tables and constraints, never bound values.
        tracing::error!(%error, "a statement failed");
        Self::Internal
    }
}

fn is_away(error: &DbErr) -> bool {
    let runtime = match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => return true,
        DbErr::Exec(runtime) | DbErr::Query(runtime) => runtime,
        _ => return false,
    };
    let RuntimeErr::SqlxError(error) = runtime else { return false };
    match error.as_ref() {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_away_code(&code)),
        _ => false,
    }
}

/// Codes that a second try may get past. PostgreSQL's (appendix A) have five characters: connection, transaction
/// rollback, resources, operator intervention, a standby that refuses writes. SQLite's are numbers whose low byte
/// is the primary one: busy, locked, I/O, full, cannot open.
fn is_away_code(code: &str) -> bool {
    if code.len() == 5 {
        return ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "25006";
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14))
}

/// Turns the breach of a unique index into "exists already".
pub(in crate::catalog) fn taken(thing: Thing, name: &str) -> impl FnOnce(DbErr) -> Error {
    let name = shown(name);
    move |error| match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => Error::AlreadyExists(thing, name),
        _ => error.into(),
    }
}

/// Bounds one step by [`PATIENCE`].
pub(in crate::catalog) async fn patiently<T, E: Into<Error>>(
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Error::DatabaseUnavailable),
    }
}

/// A read of several statements that all see the same moment.
pub(in crate::catalog) async fn begin_read(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    match db.get_database_backend() {
        // A deferred transaction in WAL mode reads one snapshot.
        DbBackend::Sqlite => db.begin().await,
        _ => db.begin_with_config(Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly)).await,
    }
}

/// One write under way. Dropped without [`commit`](Self::commit), it leaves no trace.
pub(in crate::catalog) struct Write<'c> {
    catalog: &'c Catalog,
    /// Where the change goes.
    pub tx: DatabaseTransaction,
    number: i64,
}

impl Catalog {
    /// Begins a write. The lock on the counter's row, held to the commit, makes writers take turns: the numbers in
    /// the outbox are in commit order and have no gaps, and what a writer has checked stays true until it commits.
    pub(in crate::catalog) async fn write(&self) -> Result<Write<'_>, Error> {
        let (tx, number) = self.take_turn("last + 1").await?;
        Ok(Write { catalog: self, tx, number })
    }

    /// The same turn for a change that no replica has to hear of: it takes no number.
    pub(in crate::catalog) async fn quiet_write(&self) -> Result<DatabaseTransaction, Error> {
        self.take_turn("last").await.map(|(tx, _)| tx)
    }

    async fn take_turn(&self, next: &str) -> Result<(DatabaseTransaction, i64), Error> {
        patiently(async {
            let options = TransactionOptions {
                sqlite_transaction_mode: (self.db().get_database_backend() == DbBackend::Sqlite)
                    .then_some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            let tx = self.db().begin_with_options(options).await?;
            let sql = format!("UPDATE counter SET last = {next} WHERE id = 1 RETURNING last");
            let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), sql)).await?;
            let row = row.ok_or_else(|| DbErr::RecordNotFound("counter".to_owned()))?;
            let number = row.try_get("", "last")?;
            Ok::<_, DbErr>((tx, number))
        })
        .await
    }
}

impl Write<'_> {
    /// Commits with the event that tells of it, and returns when this replica serves the change.
    pub async fn commit(self, tenant: Option<Uuid>, scope: Scope, event: Event) -> Result<(), Error> {
        let Self { catalog, tx, number } = self;
        patiently(async {
            let row = outbox::Model {
                number,
                tenant_id: tenant,
                scope: scope.name().to_owned(),
                scope_id: scope.id(),
                created_at: now(),
            };
            outbox::Entity::insert(row.into_active_model()).exec_without_returning(&tx).await?;
            event.write(&tx, catalog.actor.as_deref()).await?;
            tx.commit().await
        })
        .await?;
        catalog.inner.committed.notify_one();
        catalog.refresh(&[Change { tenant, scope }]).await
    }
}

/// The present, in milliseconds since 1970.
pub(in crate::catalog) fn now() -> i64 {
    Utc::now().timestamp_millis()
}

/// A stored time.
pub(in crate::catalog) fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

/// Refuses a revision that was sent and is not the current one.
pub(in crate::catalog) fn check_revision(given: i64, current: i64) -> Result<(), Error> {
    if given == 0 || given == current { Ok(()) } else { Err(Error::StaleRevision { given, current }) }
}

/// The tenant of that id.
pub(in crate::catalog) async fn tenant(db: &impl ConnectionTrait, id: &str) -> Result<tenants::Model, Error> {
    names::tenant("tenant_id", id)?;
    let row = tenants::Entity::find().filter(tenants::Column::Name.eq(id)).one(db).await?;
    row.ok_or_else(|| Error::NotFound(Thing::Tenant, id.to_owned()))
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
    row.ok_or_else(|| Error::NotFound(Thing::Provider, name.to_owned()))
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
    let model = model.ok_or_else(|| Error::NotFound(Thing::Model, shown(&key.model)))?;
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

/// A page request, checked: how many, and the last key of the page before.
pub(in crate::catalog) struct Paging {
    /// At most this many.
    pub size: u64,
    /// The key's parts; none on the first page.
    pub after: Option<Vec<String>>,
}

impl Paging {
    /// Checks a request for pages whose key has that many parts.
    pub fn new(request: &PageRequest, parts: usize) -> Result<Self, Error> {
        let size = match request.size {
            0 => 100,
            size => u64::try_from(size)
                .map_err(|_| Error::invalid("page_size", "must not be negative"))?
                .min(1000),
        };
        let after = if request.token.is_empty() {
            None
        } else {
            let bytes = URL_SAFE_NO_PAD.decode(&request.token).ok();
            let key = bytes.and_then(|bytes| serde_json::from_slice::<Vec<String>>(&bytes).ok());
            // PostgreSQL takes no NUL in a text, and no name holds one.
            let key = key.filter(|key| key.len() == parts && !key.iter().any(|part| part.contains('\0')));
            Some(key.ok_or_else(|| Error::invalid("page_token", "is not from a page before"))?)
        };
        Ok(Self { size, after })
    }

    /// The one id that the page before ended with.
    pub fn after_id(&self) -> Result<Option<Uuid>, Error> {
        let Some(text) = self.after.as_ref().and_then(|key| key.first()) else { return Ok(None) };
        let id = text.parse().map_err(|_| Error::invalid("page_token", "is not from a page before"))?;
        Ok(Some(id))
    }

    /// The section, one of those, and the id in it that the page before ended with; the first one's beginning where
    /// there is none.
    pub fn place<'s>(&self, sections: [&'s str; 3]) -> Result<(&'s str, Uuid), Error> {
        let bad = || Error::invalid("page_token", "is not from a page before");
        let Some([section, id]) = self.after.as_deref() else { return Ok((sections[0], Uuid::nil())) };
        let section = sections.into_iter().find(|known| known == section).ok_or_else(bad)?;
        Ok((section, id.parse().map_err(|_| bad())?))
    }

    /// The token of a page that ended there.
    pub fn token(section: &str, id: Uuid) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::json!([section, id.to_string()]).to_string())
    }

    /// Cuts a page from rows that were read with one more than [`size`](Self::size).
    pub fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> Vec<String>,
        item: impl Fn(R) -> T,
    ) -> Page<T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let next = match rows.last() {
            Some(last) if more => URL_SAFE_NO_PAD.encode(serde_json::json!(key(last)).to_string()),
            _ => String::new(),
        };
        Page { items: rows.into_iter().map(item).collect(), next }
    }
}
