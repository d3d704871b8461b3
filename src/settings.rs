//! Every setting: its type, its default, its meaning, its check.
//!
//! A flag wins over the `ROTA_*` environment variable, the variable over `rota.toml`, and the file over the default. All
//! problems are reported at once. Secrets have no flag, because other processes can read a command line.

mod file;
mod raw;
mod server;
mod stored;
mod stores;
#[cfg(test)]
mod tests;
mod traces;
mod upstream;
mod values;

pub use file::{FILE, Gathered, without_empty_variables};
pub use raw::RawSettings;
pub use stores::MasterKey;
pub use values::SettingsError;

use crate::{
    api::ServerOptions,
    catalog::{Bounds, DatabaseOptions},
    gate::CallLimits,
    http::DoorOptions as HttpOptions,
    invoke::{MAX_LEASES, RetryBudget},
    provider::UpstreamOptions,
    redis::RedisOptions,
    telemetry::{LogFormat, TraceOptions},
};
use secrecy::{ExposeSecret, SecretString};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use values::{Problems, address, choice, given, time};

/// Settings, checked and complete.
#[derive(Clone)]
pub struct Settings {
    /// The address that serves gRPC.
    pub listen: SocketAddr,
    /// The address that serves plain HTTP.
    pub admin_listen: OptionalListen,
    /// The address that serves vendors' protocols over HTTP. None: nowhere.
    pub http_listen: Option<OptionalListen>,
    /// How those are served.
    pub http: HttpOptions,
    /// The directory of Rota's files.
    pub data_dir: PathBuf,
    /// The database of the configuration. It may hold a password.
    pub database_url: SecretString,
    /// Whether that is SQLite.
    pub embedded: bool,
    /// How the database is used.
    pub database: DatabaseOptions,
    /// The Redis that holds the shared state. None: state is in the process.
    pub redis: Option<RedisOptions>,
    /// Whether a start without Redis fails.
    pub redis_required: bool,
    /// Where the master key ring comes from.
    pub master_key: MasterKey,
    /// How providers are called, and which addresses a tenant's base URL may reach.
    pub upstream: UpstreamOptions,
    /// How gRPC is served.
    pub server: Arc<ServerOptions>,
    /// How many calls are served, in all and of one tenant.
    pub limits: CallLimits,
    /// What tenants may store, and how long what changes leave behind is kept.
    pub bounds: Bounds,
    /// The most probes and rounds of active health checks at once, in all.
    pub health_checks: usize,
    /// The same for one tenant.
    pub tenant_health_checks: usize,
    /// How many pools one tenant may watch at once.
    pub tenant_max_watches: usize,
    /// The longest time of a call that has no deadline of its own.
    pub default_deadline: Duration,
    /// How many models have metrics of their own.
    pub metrics_models: usize,
    /// What is traced, and the collector. None: nothing is traced.
    pub traces: Option<TraceOptions>,
    /// How long a start waits for the database.
    pub start_wait: Duration,
    /// How long new calls are taken after the signal to stop.
    pub drain_delay: Duration,
    /// How long calls in flight may then take to end.
    pub drain_limit: Duration,
    /// How many retries a model may have on this replica.
    pub retry_budget: RetryBudget,
    /// How many leases a model may have at once.
    pub max_leases: u32,
}

/// An address that a start can do without, unless it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionalListen {
    /// The address.
    pub address: SocketAddr,
    /// Whether it was given and is not the default.
    pub given: bool,
}

impl RawSettings {
    /// How log lines look.
    ///
    /// # Errors
    /// If it is none of the formats.
    pub fn log_format(&self) -> Result<LogFormat, SettingsError> {
        let mut problems = Problems::default();
        let format = choice("log-format", self.log_format.clone(), &mut problems);
        if problems.0.is_empty() { Ok(format.unwrap_or_default()) } else { Err(SettingsError(problems.0)) }
    }
}

impl Settings {
    /// Checks `raw` and fills in the defaults. The master key is read from the environment.
    ///
    /// # Errors
    /// Every problem found.
    pub fn resolve(raw: RawSettings) -> Result<Self, SettingsError> {
        let (settings, problems) = Self::examine(raw);
        if problems.is_empty() { Ok(settings) } else { Err(SettingsError(problems)) }
    }

    /// The same for a caller that goes on in spite of problems: a bad value is replaced by its default and reported.
    #[must_use]
    pub fn examine(mut raw: RawSettings) -> (Self, Vec<String>) {
        let mut problems = Problems::default();
        let listen = given(raw.listen.take());
        let listen = address("listen", listen.as_deref().unwrap_or("127.0.0.1:50051"), &mut problems);
        let admin_listen = given(raw.admin_listen.take());
        let admin_listen = optional("admin-listen", admin_listen, "127.0.0.1:9464", &mut problems);
        // Here, an empty text is no value that was left out.
        let http_listen = match raw.http_listen.take() {
            Some(text) if text.trim().is_empty() => None,
            text => Some(optional("http-listen", text, "127.0.0.1:8080", &mut problems)),
        };
        let data_dir = raw.data_dir.take().unwrap_or_else(|| "rota-data".into());
        let (database_url, embedded) = stores::database_url(&mut raw, &data_dir, &mut problems);
        let seconds = Duration::from_secs;
        let default_deadline =
            time("default-deadline", raw.default_deadline.take(), seconds(600), &mut problems);
        let server = server::resolve(&mut raw, default_deadline, &mut problems);
        let settings = Self {
            listen,
            admin_listen,
            http_listen,
            embedded,
            database_url: database_url.into(),
            database: stores::database(&mut raw, &mut problems),
            redis: stores::redis(&mut raw, &mut problems),
            redis_required: raw.redis_required.unwrap_or_default(),
            master_key: stores::master_key(&mut raw, &data_dir, embedded, &mut problems),
            data_dir,
            upstream: upstream::resolve(
                &mut raw,
                http_listen.iter().map(|listen| listen.address).chain([listen]),
                &mut problems,
            ),
            http: server::http(&mut raw, &server.door, &mut problems),
            server: Arc::new(server),
            limits: server::limits(&mut raw, &mut problems),
            bounds: stored::bounds(&mut raw, &mut problems),
            health_checks: stored::slots("max-health-checks", raw.max_health_checks, 256, &mut problems),
            tenant_health_checks: stored::slots(
                "tenant-max-health-checks",
                raw.tenant_max_health_checks,
                16,
                &mut problems,
            ),
            tenant_max_watches: server::watches(&raw, &mut problems),
            default_deadline,
            metrics_models: raw.metrics_models.unwrap_or(200),
            traces: traces::resolve(&mut raw, &mut problems),
            start_wait: time("start-wait", raw.start_wait.take(), seconds(60), &mut problems),
            drain_delay: drain_delay(&mut raw, &mut problems),
            drain_limit: time("drain-limit", raw.drain_limit.take(), seconds(30), &mut problems),
            retry_budget: retry_budget(&raw, &mut problems),
            max_leases: max_leases(&raw, &mut problems),
        };
        settings.reserve_stores();
        (settings, problems.0)
    }

    /// Keeps providers' addresses away from the stores.
    fn reserve_stores(&self) {
        let reserved = &self.upstream.reserved;
        let database = stores::database_servers(self.database_url.expose_secret());
        let redis = self.redis.iter().flat_map(RedisOptions::servers);
        database.into_iter().chain(redis).for_each(|(host, port)| reserved.server(host, port));
    }

    /// Where the first operator's token is written.
    #[must_use]
    pub fn operator_token_file(&self) -> PathBuf {
        self.data_dir.join("operator-token")
    }
}

fn optional(setting: &str, given: Option<String>, usual: &str, problems: &mut Problems) -> OptionalListen {
    let text = given.as_deref().unwrap_or(usual);
    OptionalListen { given: given.is_some(), address: address(setting, text, problems) }
}

/// Unlike other times it may be 0.
fn drain_delay(raw: &mut RawSettings, problems: &mut Problems) -> Duration {
    let delay = given(raw.drain_delay.take());
    if delay.as_deref().is_some_and(|text| humantime::parse_duration(text).is_ok_and(|delay| delay.is_zero()))
    {
        return Duration::ZERO;
    }
    time("drain-delay", delay, Duration::ZERO, problems)
}

fn max_leases(raw: &RawSettings, problems: &mut Problems) -> u32 {
    let most = raw.max_leases.unwrap_or(MAX_LEASES);
    if most == 0 || most > 1_000_000 {
        problems.add("max-leases", "is a number from 1 to 1000000");
    }
    most
}

fn retry_budget(raw: &RawSettings, problems: &mut Problems) -> RetryBudget {
    let default = RetryBudget::default();
    let share = raw.retry_share.unwrap_or(default.share);
    if !(0.0..=10.0).contains(&share) {
        problems.add("retry-share", "is a number from 0 to 10");
    }
    let per_second = raw.retry_rate.unwrap_or(default.per_second);
    if per_second > 1_000_000 {
        problems.add("retry-rate", "is at most 1000000");
    }
    RetryBudget { share, per_second }
}
