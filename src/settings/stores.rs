//! The settings of the database, of Redis and of the master key.

use super::{
    RawSettings,
    values::{Problems, authorities, given, given_path, time},
};
use crate::{catalog::DatabaseOptions, redis::RedisOptions};
use secrecy::SecretString;
use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the master key ring comes from.
#[derive(Clone)]
pub enum MasterKey {
    /// `ROTA_MASTER_KEY` itself.
    Value(SecretString),
    /// `--master-key-file`.
    File(PathBuf),
    /// `--master-key-command`.
    Command(String),
    /// With SQLite: a file in the data directory, which is created if it is missing.
    Own(PathBuf),
}

/// Where configuration is stored, and whether that is SQLite.
pub(super) fn database_url(
    raw: &mut RawSettings,
    data_dir: &Path,
    problems: &mut Problems,
) -> (String, bool) {
    let url = given(raw.database_url.take())
        .unwrap_or_else(|| format!("sqlite://{}", data_dir.join("rota.db").display()));
    let embedded = url.starts_with("sqlite:");
    if !embedded && !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
        problems.add("database-url", "begins with sqlite: or postgres:");
    }
    (url, embedded)
}

/// How the database is used.
pub(super) fn database(raw: &mut RawSettings, problems: &mut Problems) -> DatabaseOptions {
    let default = DatabaseOptions::default();
    let max_connections = raw.database_connections.unwrap_or(default.max_connections);
    if max_connections == 0 {
        problems.add("database-connections", "must not be 0");
    }
    let statement_timeout = raw.database_statement_timeout.take();
    DatabaseOptions {
        max_connections,
        wait: time("database-wait", raw.database_wait.take(), default.wait, problems),
        max_lifetime: time(
            "database-max-lifetime",
            raw.database_max_lifetime.take(),
            default.max_lifetime,
            problems,
        ),
        statement_timeout: time(
            "database-statement-timeout",
            statement_timeout,
            default.statement_timeout,
            problems,
        ),
        log_statements: raw.database_log.unwrap_or(default.log_statements),
    }
}

/// The Redis that replicas share; none if no URL is given.
pub(super) fn redis(raw: &mut RawSettings, problems: &mut Problems) -> Option<RedisOptions> {
    let mut redis = given(raw.redis_url.take()).map(RedisOptions::new);
    if redis.as_ref().is_some_and(|redis| !redis.has_valid_url()) {
        problems.add(
            "redis-url",
            "is not redis://HOST:PORT, redis-cluster://HOST:PORT?node=HOST:PORT or \
             redis-sentinel://HOST:PORT?sentinelServiceName=NAME, with TLS rediss…",
        );
    }
    if let Some(file) = given_path(raw.redis_ca.take()) {
        match redis.as_mut().filter(|redis| redis.is_encrypted()) {
            Some(redis) => redis.ca = authorities("redis-ca", &file, RedisOptions::is_ca, problems),
            None => problems.add("redis-ca", "goes with a --redis-url that begins with rediss"),
        }
    }
    if raw.redis_required.unwrap_or_default() && redis.is_none() {
        problems.add("redis-required", "needs --redis-url");
    }
    let timeout = time("redis-timeout", raw.redis_timeout.take(), Duration::from_millis(250), problems);
    if let Some(redis) = &mut redis {
        redis.command_timeout = timeout;
    }
    redis
}

/// Where the master key ring comes from: the one source that is given, or a file of our own beside SQLite.
pub(super) fn master_key(
    raw: &mut RawSettings,
    data_dir: &Path,
    embedded: bool,
    problems: &mut Problems,
) -> MasterKey {
    let sources = [
        given(env::var("ROTA_MASTER_KEY").ok()).map(|key| MasterKey::Value(key.into())),
        given_path(raw.master_key_file.take()).map(MasterKey::File),
        given(raw.master_key_command.take()).map(MasterKey::Command),
    ];
    let mut sources = sources.into_iter().flatten();
    let source = sources.next();
    if sources.next().is_some() {
        problems.0.push(
            "ROTA_MASTER_KEY, --master-key-file, --master-key-command: only one of them can be given".into(),
        );
    }
    if source.is_none() && !embedded {
        problems.0.push(
            "ROTA_MASTER_KEY: is required with PostgreSQL: 32 random bytes in base64, the same for every \
             replica (`head -c 32 /dev/urandom | base64`); or --master-key-file, or --master-key-command"
                .into(),
        );
    }
    source.unwrap_or_else(|| MasterKey::Own(data_dir.join("master-key")))
}
