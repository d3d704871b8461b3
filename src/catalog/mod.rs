//! What tenants configured: providers, credentials, models, pools, and the tokens that may use them.
//!
//! A [`Catalog`] stores it in SQLite or PostgreSQL and keeps compiled [`Pool`]s in memory, so that a call needs no SQL.
//! Every write is one transaction with a row in the outbox, and returns when this replica serves the change; the others
//! read the outbox. Secrets are sealed at rest and opened inside a snapshot only.
//!
//! When the database is gone: writes and listings answer [`Error::DatabaseUnavailable`], calls and known tokens go on
//! from memory.

mod compiled;
mod names;
mod read;
mod secrets;
mod stored;
#[cfg(test)]
mod tests;
mod types;
mod write;

pub use names::canonical;
pub use read::overview::{Bundle, Configurations};
pub use secrets::{
    key_ring::{KeyRing, KeyRingError},
    master_key::MasterKeySource,
    rotation::{MasterRotation, TenantRotation},
};
pub use stored::facts::{Address, DatabaseFacts};
pub use types::*;
pub use write::{
    audit::{AuditEvent, AuditFilter},
    policy::{CooldownSettings, Millis, PolicySettings},
};

use crate::provider::guard::Networks;
use compiled::snapshot::Snapshot;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, EntityTrait,
    IntoActiveModel, Statement, TransactionOptions, TransactionTrait,
    sea_query::OnConflict,
    sqlx::{
        Connection,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    },
};
use sea_orm_migration::{MigratorTrait, SchemaManager};
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use stored::{database, entity, migration::Migrator};
use tokio::sync::Notify;

/// Names our advisory lock on PostgreSQL: `rota` in ASCII.
const MIGRATION_LOCK: i64 = 0x726f_7461;
/// The row of [`entity::meta`] that tells the right master key.
const CHECK_VALUE: &str = "master_key_check";

/// How to open a catalog. No `Debug`: the URL may hold a password.
pub struct OpenOptions {
    /// `sqlite://…` or `postgres://…`.
    pub database_url: String,
    /// Where the master key comes from.
    pub master_key: MasterKeySource,
    /// Which networks a tenant's `base_url` may reach.
    pub networks: Networks,
    /// How the database is used.
    pub database: DatabaseOptions,
}

/// How the database is used.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseOptions {
    /// The most connections; at least 2 are used.
    pub max_connections: u32,
    /// How long connecting may take, a caller waits for a connection, and a statement for SQLite's write lock.
    pub wait: Duration,
    /// The longest a statement may run on PostgreSQL.
    pub statement_timeout: Duration,
    /// Whether each statement is logged, without its values.
    pub log_statements: bool,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            max_connections: 8,
            wait: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            log_statements: false,
        }
    }
}

/// Why a catalog cannot be opened or migrated. Never the address: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither of the two databases, or SQLite without a file.
    #[error("the database URL must be sqlite://<file> or postgres://<host>/<database>")]
    Url,
    /// The SQLite file cannot be made.
    #[error("the database file cannot be made: {0}")]
    File(#[source] io::Error),
    /// The master key cannot be used.
    #[error(transparent)]
    MasterKey(#[from] KeyRingError),
    /// The database was sealed with another key.
    #[error("the master key does not open this database: give the one it was begun with, or last rotated to")]
    WrongMasterKey,
    /// The database refuses, or is away.
    #[error("the database: {0}")]
    Database(#[from] DbErr),
    /// The check value could not be sealed.
    #[error("a key could not be made")]
    Seal,
}

/// What tenants configured. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
    /// Whose changes are made through it; none: the command line's, or the service's own.
    actor: Option<Arc<Caller>>,
}

struct Inner {
    db: DatabaseConnection,
    ring: KeyRing,
    networks: Networks,
    snapshot: Snapshot,
    /// Woken when this replica has changed something.
    committed: Notify,
    /// Woken when another one may have.
    hinted: Notify,
}

impl Catalog {
    /// Connects, and checks the master key where the database knows one. Does not migrate.
    ///
    /// # Errors
    /// [`OpenError`]; a wrong master key is refused before anything is written.
    pub async fn open(options: OpenOptions) -> Result<Self, OpenError> {
        let OpenOptions { database_url, master_key, networks, database } = options;
        let connect = connect_options(&database_url, database)?;
        let ring = master_key.ring().await?;
        if database_url.starts_with("sqlite:") {
            create_file(&database_url)?;
        }
        let catalog = Self::new(Database::connect(connect).await?, ring, networks);
        catalog.verify_master_key(SchemaManager::new(catalog.db())).await?;
        Ok(catalog)
    }

    fn new(db: DatabaseConnection, ring: KeyRing, networks: Networks) -> Self {
        let inner = Inner {
            db,
            ring,
            networks,
            snapshot: Snapshot::default(),
            committed: Notify::new(),
            hinted: Notify::new(),
        };
        Self { inner: Arc::new(inner), actor: None }
    }

    /// Brings the schema up to date. Several may try at once: they take turns.
    ///
    /// # Errors
    /// [`OpenError`]; a failed migration leaves nothing behind.
    pub async fn migrate(&self) -> Result<(), OpenError> {
        let sqlite = self.db().get_database_backend() == DbBackend::Sqlite;
        let options = TransactionOptions {
            sqlite_transaction_mode: sqlite.then_some(sea_orm::SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let tx = self.db().begin_with_options(options).await?;
        if !sqlite {
            // Held until the commit; a second migrator then finds nothing left to do.
            let lock = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
            tx.execute_unprepared("SET LOCAL statement_timeout = 0").await?;
            tx.execute_unprepared(&lock).await?;
        }
        // Again: another start may have been first since.
        self.verify_master_key(SchemaManager::new(&tx)).await?;
        Migrator::up(&tx, None).await?;
        tx.commit().await?;
        self.keep_check_value().await?;
        self.verify_master_key(SchemaManager::new(self.db())).await
    }

    /// Whether the schema is up to date.
    ///
    /// # Errors
    /// [`OpenError::Database`].
    pub async fn migrated(&self) -> Result<bool, OpenError> {
        Ok(Migrator::get_pending_migrations_read_only(self.db()).await?.is_empty())
    }

    /// Writes the check value where there is none. Two first starts may race: the first one's value stays.
    async fn keep_check_value(&self) -> Result<(), OpenError> {
        let value = self.ring().check_value().map_err(|_| OpenError::Seal)?;
        let row = entity::meta::Model { key: CHECK_VALUE.to_owned(), value };
        let first = OnConflict::column(entity::meta::Column::Key).do_nothing().to_owned();
        entity::meta::Entity::insert(row.into_active_model())
            .on_conflict(first)
            .exec_without_returning(self.db())
            .await?;
        Ok(())
    }

    /// Holds the ring against the check value where there is one. It needs no more than the oldest schema.
    async fn verify_master_key(&self, schema: SchemaManager<'_>) -> Result<(), OpenError> {
        if !schema.has_table("meta").await? {
            return Ok(());
        }
        match entity::meta::Entity::find_by_id(CHECK_VALUE).one(schema.get_connection()).await? {
            Some(row) if !self.ring().opens(&row.value) => Err(OpenError::WrongMasterKey),
            _ => Ok(()),
        }
    }

    /// Asks the database for an answer.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn ping(&self) -> Result<(), Error> {
        database::patiently(async {
            let one = Statement::from_string(self.db().get_database_backend(), "SELECT 1");
            self.db().query_one_raw(one).await.map(drop)
        })
        .await
    }

    /// Whether there is no tenant and no token yet.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn is_empty(&self) -> Result<bool, Error> {
        let token = entity::tokens::Entity::find().one(self.db()).await?;
        let tenant = entity::tenants::Entity::find().one(self.db()).await?;
        Ok(token.is_none() && tenant.is_none())
    }

    /// Waits until this replica has changed something.
    pub async fn committed(&self) {
        self.inner.committed.notified().await;
    }

    /// Another replica may have changed something: [`follow`](Self::follow) looks at once.
    pub fn hint(&self) {
        self.inner.hinted.notify_one();
    }

    /// Changes when this replica has taken in a change of configuration, whoever's.
    #[must_use]
    pub fn version(&self) -> Option<i64> {
        self.snapshot().seen()
    }

    /// Marks bytes that leave this service and come back, such as a lease's.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.ring().sign(bytes)
    }

    /// Whether a replica with one of our master keys has made that mark.
    #[must_use]
    pub fn signed(&self, bytes: &[u8], mark: &[u8]) -> bool {
        self.ring().signed(bytes, mark)
    }

    fn db(&self) -> &DatabaseConnection {
        &self.inner.db
    }

    fn ring(&self) -> &KeyRing {
        &self.inner.ring
    }

    fn networks(&self) -> Networks {
        self.inner.networks
    }

    fn snapshot(&self) -> &Snapshot {
        &self.inner.snapshot
    }
}

/// How to connect to the database at `url`.
fn connect_options(url: &str, database: DatabaseOptions) -> Result<ConnectOptions, OpenError> {
    if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(OpenError::Url);
    }
    let mut connect = ConnectOptions::new(url);
    connect
        .max_connections(database.max_connections.max(2))
        .acquire_timeout(database.wait)
        .connect_timeout(database.wait)
        .sqlx_logging(database.log_statements)
        .statement_timeout(database.statement_timeout)
        .set_application_name("rota")
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite.journal_mode(SqliteJournalMode::Wal).foreign_keys(true).busy_timeout(database.wait)
        })
        // A commit that fails, as on a full disk, has rolled back by itself, and the rollback that follows fails too: for
        // sqlx the connection is inside a transaction for ever, and what it reads next stays what it reads.
        .map_sqlx_sqlite_before_acquire(|connection, _| {
            let free = !connection.is_in_transaction();
            Box::pin(async move { Ok(free) })
        });
    Ok(connect)
}

/// Where SQLite's file lies.
fn file_of(url: &str) -> Result<PathBuf, OpenError> {
    let options = SqliteConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    let path = options.get_filename();
    if path == Path::new(":memory:") || path.as_os_str().is_empty() || url.contains("mode=memory") {
        return Err(OpenError::Url);
    }
    Ok(path.to_owned())
}

/// Makes the SQLite file, readable by its owner alone; SQLite gives its WAL files the same mode.
fn create_file(url: &str) -> Result<(), OpenError> {
    let made =
        fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file_of(url)?);
    made.map(drop).map_err(OpenError::File)
}
