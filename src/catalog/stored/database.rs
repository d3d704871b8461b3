//! How the catalog talks to its database: how long a step may take, and what an error means.
//!
//! When the database is gone, a step answers [`Error::DatabaseUnavailable`].

use super::postgres::tells_of_failover;
use crate::catalog::{
    names::shown,
    types::{Error, ResourceKind},
};
use chrono::{DateTime, Utc};
use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};
use std::{future::Future, time::Duration};

/// How long one step of a write or a reload may take. A database that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Whether another server may have taken the place of the one that answered. The next transaction begins on a new
/// connection.
pub(in crate::catalog) fn has_failed_over(error: &DbErr) -> bool {
    let (DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime)) = error else { return false };
    matches!(runtime, RuntimeErr::SqlxError(error) if tells_of_failover(error))
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
pub(in crate::catalog) fn taken(thing: ResourceKind, name: &str) -> impl FnOnce(DbErr) -> Error {
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

/// The present, in milliseconds since 1970.
pub(in crate::catalog) fn now() -> i64 {
    Utc::now().timestamp_millis()
}

/// A stored time.
pub(in crate::catalog) fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}
