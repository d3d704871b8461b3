//! Every setting as it is given: flag, environment, file, and what it means.

use super::SettingsError;
use clap::Args;
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Settings as they are given. All are optional; [`Settings::resolve`](super::Settings::resolve) checks them and fills in
/// the rest.
#[derive(Args, Deserialize, Clone, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Settings")]
pub struct RawSettings {
    /// Where gRPC is served [default: 127.0.0.1:50051]
    #[arg(long, global = true, env = "ROTA_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where plain HTTP answers /livez, /readyz and /metrics [default: 127.0.0.1:9464, and nowhere if that is taken]
    #[arg(long, global = true, env = "ROTA_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// Where the database, the master key and the operator's token lie [default: ./rota-data]
    #[arg(long, global = true, env = "ROTA_DATA_DIR", value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// `sqlite://…` or `postgres://…` [default: SQLite in the data directory]
    #[arg(long, global = true, env = "ROTA_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The most database connections of this replica [default: 8]
    #[arg(long, global = true, env = "ROTA_DATABASE_CONNECTIONS", value_name = "COUNT")]
    pub database_connections: Option<u32>,
    /// How long connecting to the database, waiting for a free connection and for SQLite's write lock may take
    /// [default: 5s]
    #[arg(long, global = true, env = "ROTA_DATABASE_WAIT", value_name = "TIME")]
    pub database_wait: Option<String>,
    /// The longest a statement may run on PostgreSQL [default: 10s]
    #[arg(long, global = true, env = "ROTA_DATABASE_STATEMENT_TIMEOUT", value_name = "TIME")]
    pub database_statement_timeout: Option<String>,
    /// Log every SQL statement, without its values [default: off]
    #[arg(long, global = true, env = "ROTA_DATABASE_LOG", num_args = 0..=1, default_missing_value = "true")]
    pub database_log: Option<bool>,
    /// State shared by all replicas: `redis://…`, `redis-cluster://…` or `redis-sentinel://…`; with TLS `rediss…`
    /// [default: none, state in the process]
    #[arg(long, global = true, env = "ROTA_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// The authorities that sign Redis's certificates, in PEM [default: those the system trusts]
    #[arg(long, global = true, env = "ROTA_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,
    /// A Redis command that takes longer counts as failed, and Redis as away [default: 250ms]
    #[arg(long, global = true, env = "ROTA_REDIS_TIMEOUT", value_name = "TIME")]
    pub redis_timeout: Option<String>,
    /// Whether every pick asks Redis (`exact`), or how many turns of a model a busy replica may hold in advance, up to 1024
    /// [default: exact]
    #[arg(long, global = true, env = "ROTA_TURNS", value_name = "exact|COUNT")]
    pub turns: Option<String>,
    /// Do not start without Redis, and take no calls while it is away [default: go on without]
    #[arg(long, global = true, env = "ROTA_REDIS_REQUIRED", num_args = 0..=1, default_missing_value = "true")]
    pub redis_required: Option<bool>,
    /// A file that holds the master key ring, in place of ROTA_MASTER_KEY
    #[arg(long, global = true, env = "ROTA_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
    /// A command for `sh -c` that writes the master key ring to its output, in place of ROTA_MASTER_KEY
    #[arg(
        long,
        global = true,
        env = "ROTA_MASTER_KEY_COMMAND",
        value_name = "COMMAND",
        hide_env_values = true
    )]
    pub master_key_command: Option<String>,
    /// Whether base URLs may reach private and loopback addresses: `private` or `public`
    /// [default: private while --listen is loopback, else public]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_NETWORKS", value_name = "NETWORKS")]
    pub upstream_networks: Option<String>,
    /// How long connecting to a provider may take, where a policy says nothing else [default: 5s]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_CONNECT_TIMEOUT", value_name = "TIME")]
    pub upstream_connect_timeout: Option<String>,
    /// The most idle connections that are kept to each provider [default: 256]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_IDLE_CONNECTIONS", value_name = "COUNT")]
    pub upstream_idle_connections: Option<usize>,
    /// How long an idle connection to a provider is kept [default: 50s]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_IDLE_TIME", value_name = "TIME")]
    pub upstream_idle_time: Option<String>,
    /// The largest answer of a provider that is read as a whole, such as `96MiB` [default: 96MiB]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_MAX_ANSWER", value_name = "SIZE")]
    pub upstream_max_answer: Option<String>,
    /// Authorities that sign providers' certificates, beside those the system trusts, in PEM
    #[arg(long, global = true, env = "ROTA_UPSTREAM_CA", value_name = "FILE")]
    pub upstream_ca: Option<PathBuf>,
    /// A proxy for all calls to providers: `http://host:port` or `https://…`. Which names lead where is then the proxy's
    /// to judge [default: none]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_PROXY", value_name = "URL", hide_env_values = true)]
    pub upstream_proxy: Option<String>,
    /// The largest gRPC message in, such as `32MiB` [default: 32MiB]
    #[arg(long, global = true, env = "ROTA_MAX_MESSAGE_SIZE", value_name = "SIZE")]
    pub max_message_size: Option<String>,
    /// How long a call without a deadline of its own may take [default: 600s]
    #[arg(long, global = true, env = "ROTA_DEFAULT_DEADLINE", value_name = "TIME")]
    pub default_deadline: Option<String>,
    /// The server's certificate and those that lead from it to an authority, in PEM [default: none, plain text]
    #[arg(long, global = true, env = "ROTA_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, global = true, env = "ROTA_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Authorities of clients, in PEM: who has no certificate of theirs is turned away [default: none is asked for]
    #[arg(long, global = true, env = "ROTA_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// The most connections at once; others are closed at once [default: 10000]
    #[arg(long, global = true, env = "ROTA_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<usize>,
    /// How long a request may take to come in whole [default: 60s]
    #[arg(long, global = true, env = "ROTA_RECEIVE_TIMEOUT", value_name = "TIME")]
    pub receive_timeout: Option<String>,
    /// The most calls that are served at once; others are told OVERLOADED [default: 10000]
    #[arg(long, global = true, env = "ROTA_MAX_CALLS", value_name = "COUNT")]
    pub max_calls: Option<usize>,
    /// The most calls at once on one connection; a client's others wait [default: 1000]
    #[arg(long, global = true, env = "ROTA_MAX_CALLS_PER_CONNECTION", value_name = "COUNT")]
    pub max_calls_per_connection: Option<u32>,
    /// The most calls of one tenant that this replica serves at once; 0 is no limit [default: 0]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_CALLS", value_name = "COUNT")]
    pub tenant_max_calls: Option<usize>,
    /// The most calls of one tenant that this replica begins in a second, that many of them at once; 0 is no limit
    /// [default: 0]
    #[arg(long, global = true, env = "ROTA_TENANT_CALLS_PER_SECOND", value_name = "COUNT")]
    pub tenant_calls_per_second: Option<u32>,
    /// How many models have metrics of their own; the rest share the label `other` [default: 200]
    #[arg(long, global = true, env = "ROTA_METRICS_MODELS", value_name = "COUNT")]
    pub metrics_models: Option<usize>,
    /// The collector that traces are sent to by OTLP over gRPC: `http://host:port` or `https://…` [default: no traces]
    #[arg(long, global = true, env = "ROTA_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// The share of calls that are traced, from 0 to 1, where the caller's trace context does not say [default: 1]
    #[arg(long, global = true, env = "ROTA_TRACE_SAMPLE", value_name = "SHARE")]
    pub trace_sample: Option<f64>,
    /// How long a start waits for PostgreSQL [default: 60s]
    #[arg(long, global = true, env = "ROTA_START_WAIT", value_name = "TIME")]
    pub start_wait: Option<String>,
    /// How long calls are still taken after SIGTERM, while health says NOT_SERVING, so that clients and load balancers go
    /// elsewhere before they are turned away [default: 0s]
    #[arg(long, global = true, env = "ROTA_DRAIN_DELAY", value_name = "TIME")]
    pub drain_delay: Option<String>,
    /// How long calls in flight may take to end after that [default: 30s]
    #[arg(long, global = true, env = "ROTA_DRAIN_LIMIT", value_name = "TIME")]
    pub drain_limit: Option<String>,
    /// Retries after server errors, timeouts and broken connections, per call and model [default: 0.2]
    #[arg(long, global = true, env = "ROTA_RETRY_SHARE", value_name = "SHARE")]
    pub retry_share: Option<f32>,
    /// Retries a second per model and replica, beside that share [default: 10]
    #[arg(long, global = true, env = "ROTA_RETRY_RATE", value_name = "COUNT")]
    pub retry_rate: Option<u32>,
    /// What is logged, as in `info` or `rota=debug,info` [default: info]
    #[arg(long, global = true, env = "ROTA_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// `pretty` or `json` [default: pretty]
    #[arg(long, global = true, env = "ROTA_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The file read where it exists, in the working directory.
pub const FILE: &str = "rota.toml";

impl RawSettings {
    /// Fills what flags and environment leave open from the file at `path`, where it exists.
    ///
    /// # Errors
    /// Where it cannot be read or holds what is no setting.
    pub fn over_file(self, path: &Path) -> Result<Self, SettingsError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(SettingsError(vec![format!("{}: {error}", path.display())])),
        };
        // The message alone: the whole error quotes the line, which may hold a password.
        let file: Self = toml::from_str(&text)
            .map_err(|error| SettingsError(vec![format!("{}: {}", path.display(), error.message())]))?;
        Ok(Self {
            listen: self.listen.or(file.listen),
            admin_listen: self.admin_listen.or(file.admin_listen),
            data_dir: self.data_dir.or(file.data_dir),
            database_url: self.database_url.or(file.database_url),
            database_connections: self.database_connections.or(file.database_connections),
            database_wait: self.database_wait.or(file.database_wait),
            database_statement_timeout: self.database_statement_timeout.or(file.database_statement_timeout),
            database_log: self.database_log.or(file.database_log),
            redis_url: self.redis_url.or(file.redis_url),
            redis_ca: self.redis_ca.or(file.redis_ca),
            redis_timeout: self.redis_timeout.or(file.redis_timeout),
            turns: self.turns.or(file.turns),
            redis_required: self.redis_required.or(file.redis_required),
            master_key_file: self.master_key_file.or(file.master_key_file),
            master_key_command: self.master_key_command.or(file.master_key_command),
            upstream_networks: self.upstream_networks.or(file.upstream_networks),
            upstream_connect_timeout: self.upstream_connect_timeout.or(file.upstream_connect_timeout),
            upstream_idle_connections: self.upstream_idle_connections.or(file.upstream_idle_connections),
            upstream_idle_time: self.upstream_idle_time.or(file.upstream_idle_time),
            upstream_max_answer: self.upstream_max_answer.or(file.upstream_max_answer),
            upstream_ca: self.upstream_ca.or(file.upstream_ca),
            upstream_proxy: self.upstream_proxy.or(file.upstream_proxy),
            max_message_size: self.max_message_size.or(file.max_message_size),
            default_deadline: self.default_deadline.or(file.default_deadline),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            tls_client_ca: self.tls_client_ca.or(file.tls_client_ca),
            max_connections: self.max_connections.or(file.max_connections),
            receive_timeout: self.receive_timeout.or(file.receive_timeout),
            max_calls: self.max_calls.or(file.max_calls),
            max_calls_per_connection: self.max_calls_per_connection.or(file.max_calls_per_connection),
            tenant_max_calls: self.tenant_max_calls.or(file.tenant_max_calls),
            tenant_calls_per_second: self.tenant_calls_per_second.or(file.tenant_calls_per_second),
            metrics_models: self.metrics_models.or(file.metrics_models),
            otlp_endpoint: self.otlp_endpoint.or(file.otlp_endpoint),
            trace_sample: self.trace_sample.or(file.trace_sample),
            start_wait: self.start_wait.or(file.start_wait),
            drain_delay: self.drain_delay.or(file.drain_delay),
            drain_limit: self.drain_limit.or(file.drain_limit),
            retry_share: self.retry_share.or(file.retry_share),
            retry_rate: self.retry_rate.or(file.retry_rate),
            log: self.log.or(file.log),
            log_format: self.log_format.or(file.log_format),
        })
    }
}
