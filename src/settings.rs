//! Every setting: type, default, meaning, check.
//!
//! Flags win over `ROTA_*` environment variables, those over `rota.toml`, that over the defaults. All problems are
//! reported at once. Secrets have no flag: a flag stands in the process list.

mod raw;
mod server;
#[cfg(test)]
mod tests;
mod traces;
mod upstream;

pub use raw::{FILE, RawSettings};

use crate::{
    api::ServerOptions, catalog::DatabaseOptions, gate::CallLimits, invoke::RetryBudget,
    provider::UpstreamOptions, state::RedisOptions, telemetry::TraceOptions,
};
use secrecy::SecretString;
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Beyond this many turns in advance nothing is gained.
const MOST_TURNS: u32 = 1024;

/// Settings, checked and complete.
#[derive(Clone)]
pub struct Settings {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where plain HTTP probes are served.
    pub admin_listen: AdminListen,
    /// Where files lie.
    pub data_dir: PathBuf,
    /// Where configuration is stored; may hold a password.
    pub database_url: SecretString,
    /// Whether that is SQLite.
    pub embedded: bool,
    /// How the database is used.
    pub database: DatabaseOptions,
    /// Where state is shared. None: in the process.
    pub redis: Option<RedisOptions>,
    /// Whether to refuse a start without it.
    pub redis_required: bool,
    /// Where the master key ring comes from.
    pub master_key: MasterKey,
    /// How providers are called, and which addresses a tenant's base URL may reach.
    pub upstream: UpstreamOptions,
    /// How gRPC is served.
    pub server: Arc<ServerOptions>,
    /// How many calls are served, of all and of one tenant.
    pub limits: CallLimits,
    /// How long a call without a deadline may take.
    pub default_deadline: Duration,
    /// How many models have metrics of their own.
    pub metrics_models: usize,
    /// What is traced, and where to. None: nothing.
    pub traces: Option<TraceOptions>,
    /// How long a start waits for the database.
    pub start_wait: Duration,
    /// How long calls are still taken after the signal to stop.
    pub drain_delay: Duration,
    /// How long calls in flight may take to end.
    pub drain_limit: Duration,
    /// How many retries a model may have on this replica.
    pub retry_budget: RetryBudget,
}

/// Where plain HTTP is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminListen {
    /// The address.
    pub address: SocketAddr,
    /// Whether it was asked for, rather than the default.
    pub given: bool,
}

/// Where the master key ring comes from.
#[derive(Clone)]
pub enum MasterKey {
    /// `ROTA_MASTER_KEY` itself.
    Value(SecretString),
    /// `--master-key-file`.
    File(PathBuf),
    /// `--master-key-command`.
    Command(String),
    /// With SQLite: a file in the data directory, made where it is not there.
    Own(PathBuf),
}

/// What is wrong with the settings: a line each, with the setting's name. No value of a URL stands in it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(Vec<String>);

impl Settings {
    /// Checks `raw` and fills in the defaults. The master key is read from the environment.
    ///
    /// # Errors
    /// Every problem found.
    pub fn resolve(raw: RawSettings) -> Result<Self, SettingsError> {
        let (settings, problems) = Self::examine(raw);
        if problems.is_empty() { Ok(settings) } else { Err(SettingsError(problems)) }
    }

    /// The same for who goes on with what there is: what is wrong is left at its default where there is one, and told.
    #[must_use]
    pub fn examine(mut raw: RawSettings) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut problem = |setting: &str, what: &str| problems.push(format!("--{setting}: {what}"));

        let listen = given(raw.listen.take()).unwrap_or_else(|| "127.0.0.1:50051".into());
        let listen = listen.parse().unwrap_or_else(|_| {
            problem("listen", "is not an address and port, such as 127.0.0.1:50051");
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let upstream = upstream::resolve(&mut raw, listen, &mut problem);
        let server = server::resolve(&mut raw, &mut problem);
        let limits = server::limits(&mut raw, &mut problem);
        let traces = traces::resolve(&mut raw, &mut problem);
        let admin_listen = given(raw.admin_listen);
        let admin_listen = AdminListen {
            given: admin_listen.is_some(),
            address: admin_listen.as_deref().unwrap_or("127.0.0.1:9464").parse().unwrap_or_else(|_| {
                problem("admin-listen", "is not an address and port, such as 127.0.0.1:9464");
                SocketAddr::from(([127, 0, 0, 1], 0))
            }),
        };
        let data_dir = raw.data_dir.unwrap_or_else(|| "rota-data".into());
        let database_url = given(raw.database_url)
            .unwrap_or_else(|| format!("sqlite://{}", data_dir.join("rota.db").display()));
        let embedded = database_url.starts_with("sqlite:");
        if !embedded && !database_url.starts_with("postgres:") && !database_url.starts_with("postgresql:") {
            problem("database-url", "begins with sqlite: or postgres:");
        }
        let usual = DatabaseOptions::default();
        let max_connections = raw.database_connections.unwrap_or(usual.max_connections);
        if max_connections == 0 {
            problem("database-connections", "must not be 0");
        }
        let mut redis = given(raw.redis_url).map(RedisOptions::new);
        if redis.as_ref().is_some_and(|redis| !redis.has_valid_url()) {
            problem(
                "redis-url",
                "is not redis://HOST:PORT, redis-cluster://HOST:PORT?node=HOST:PORT or \
                 redis-sentinel://HOST:PORT?sentinelServiceName=NAME, with TLS rediss…",
            );
        }
        if let Some(file) = raw.redis_ca.filter(|file| !file.as_os_str().is_empty()) {
            match redis.as_mut().filter(|redis| redis.is_encrypted()) {
                Some(redis) => {
                    redis.ca = authorities("redis-ca", &file, RedisOptions::is_ca, &mut problem);
                }
                None => problem("redis-ca", "goes with a --redis-url that begins with rediss"),
            }
        }
        let turns = match given(raw.turns).as_deref() {
            None | Some("exact") => 1,
            Some(count) => match count.parse() {
                Ok(count) if (1..=MOST_TURNS).contains(&count) => count,
                _ => {
                    problem("turns", "is `exact`, or a number from 1 to 1024");
                    1
                }
            },
        };
        let redis_required = raw.redis_required.unwrap_or(false);
        if redis_required && redis.is_none() {
            problem("redis-required", "needs --redis-url");
        }
        let mut time =
            |setting: &str, value: Option<String>, default| time(setting, value, default, &mut problem);
        let default_deadline = time("default-deadline", raw.default_deadline, Duration::from_secs(600));
        let start_wait = time("start-wait", raw.start_wait, Duration::from_secs(60));
        // Unlike the others it may be nothing.
        let no_delay = given(raw.drain_delay.clone())
            .is_none_or(|text| humantime::parse_duration(&text).is_ok_and(|delay| delay.is_zero()));
        let drain_delay =
            if no_delay { Duration::ZERO } else { time("drain-delay", raw.drain_delay, Duration::ZERO) };
        let drain_limit = time("drain-limit", raw.drain_limit, Duration::from_secs(30));
        let redis_timeout = time("redis-timeout", raw.redis_timeout, Duration::from_millis(250));
        let database = DatabaseOptions {
            max_connections,
            wait: time("database-wait", raw.database_wait, usual.wait),
            statement_timeout: time(
                "database-statement-timeout",
                raw.database_statement_timeout,
                usual.statement_timeout,
            ),
            log_statements: raw.database_log.unwrap_or(usual.log_statements),
        };
        if let Some(redis) = &mut redis {
            redis.command_timeout = redis_timeout;
            redis.turns = turns;
        }
        let usual = RetryBudget::default();
        let retry_budget = RetryBudget {
            share: raw.retry_share.unwrap_or(usual.share),
            per_second: raw.retry_rate.unwrap_or(usual.per_second),
        };
        if !(0.0..=10.0).contains(&retry_budget.share) {
            problems.push("--retry-share: is a number from 0 to 10".into());
        }
        if retry_budget.per_second > 1_000_000 {
            problems.push("--retry-rate: is at most 1000000".into());
        }
        let sources = [
            given(env::var("ROTA_MASTER_KEY").ok()).map(|key| MasterKey::Value(key.into())),
            raw.master_key_file.filter(|path| !path.as_os_str().is_empty()).map(MasterKey::File),
            given(raw.master_key_command).map(MasterKey::Command),
        ];
        let mut sources = sources.into_iter().flatten();
        let master_key = sources.next();
        if sources.next().is_some() {
            problems.push(
                "ROTA_MASTER_KEY, --master-key-file, --master-key-command: only one of them can be given"
                    .into(),
            );
        }
        if master_key.is_none() && !embedded {
            problems.push(
                "ROTA_MASTER_KEY: is required with PostgreSQL: 32 random bytes in base64, the same for every \
                 replica (`head -c 32 /dev/urandom | base64`); or --master-key-file, or --master-key-command"
                    .into(),
            );
        }
        let master_key = master_key.unwrap_or_else(|| MasterKey::Own(data_dir.join("master-key")));
        let settings = Self {
            listen,
            admin_listen,
            data_dir,
            database_url: database_url.into(),
            embedded,
            database,
            redis,
            redis_required,
            master_key,
            upstream,
            server: Arc::new(server),
            limits,
            default_deadline,
            metrics_models: raw.metrics_models.unwrap_or(200),
            traces,
            start_wait,
            drain_delay,
            drain_limit,
            retry_budget,
        };
        (settings, problems)
    }

    /// Where the first operator's token is written.
    #[must_use]
    pub fn operator_token_file(&self) -> PathBuf {
        self.data_dir.join("operator-token")
    }
}

/// An empty value means "not given": that is how compose files and shells leave a variable out.
fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.trim().is_empty())
}

/// Notes what is wrong with a setting.
type Problem<'p> = &'p mut dyn FnMut(&str, &str);

/// A time above 0.
fn time(setting: &str, value: Option<String>, default: Duration, problem: Problem<'_>) -> Duration {
    match given(value).as_deref().map(humantime::parse_duration) {
        None => default,
        Some(Ok(time)) if !time.is_zero() => time,
        Some(_) => {
            problem(setting, "is a time above 0, such as 30s");
            default
        }
    }
}

/// A size of at least 1 KiB, in bytes.
fn size(setting: &str, value: Option<String>, default: usize, problem: Problem<'_>) -> usize {
    match given(value).as_deref().map(bytes) {
        None => default,
        Some(Some(size)) if size >= 1024 => size,
        Some(_) => {
            problem(setting, "is a size of at least 1KiB, such as 32MiB");
            default
        }
    }
}

/// What a file holds.
fn read(setting: &str, file: &Path, problem: Problem<'_>) -> Option<Vec<u8>> {
    fs::read(file).map_err(|error| problem(setting, &format!("{}: {error}", file.display()))).ok()
}

/// Certificates in a file, in PEM.
fn authorities(
    setting: &str,
    file: &Path,
    fits: impl Fn(&[u8]) -> bool,
    problem: Problem<'_>,
) -> Option<Vec<u8>> {
    let pem = read(setting, file, problem)?;
    if fits(&pem) {
        return Some(pem);
    }
    problem(setting, &format!("{}: is not certificates in PEM", file.display()));
    None
}

fn bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (amount, unit) = text.split_at(digits);
    let factor: usize = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    amount.parse::<usize>().ok()?.checked_mul(factor)
}
