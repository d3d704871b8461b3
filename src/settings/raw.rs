//! Every setting as it is given: its flag, its environment variable, its key in `rota.toml`, and what it means.

use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

// Headings of `--help`, which the reference of settings in docs/ has too.
const SERVING: &str = "Serving";
const DATABASE: &str = "Database";
const REDIS: &str = "Redis";
const PROVIDERS: &str = "Providers";
const LIMITS: &str = "Calls and limits";
const STORED: &str = "What tenants may store";
const REPORTS: &str = "Logs, metrics and traces";
const MASTER_KEY: &str = "Master key, if not in ROTA_MASTER_KEY";

/// Settings as they are given. All are optional: [`Settings::resolve`](super::Settings::resolve) checks them and fills in
/// the defaults. Most are text, so that one start reports every bad value and not the first alone.
#[derive(Args, Deserialize, Clone, Default)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawSettings {
    /// The address that serves gRPC [default: 127.0.0.1:50051]
    #[arg(long, global = true, env = "ROTA_LISTEN", value_name = "ADDRESS", help_heading = SERVING)]
    pub listen: Option<String>,
    /// The address that serves /livez, /readyz and /metrics over plain HTTP [default: 127.0.0.1:9464, or none if that is
    /// taken]
    #[arg(long, global = true, env = "ROTA_ADMIN_LISTEN", value_name = "ADDRESS", help_heading = SERVING)]
    pub admin_listen: Option<String>,
    /// The address that serves the protocols of OpenAI, Anthropic and Gemini over HTTP. Empty: none [default:
    /// 127.0.0.1:8080, or none if that is taken]
    #[arg(long, global = true, env = "ROTA_HTTP_LISTEN", value_name = "ADDRESS", help_heading = SERVING)]
    pub http_listen: Option<String>,
    /// The names under which --http-listen is reached, beside those of loopback and its own address, such as
    /// `rota.example,*.svc.cluster.local`; `*` is any. Requests for other hosts are refused [default: none]
    #[arg(long, global = true, env = "ROTA_ALLOWED_HOSTS", value_name = "NAMES", help_heading = SERVING)]
    pub allowed_hosts: Option<String>,
    /// The server's certificate and those that lead from it to an authority, in PEM [default: none, plain text]
    #[arg(long, global = true, env = "ROTA_TLS_CERT", value_name = "FILE", help_heading = SERVING)]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, global = true, env = "ROTA_TLS_KEY", value_name = "FILE", help_heading = SERVING)]
    pub tls_key: Option<PathBuf>,
    /// The authorities of clients, in PEM. Clients without a certificate of theirs are refused [default: none is asked
    /// for]
    #[arg(long, global = true, env = "ROTA_TLS_CLIENT_CA", value_name = "FILE", help_heading = SERVING)]
    pub tls_client_ca: Option<PathBuf>,
    /// How long a start waits for PostgreSQL [default: 60s]
    #[arg(long, global = true, env = "ROTA_START_WAIT", value_name = "TIME", help_heading = SERVING)]
    pub start_wait: Option<String>,
    /// How long to take new calls after SIGTERM, while health says NOT_SERVING. It gives clients and load balancers time to
    /// go elsewhere before they are refused [default: 0s]
    #[arg(long, global = true, env = "ROTA_DRAIN_DELAY", value_name = "TIME", help_heading = SERVING)]
    pub drain_delay: Option<String>,
    /// How long to wait after that for calls in flight to end [default: 30s]
    #[arg(long, global = true, env = "ROTA_DRAIN_LIMIT", value_name = "TIME", help_heading = SERVING)]
    pub drain_limit: Option<String>,

    /// The directory of the SQLite database, the master key and the operator's token [default: ./rota-data]
    #[arg(long, global = true, env = "ROTA_DATA_DIR", value_name = "DIRECTORY", help_heading = DATABASE)]
    pub data_dir: Option<PathBuf>,
    /// The database: `sqlite://…` or `postgres://…` [default: SQLite in the data directory]
    #[arg(long, global = true, env = "ROTA_DATABASE_URL", value_name = "URL", hide_env_values = true, help_heading = DATABASE)]
    pub database_url: Option<String>,
    /// The most database connections of this replica [default: 8]
    #[arg(long, global = true, env = "ROTA_DATABASE_CONNECTIONS", value_name = "COUNT", help_heading = DATABASE)]
    pub database_connections: Option<u32>,
    /// The longest time to connect to the database, to wait for a free connection, or to wait for SQLite's write lock
    /// [default: 5s]
    #[arg(long, global = true, env = "ROTA_DATABASE_WAIT", value_name = "TIME", help_heading = DATABASE)]
    pub database_wait: Option<String>,
    /// The longest life of a connection to PostgreSQL. A new one goes where the name leads by then [default: 10m]
    #[arg(long, global = true, env = "ROTA_DATABASE_MAX_LIFETIME", value_name = "TIME", help_heading = DATABASE)]
    pub database_max_lifetime: Option<String>,
    /// The longest time that a statement may run on PostgreSQL [default: 10s]
    #[arg(long, global = true, env = "ROTA_DATABASE_STATEMENT_TIMEOUT", value_name = "TIME", help_heading = DATABASE)]
    pub database_statement_timeout: Option<String>,
    /// Log every SQL statement, without its values [default: off]
    #[arg(long, global = true, env = "ROTA_DATABASE_LOG", value_name = "true|false", hide_possible_values = true, num_args = 0..=1, default_missing_value = "true", help_heading = DATABASE)]
    pub database_log: Option<bool>,

    /// The Redis that holds the state that all replicas share: `redis://…`, `redis-cluster://…` or `redis-sentinel://…`;
    /// `rediss…` with TLS [default: none, state in the process]
    #[arg(long, global = true, env = "ROTA_REDIS_URL", value_name = "URL", hide_env_values = true, help_heading = REDIS)]
    pub redis_url: Option<String>,
    /// The authorities that sign Redis's certificates, in PEM [default: those the system trusts]
    #[arg(long, global = true, env = "ROTA_REDIS_CA", value_name = "FILE", help_heading = REDIS)]
    pub redis_ca: Option<PathBuf>,
    /// The longest time of a Redis command. A command that takes longer has failed, and Redis counts as away
    /// [default: 250ms]
    #[arg(long, global = true, env = "ROTA_REDIS_TIMEOUT", value_name = "TIME", help_heading = REDIS)]
    pub redis_timeout: Option<String>,
    /// Do not start without Redis, and take no calls while it is away [default: go on without]
    #[arg(long, global = true, env = "ROTA_REDIS_REQUIRED",
        value_name = "true|false",
        hide_possible_values = true, num_args = 0..=1, default_missing_value = "true", help_heading = REDIS)]
    pub redis_required: Option<bool>,

    /// Whether base URLs may reach private and loopback addresses: `private` or `public`
    /// [default: private while --listen and --http-listen are loopback, else public]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_NETWORKS", value_name = "NETWORKS", help_heading = PROVIDERS)]
    pub upstream_networks: Option<String>,
    /// The longest time to connect to a provider, unless a policy says otherwise [default: 5s]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_CONNECT_TIMEOUT", value_name = "TIME", help_heading = PROVIDERS)]
    pub upstream_connect_timeout: Option<String>,
    /// The most idle connections to keep to each provider [default: 256]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_IDLE_CONNECTIONS", value_name = "COUNT", help_heading = PROVIDERS)]
    pub upstream_idle_connections: Option<usize>,
    /// The most connections to one host of a provider. Further calls wait until one is free, by turns of the tenants. A
    /// tenant gets at most three times what is free [default: 5000]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_CONNECTIONS_PER_HOST", value_name = "COUNT", help_heading = PROVIDERS)]
    pub upstream_connections_per_host: Option<usize>,
    /// The most connections to providers in all. A tenant gets at most three times what is free [default: 10000]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_CONNECTIONS", value_name = "COUNT", help_heading = PROVIDERS)]
    pub upstream_connections: Option<usize>,
    /// How long to keep an idle connection to a provider [default: 4s, and 50s over HTTP/2]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_IDLE_TIME", value_name = "TIME", help_heading = PROVIDERS)]
    pub upstream_idle_time: Option<String>,
    /// The longest time to use a connection to a provider. A new one asks the resolver again, so that a provider that has
    /// moved is found [default: 5m]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_CONNECTION_AGE", value_name = "TIME", help_heading = PROVIDERS)]
    pub upstream_connection_age: Option<String>,
    /// The largest answer of a provider, unless it is streamed, such as `96MiB` [default: 96MiB]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_MAX_ANSWER", value_name = "SIZE", help_heading = PROVIDERS)]
    pub upstream_max_answer: Option<String>,
    /// The memory for answers that are read whole, until their callers have them. An answer counts five times its size
    /// while it is read, and once and a fifth afterwards. A tenant gets at most three times what is free [default: 640MiB]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_ANSWER_MEMORY", value_name = "SIZE", help_heading = PROVIDERS)]
    pub upstream_answer_memory: Option<String>,
    /// Authorities that sign providers' certificates, in PEM, beside those the system trusts
    #[arg(long, global = true, env = "ROTA_UPSTREAM_CA", value_name = "FILE", help_heading = PROVIDERS)]
    pub upstream_ca: Option<PathBuf>,
    /// A proxy for calls to providers: `http://host:port` or `https://host:port`, or several by host, as in
    /// `openai.com=http://a:3128,http://b:3128`. The proxy then decides which names lead where [default: none]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_PROXY", value_name = "URL", hide_env_values = true, help_heading = PROVIDERS)]
    pub upstream_proxy: Option<String>,
    /// Hosts that are called without a proxy, as in `NO_PROXY`: `localhost,.corp,10.0.0.0/8` [default: none]
    #[arg(long, global = true, env = "ROTA_UPSTREAM_NO_PROXY", value_name = "HOSTS", help_heading = PROVIDERS)]
    pub upstream_no_proxy: Option<String>,

    /// The longest time of a call that has no deadline of its own [default: 600s]
    #[arg(long, global = true, env = "ROTA_DEFAULT_DEADLINE", value_name = "TIME", help_heading = LIMITS)]
    pub default_deadline: Option<String>,
    /// Retries per call and model after server errors, timeouts and broken connections [default: 0.2]
    #[arg(long, global = true, env = "ROTA_RETRY_SHARE", value_name = "SHARE", help_heading = LIMITS)]
    pub retry_share: Option<f32>,
    /// Retries a second, per model and replica, in addition to that share [default: 10]
    #[arg(long, global = true, env = "ROTA_RETRY_RATE", value_name = "COUNT", help_heading = LIMITS)]
    pub retry_rate: Option<u32>,
    /// The largest gRPC message to accept, such as `32MiB` [default: 32MiB]
    #[arg(long, global = true, env = "ROTA_MAX_MESSAGE_SIZE", value_name = "SIZE", help_heading = LIMITS)]
    pub max_message_size: Option<String>,
    /// The longest time for a whole request to arrive [default: 60s]
    #[arg(long, global = true, env = "ROTA_RECEIVE_TIMEOUT", value_name = "TIME", help_heading = LIMITS)]
    pub receive_timeout: Option<String>,
    /// The longest time in which a client may take nothing of an answer that is there. The streamed answers of calls have
    /// until their deadline instead [default: 60s]
    #[arg(long, global = true, env = "ROTA_SEND_TIMEOUT", value_name = "TIME", help_heading = LIMITS)]
    pub send_timeout: Option<String>,
    /// How much memory the requests that are served may take together, such as `256MiB`. Further ones are refused as
    /// OVERLOADED [default: 256MiB, or 8 times the largest message]
    #[arg(long, global = true, env = "ROTA_MAX_REQUEST_BYTES", value_name = "SIZE", help_heading = LIMITS)]
    pub max_request_bytes: Option<String>,
    /// The most connections at once. Further ones are closed [default: 10000]
    #[arg(long, global = true, env = "ROTA_MAX_CONNECTIONS", value_name = "COUNT", help_heading = LIMITS)]
    pub max_connections: Option<usize>,
    /// The most connections at once that have shown no valid token yet. The oldest is closed for a further one
    /// [default: 500]
    #[arg(long, global = true, env = "ROTA_MAX_CONNECTIONS_WITHOUT_TOKEN", value_name = "COUNT", help_heading = LIMITS)]
    pub max_connections_without_token: Option<usize>,
    /// The most calls at once. Further ones are refused as OVERLOADED [default: 10000]
    #[arg(long, global = true, env = "ROTA_MAX_CALLS", value_name = "COUNT", help_heading = LIMITS)]
    pub max_calls: Option<usize>,
    /// The longest life of a gRPC connection, give or take a tenth. Calls on it end as always; the client's next ones
    /// need a new connection, which may lead to another replica [default: 10m]
    #[arg(long, global = true, env = "ROTA_MAX_CONNECTION_AGE", value_name = "TIME", help_heading = LIMITS)]
    pub max_connection_age: Option<String>,
    /// The most calls at once on one connection. Further ones wait at the client [default: 1000]
    #[arg(long, global = true, env = "ROTA_MAX_CALLS_PER_CONNECTION", value_name = "COUNT", help_heading = LIMITS)]
    pub max_calls_per_connection: Option<u32>,
    /// The most calls of one tenant that this replica serves at once; 0 is no limit [default: half of --max-calls while
    /// another tenant is active]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_CALLS", value_name = "COUNT", help_heading = LIMITS)]
    pub tenant_max_calls: Option<usize>,
    /// The most leases (Acquire) that a model may have at once, over all replicas [default: 10000]
    #[arg(long, global = true, env = "ROTA_MAX_LEASES", value_name = "COUNT", help_heading = LIMITS)]
    pub max_leases: Option<u32>,
    /// The most watches of pools that one tenant may have at once. A replica takes four times as many in all [default: 500]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_WATCHES", value_name = "COUNT", help_heading = LIMITS)]
    pub tenant_max_watches: Option<usize>,
    /// The most calls of one tenant that this replica begins in a second, with bursts of the same number; 0 is no limit
    /// [default: 0]
    #[arg(long, global = true, env = "ROTA_TENANT_CALLS_PER_SECOND", value_name = "COUNT", help_heading = LIMITS)]
    pub tenant_calls_per_second: Option<u32>,

    /// The most configs of one model, at most 1000 [default: 1000]
    #[arg(long, global = true, env = "ROTA_MAX_CONFIGS_PER_MODEL", value_name = "COUNT", help_heading = STORED)]
    pub max_configs_per_model: Option<u64>,
    /// The most providers of one tenant [default: 100]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_PROVIDERS", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_providers: Option<u64>,
    /// The most credentials of one tenant [default: 10000]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_CREDENTIALS", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_credentials: Option<u64>,
    /// The most models of one tenant [default: 5000]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_MODELS", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_models: Option<u64>,
    /// The most aliases of one tenant [default: 1000]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_ALIASES", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_aliases: Option<u64>,
    /// The most configs of one tenant, over all of its models [default: 50000]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_CONFIGS", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_configs: Option<u64>,
    /// The most tokens of one tenant [default: 1000]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_TOKENS", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_tokens: Option<u64>,
    /// The most changes of one tenant that wait for their turn on this replica. Further ones are refused as TENANT_LIMIT
    /// [default: 100]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_WAITING_CHANGES", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_waiting_changes: Option<u64>,
    /// How long audit events are kept [default: 365d]
    #[arg(long, global = true, env = "ROTA_AUDIT_RETENTION", value_name = "TIME", help_heading = STORED)]
    pub audit_retention: Option<String>,
    /// The most audit events of one tenant to keep. The oldest go first [default: 100000]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_AUDIT_EVENTS", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_audit_events: Option<u64>,
    /// How long the outbox is kept. A replica that was away for longer loads everything [default: 1d]
    #[arg(long, global = true, env = "ROTA_OUTBOX_RETENTION", value_name = "TIME", help_heading = STORED)]
    pub outbox_retention: Option<String>,
    /// The most rows of the outbox to keep. The oldest go first [default: 100000]
    #[arg(long, global = true, env = "ROTA_OUTBOX_MAX_ROWS", value_name = "COUNT", help_heading = STORED)]
    pub outbox_max_rows: Option<u64>,
    /// The most active health checks at once [default: 256]
    #[arg(long, global = true, env = "ROTA_MAX_HEALTH_CHECKS", value_name = "COUNT", help_heading = STORED)]
    pub max_health_checks: Option<u32>,
    /// The most active health checks of one tenant at once [default: 16]
    #[arg(long, global = true, env = "ROTA_TENANT_MAX_HEALTH_CHECKS", value_name = "COUNT", help_heading = STORED)]
    pub tenant_max_health_checks: Option<u32>,

    /// What to log, such as `info` or `rota=debug,info` [default: info]
    #[arg(long, global = true, env = "ROTA_LOG", value_name = "FILTER", help_heading = REPORTS)]
    pub log: Option<String>,
    /// How log lines look: `pretty` or `json` [default: pretty]
    #[arg(long, global = true, env = "ROTA_LOG_FORMAT", value_name = "FORMAT", help_heading = REPORTS)]
    pub log_format: Option<String>,
    /// How many models have metrics of their own. The others share the label `other` [default: 200]
    #[arg(long, global = true, env = "ROTA_METRICS_MODELS", value_name = "COUNT", help_heading = REPORTS)]
    pub metrics_models: Option<usize>,
    /// The collector that gets traces, by OTLP over gRPC: `http://host:port` or `https://host:port` [default: no traces]
    #[arg(long, global = true, env = "ROTA_OTLP_ENDPOINT", value_name = "URL", help_heading = REPORTS)]
    pub otlp_endpoint: Option<String>,
    /// The share of calls to trace, from 0 to 1, if the caller's trace context does not say [default: 1]
    #[arg(long, global = true, env = "ROTA_TRACE_SAMPLE", value_name = "SHARE", help_heading = REPORTS)]
    pub trace_sample: Option<f64>,

    /// A file that holds the master key ring
    #[arg(long, global = true, env = "ROTA_MASTER_KEY_FILE", value_name = "FILE", help_heading = MASTER_KEY)]
    pub master_key_file: Option<PathBuf>,
    /// A command for `sh -c` that writes the master key ring to its output
    #[arg(long, global = true, env = "ROTA_MASTER_KEY_COMMAND", value_name = "COMMAND", hide_env_values = true, help_heading = MASTER_KEY)]
    pub master_key_command: Option<String>,
}
