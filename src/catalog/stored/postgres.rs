//! PostgreSQL, in a way that survives a failover and a pooler between.
//!
//! A pooler in transaction mode, such as PgBouncer, lends a client a session for one transaction only. So nothing is left
//! behind in a session: every statement runs inside a transaction, no prepared statement has a name, and what a transaction
//! needs is set for it alone. A session setting or a named statement would be met by another client
//! (transact-rs/sqlx#67).
//!
//! Behind one name another server may take over. A connection made before leads to a server that only reads, or nowhere
//! (SQLSTATE 25006 and 57P01 to 57P03). The first one to tell makes all that are as old as it be closed: the next
//! transaction begins on a new one (brettwooldridge/HikariCP#1971).

use super::connect::{DatabaseOptions, OpenError};
use parking_lot::Mutex;
use sea_orm::{
    DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    sea_query::Values,
    sqlx::{
        self, AssertSqlSafe, ConnectOptions as _, Connection as _, Error as SqlxError, PgPool, Row as _,
        Transaction,
        pool::PoolConnectionMetadata,
        postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow},
    },
};
use sea_query_sqlx::SqlxValues;
use std::{
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// How long a connection may take to show that it is alive, before it is used and after.
const ALIVE: Duration = Duration::from_secs(2);
/// What a server answers to a write that only reads: a standby, or one that was told so.
const READ_ONLY: &str = "25006";
/// What a server answers that goes down, or has only just come up (PostgreSQL, appendix A, class 57).
const GOING: [&str; 3] = ["57P01", "57P02", "57P03"];

/// A pool of connections.
#[derive(Clone)]
pub(in crate::catalog) struct Postgres {
    pool: PgPool,
    retired: Arc<Retired>,
    statement_timeout: Duration,
}

/// Until when connections were made that are not to be used again.
#[derive(Default)]
struct Retired(Mutex<Option<Instant>>);

/// What a connection says when it is asked whether it is there.
#[derive(PartialEq, Eq)]
enum Answer {
    Alive,
    Broken,
    Silent,
}

/// How a transaction is to be.
#[derive(Clone, Copy)]
pub(in crate::catalog) enum Mode {
    /// Statements that all see the same moment.
    Read,
    Write,
    /// A write whose statements take as long as they take.
    Migration,
}

/// A transaction. Dropped without a commit, it is rolled back.
pub(in crate::catalog) struct PostgresTransaction {
    inner: tokio::sync::Mutex<Transaction<'static, sqlx::Postgres>>,
    retired: Arc<Retired>,
    /// How long a statement may take, the way there and back included.
    limit: Duration,
}

impl Postgres {
    /// Begins a transaction, so that what is wrong is told as it is, and keeps a pool from then on.
    pub(super) async fn open(url: &str, database: DatabaseOptions) -> Result<Self, OpenError> {
        let options = connect_options(url, database)?;
        let first = timeout(database.wait, first_transaction(&options)).await;
        first.unwrap_or(Err(SqlxError::PoolTimedOut)).map_err(unreachable)?;
        let retired = Arc::<Retired>::default();
        let (before, after) = (retired.clone(), retired.clone());
        let pool = PgPoolOptions::new()
            .max_connections(database.max_connections.max(2))
            .acquire_timeout(database.wait)
            .max_lifetime(database.max_lifetime)
            // Its own test waits for as long as the system does for a host that is gone.
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let retired = before.clone();
                Box::pin(async move { Ok(retired.allows(&meta) && retired.is_alive(connection).await) })
            })
            .after_release(move |connection, meta| {
                let retired = after.clone();
                Box::pin(
                    async move { Ok(retired.allows(&meta) && answers(connection).await == Answer::Alive) },
                )
            })
            .connect_lazy_with(options);
        Ok(Self { pool, retired, statement_timeout: database.statement_timeout })
    }

    pub(super) async fn begin(&self, mode: Mode) -> Result<PostgresTransaction, DbErr> {
        let limit = match mode {
            Mode::Read | Mode::Write => self.statement_timeout,
            // To the server this is none.
            Mode::Migration => Duration::ZERO,
        };
        let mode = match mode {
            Mode::Read => " ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Mode::Write | Mode::Migration => "",
        };
        let begin = format!("BEGIN{mode}; SET LOCAL statement_timeout = {}", limit.as_millis());
        let begun = self.pool.begin_with(AssertSqlSafe(begin)).await;
        let transaction = begun.map_err(|error| {
            self.retired.learn(&error);
            DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))
        })?;
        let limit = if limit.is_zero() { Duration::MAX } else { limit + ALIVE };
        Ok(PostgresTransaction { inner: transaction.into(), retired: self.retired.clone(), limit })
    }

    /// Whether writes are taken: a server that only reads is asked for once more over a new connection.
    pub(super) async fn takes_writes(&self) -> Result<bool, DbErr> {
        if self.ask_for_writes().await? {
            return Ok(true);
        }
        self.retired.all();
        self.ask_for_writes().await
    }

    async fn ask_for_writes(&self) -> Result<bool, DbErr> {
        let ask = "SELECT NOT current_setting('transaction_read_only')::boolean AS writable";
        let transaction = self.begin(Mode::Write).await?;
        let row = transaction.query_one(Statement::from_string(sea_orm::DbBackend::Postgres, ask)).await?;
        row.map_or(Ok(true), |row| row.try_get("", "writable"))
    }

    /// Whether two connections that are open at once are served by one session: a pooler in transaction mode is between.
    pub(super) async fn shares_sessions(&self) -> Result<bool, DbErr> {
        let failed = |error| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)));
        let session = async |connection: &mut sqlx::PgConnection| {
            let row: PgRow = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?;
            row.try_get::<i32, _>(0)
        };
        let mut one = self.pool.acquire().await.map_err(failed)?;
        let mut other = self.pool.acquire().await.map_err(failed)?;
        let ours = session(&mut one).await.map_err(failed)?;
        Ok(session(&mut other).await.map_err(failed)? == ours)
    }
}

impl Retired {
    /// No connection that is there now is to be used again.
    fn all(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn allows(&self, meta: &PoolConnectionMetadata) -> bool {
        self.0.lock().is_none_or(|until| meta.age <= until.elapsed())
    }

    /// Whether an idle connection answers. Where it is silent, others lead to the same server.
    async fn is_alive(&self, connection: &mut sqlx::PgConnection) -> bool {
        let answer = answers(connection).await;
        if answer == Answer::Silent {
            self.all();
        }
        answer == Answer::Alive
    }

    /// Notes an error that tells of a server that has gone or only reads.
    fn learn(&self, error: &SqlxError) {
        if tells_of_failover(error) {
            self.all();
        }
    }
}

impl PostgresTransaction {
    pub(super) async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut transaction = self.inner.lock().await;
        let answer: Result<PgQueryResult, _> =
            self.within(unnamed(&statement).execute(&mut **transaction)).await;
        answer.map(Into::into).map_err(|error| DbErr::Exec(self.failed(error)))
    }

    pub(super) async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut transaction = self.inner.lock().await;
        let answer = self.within(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **transaction)).await;
        answer.map(Into::into).map_err(|error| DbErr::Exec(self.failed(error)))
    }

    pub(super) async fn query_one(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut transaction = self.inner.lock().await;
        let query = unnamed(&statement).fetch_optional(&mut **transaction);
        let answer: Result<Option<PgRow>, _> = self.within(query).await;
        answer.map(|row| row.map(Into::into)).map_err(|error| DbErr::Query(self.failed(error)))
    }

    pub(super) async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut transaction = self.inner.lock().await;
        let answer: Result<Vec<PgRow>, _> =
            self.within(unnamed(&statement).fetch_all(&mut **transaction)).await;
        let rows = answer.map_err(|error| DbErr::Query(self.failed(error)))?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    pub(super) async fn commit(self) -> Result<(), DbErr> {
        let Self { inner, retired, .. } = self;
        inner.into_inner().commit().await.map_err(|error| {
            retired.learn(&error);
            DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))
        })
    }

    pub(super) async fn rollback(self) -> Result<(), DbErr> {
        let Self { inner, retired, .. } = self;
        inner.into_inner().rollback().await.map_err(|error| {
            retired.learn(&error);
            DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))
        })
    }

    /// Waits for an answer no longer than the server would work on it. A connection that is cut says nothing, and whoever
    /// waits for this transaction would wait as long as the system does for a host that is gone.
    async fn within<T>(&self, statement: impl Future<Output = Result<T, SqlxError>>) -> Result<T, SqlxError> {
        if let Ok(answer) = timeout(self.limit, statement).await {
            return answer;
        }
        self.retired.all();
        Err(SqlxError::Io(ErrorKind::TimedOut.into()))
    }

    fn failed(&self, error: SqlxError) -> RuntimeErr {
        self.retired.learn(&error);
        RuntimeErr::SqlxError(Arc::new(error))
    }
}

/// Whether the server is one that only reads, or goes down: another may have taken its place.
pub(super) fn tells_of_failover(error: &SqlxError) -> bool {
    let SqlxError::Database(error) = error else { return false };
    error.code().is_some_and(|code| code == READ_ONLY || GOING.contains(&&*code))
}

/// Whether a connection answers in time.
async fn answers(connection: &mut sqlx::PgConnection) -> Answer {
    match timeout(ALIVE, connection.ping()).await {
        Ok(Ok(())) => Answer::Alive,
        Ok(Err(_)) => Answer::Broken,
        Err(_) => Answer::Silent,
    }
}

/// The query of a statement, prepared under no name.
fn unnamed(statement: &Statement) -> sqlx::query::Query<'_, sqlx::Postgres, SqlxValues> {
    let values = statement.values.clone().unwrap_or(Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values)).persistent(false)
}

fn connect_options(url: &str, database: DatabaseOptions) -> Result<PgConnectOptions, OpenError> {
    // Its error may repeat the URL, which may hold a password.
    let options: PgConnectOptions = url.parse().map_err(|_| OpenError::Url)?;
    // sqlx keeps the brackets of an IPv6 address and looks the whole up as a name (SeaQL/sea-orm#2579).
    let bare =
        options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    let options = match bare {
        Some(host) => options.host(&host),
        None => options,
    };
    // PgBouncer refuses a startup parameter that it does not know, and we read no floating point numbers.
    let options = options.application_name("rota").extra_float_digits(None);
    Ok(if database.log_statements { options } else { options.disable_statement_logging() })
}

/// Shows that a connection and a transaction can be had. The pool makes its own connections.
async fn first_transaction(options: &PgConnectOptions) -> Result<(), SqlxError> {
    let mut connection = options.connect().await?;
    // Two messages: a pooler in statement mode refuses what is still open after one.
    sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
    sqlx::raw_sql("ROLLBACK").execute(&mut connection).await?;
    connection.close().await
}

/// Why the first transaction could not be had. What a pooler refuses stays refused until somebody sets it otherwise.
fn unreachable(error: SqlxError) -> OpenError {
    let refusal = match &error {
        SqlxError::Database(refusal) => refusal.message(),
        _ => "",
    };
    if refusal.contains("unsupported startup parameter") {
        let next = "leave it out of --database-url, or add it to the pooler's ignore_startup_parameters";
        return OpenError::Pooler(format!("{refusal}: {next}"));
    }
    if refusal.contains("statement pooling mode") {
        return OpenError::Pooler(format!("{refusal}: set its pool_mode to transaction or session"));
    }
    OpenError::Database(DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))))
}
