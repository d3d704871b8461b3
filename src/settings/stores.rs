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
use url::Url;

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

/// Where PostgreSQL is, by its URL, which may name it in its query too. None for SQLite, and for a socket of this machine.
pub(super) fn database_servers(url: &str) -> Vec<(String, u16)> {
    const PORT: u16 = 5432;
    let Ok(url) = Url::parse(url) else { return Vec::new() };
    if !url.scheme().starts_with("postgres") {
        return Vec::new();
    }
    let query =
        |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let port = query("port").and_then(|port| port.parse().ok()).or(url.port()).unwrap_or(PORT);
    let hosts = [query("host"), query("hostaddr"), url.host_str().map(str::to_owned)];
    let is_host = |host: &String| !host.is_empty() && !host.starts_with(['/', '%']);
    let bare = |host: String| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    hosts.into_iter().flatten().filter(is_host).map(|host| (bare(host), port)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_databases_server_is_known() {
        for (url, servers) in [
            ("sqlite:///var/lib/rota.db", &[][..]),
            ("postgres://u:p@db.internal/rota", &[("db.internal", 5432)]),
            ("postgresql://u@[fd00::1]:6432/rota", &[("fd00::1", 6432)]),
            ("postgres:///rota?host=10.0.0.5&port=6543", &[("10.0.0.5", 6543)]),
            ("postgres:///rota?host=/run/postgresql", &[]),
            ("postgres://db:1/rota?hostaddr=10.0.0.6", &[("10.0.0.6", 1), ("db", 1)]),
        ] {
            let found = database_servers(url);
            let found: Vec<_> = found.iter().map(|(host, port)| (host.as_str(), *port)).collect();
            assert_eq!(found, servers, "{url}");
        }
    }
}
