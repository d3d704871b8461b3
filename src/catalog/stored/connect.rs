//! How the database is used, why it cannot be, and where SQLite's file lies.

use crate::catalog::secrets::key_ring::KeyRingError;
use sea_orm::{
    ConnectOptions, DbErr,
    sqlx::{
        Connection,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    },
};
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// How the database is used.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseOptions {
    /// The most connections; at least 2 are used.
    pub max_connections: u32,
    /// How long connecting may take, a caller waits for a connection, and a statement for SQLite's write lock.
    pub wait: Duration,
    /// How old a connection to PostgreSQL may become. A new one follows where the name leads by then.
    pub max_lifetime: Duration,
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
            max_lifetime: Duration::from_mins(10),
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
    /// What stands between us and PostgreSQL refuses.
    #[error("the pooler before PostgreSQL refuses: {0}")]
    Pooler(String),
    /// The database refuses, or is away.
    #[error("the database: {0}")]
    Database(#[from] DbErr),
    /// The check value could not be sealed.
    #[error("a key could not be made")]
    Seal,
}

/// How to connect to the SQLite file at `url`.
pub(super) fn sqlite_options(url: &str, database: DatabaseOptions) -> ConnectOptions {
    let mut connect = ConnectOptions::new(url);
    connect
        .max_connections(database.max_connections.max(2))
        .acquire_timeout(database.wait)
        .connect_timeout(database.wait)
        .sqlx_logging(database.log_statements)
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite.journal_mode(SqliteJournalMode::Wal).foreign_keys(true).busy_timeout(database.wait)
        })
        // A commit that fails, as on a full disk, has rolled back by itself, and the rollback that follows fails too: for
        // sqlx the connection is inside a transaction for ever, and what it reads next stays what it reads.
        .map_sqlx_sqlite_before_acquire(|connection, _| {
            let free = !connection.is_in_transaction();
            Box::pin(async move { Ok(free) })
        });
    connect
}

/// Where SQLite's file lies.
pub(super) fn file_of(url: &str) -> Result<PathBuf, OpenError> {
    let options = SqliteConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    let path = options.get_filename();
    if path == Path::new(":memory:") || path.as_os_str().is_empty() || url.contains("mode=memory") {
        return Err(OpenError::Url);
    }
    Ok(path.to_owned())
}

/// Makes the SQLite file, readable by its owner alone; SQLite gives its WAL files the same mode.
pub(super) fn create_file(url: &str) -> Result<(), OpenError> {
    let made =
        fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file_of(url)?);
    made.map(drop).map_err(OpenError::File)
}
