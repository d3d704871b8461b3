//! The database, whichever it is, in the form that queries take.

use super::{
    connect::{DatabaseOptions, OpenError, create_file, sqlite_options},
    postgres::{Mode, Postgres, PostgresTransaction},
};
use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};

/// A pool of connections. A statement that is run on it by itself is a transaction of its own.
#[derive(Clone)]
pub(in crate::catalog) enum Db {
    Sqlite(DatabaseConnection),
    Postgres(Postgres),
}

/// A transaction. Dropped without a commit, it is rolled back.
pub(in crate::catalog) enum Transaction {
    Sqlite(DatabaseTransaction),
    Postgres(PostgresTransaction),
}

impl Db {
    /// Connects. Makes SQLite's file where it is missing.
    pub async fn open(url: &str, options: DatabaseOptions) -> Result<Self, OpenError> {
        if url.starts_with("sqlite:") {
            create_file(url)?;
            Ok(Self::Sqlite(Database::connect(sqlite_options(url, options)).await?))
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Ok(Self::Postgres(Postgres::open(url, options).await?))
        } else {
            Err(OpenError::Url)
        }
    }

    /// Begins a read of several statements that all see the same moment.
    pub async fn begin_read(&self) -> Result<Transaction, DbErr> {
        match self {
            // A deferred transaction in WAL mode reads one snapshot.
            Self::Sqlite(db) => db.begin().await.map(Transaction::Sqlite),
            Self::Postgres(db) => db.begin(Mode::Read).await.map(Transaction::Postgres),
        }
    }

    /// Begins a change. On SQLite it takes the write lock at once.
    pub async fn begin_write(&self) -> Result<Transaction, DbErr> {
        self.begin_in(Mode::Write).await
    }

    /// The same for a change whose statements may take long.
    pub async fn begin_migration(&self) -> Result<Transaction, DbErr> {
        self.begin_in(Mode::Migration).await
    }

    async fn begin_in(&self, mode: Mode) -> Result<Transaction, DbErr> {
        match self {
            Self::Sqlite(db) => {
                let options = TransactionOptions {
                    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                    ..TransactionOptions::default()
                };
                db.begin_with_options(options).await.map(Transaction::Sqlite)
            }
            Self::Postgres(db) => db.begin(mode).await.map(Transaction::Postgres),
        }
    }

    /// Whether it answers, and whether it says that it takes writes.
    pub async fn takes_writes(&self) -> Result<bool, DbErr> {
        match self {
            Self::Sqlite(db) => {
                db.query_one_raw(Statement::from_string(DbBackend::Sqlite, "SELECT 1")).await.map(|_| true)
            }
            Self::Postgres(db) => db.takes_writes().await,
        }
    }

    /// Whether a pooler in transaction mode stands before it.
    pub async fn shares_sessions(&self) -> Result<bool, DbErr> {
        match self {
            Self::Sqlite(_) => Ok(false),
            Self::Postgres(db) => db.shares_sessions().await,
        }
    }
}

impl Transaction {
    /// Makes it last.
    pub async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }

    /// Leaves no trace of it, and returns when its locks are free.
    pub async fn rollback(self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => transaction.rollback().await,
        }
    }
}

/// Runs one statement as a transaction of its own. A macro, since what each method returns has a type of its own and must be
/// [`Send`].
macro_rules! by_itself {
    ($db:ident, $method:ident($statement:ident)) => {{
        let transaction = $db.begin(Mode::Write).await?;
        let answer = transaction.$method($statement).await?;
        transaction.commit().await?;
        Ok(answer)
    }};
}

#[async_trait]
impl ConnectionTrait for Db {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Sqlite(_) => DbBackend::Sqlite,
            Self::Postgres(_) => DbBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(db) => db.execute_raw(statement).await,
            Self::Postgres(db) => by_itself!(db, execute(statement)),
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(db) => db.execute_unprepared(sql).await,
            Self::Postgres(db) => by_itself!(db, execute_unprepared(sql)),
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Sqlite(db) => db.query_one_raw(statement).await,
            Self::Postgres(db) => by_itself!(db, query_one(statement)),
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Sqlite(db) => db.query_all_raw(statement).await,
            Self::Postgres(db) => by_itself!(db, query_all(statement)),
        }
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Sqlite(_) => DbBackend::Sqlite,
            Self::Postgres(_) => DbBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.execute_raw(statement).await,
            Self::Postgres(transaction) => transaction.execute(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.execute_unprepared(sql).await,
            Self::Postgres(transaction) => transaction.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.query_one_raw(statement).await,
            Self::Postgres(transaction) => transaction.query_one(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Sqlite(transaction) => transaction.query_all_raw(statement).await,
            Self::Postgres(transaction) => transaction.query_all(statement).await,
        }
    }
}
