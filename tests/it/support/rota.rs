//! The built `rota`, run as a service.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rota::api::pb::{
    admin_service_client::AdminServiceClient, config_service_client::ConfigServiceClient,
    invoke_service_client::InvokeServiceClient,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{eventually, postgres::Postgres, process::Process, redis::Redis};

/// How to start a Rota. Each [`start`](Self::start) makes a replica of its own: same settings, same master key, and
/// its own data directory where none is given.
#[derive(Clone, Default)]
pub struct Builder {
    redis: Option<String>,
    database: Option<String>,
    data_dir: Option<Arc<TempDir>>,
    env: Vec<(String, String)>,
    args: Vec<String>,
    under: Vec<String>,
    patience: Option<Duration>,
}

impl Builder {
    /// Waits for up to so long until it serves.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = Some(limit);
        self
    }

    /// Shares state through the Redis at `url`.
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.redis = Some(url.into());
        self
    }

    /// Takes that Redis at its word only where the authority in this file has signed it.
    pub fn redis_ca(self, file: &Path) -> Self {
        self.arg("--redis-ca").arg(file.to_string_lossy())
    }

    /// Keeps its catalog in the PostgreSQL database at `url`, under a random master key.
    pub fn database(mut self, url: impl Into<String>) -> Self {
        self.database = Some(url.into());
        let key: [u8; 32] = rand::random();
        self.env("ROTA_MASTER_KEY", BASE64_STANDARD.encode(key))
    }

    /// Works in this folder instead of one of its own.
    pub fn data_dir(mut self, folder: Arc<TempDir>) -> Self {
        self.data_dir = Some(folder);
        self
    }

    /// Sets an environment variable; the last one of a name holds.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Lets it have so many descriptors.
    pub fn descriptors(self, most: usize) -> Self {
        self.under(&["sh", "-c", &format!(r#"ulimit -n {most}; exec "$0" "$@""#)])
    }

    /// Adds an argument to `rota serve`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Is started by that program, which is to become it.
    pub fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Runs another command than `rota serve` to its end, with the same settings.
    pub fn output(&self, args: &[&str]) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let mut command = self.command(folder.path());
        command.args(args).stdin(Stdio::null());
        let data_dir = self.data_dir.as_ref().map(|folder| folder.path().to_string_lossy().into_owned());
        for (name, value) in [
            ("ROTA_DATABASE_URL", &self.database),
            ("ROTA_REDIS_URL", &self.redis),
            ("ROTA_DATA_DIR", &data_dir),
        ] {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.output().unwrap()
    }

    /// Starts it and waits until it serves.
    pub async fn start(&self) -> Rota {
        self.try_start().await.unwrap_or_else(|log| panic!("rota serve does not start: {log}"))
    }

    /// The same, for a start that is to fail: `Err` holds its exit status and what it wrote.
    pub async fn try_start(&self) -> Result<Rota, String> {
        let settings = Self {
            data_dir: Some(self.data_dir.clone().unwrap_or_else(|| Arc::new(tempfile::tempdir().unwrap()))),
            ..self.clone()
        };
        let (process, address, run) = settings.run().await?;
        let rota = Rota { settings, process, address, run, operator_token: OnceCell::new() };
        rota.wait_until_serving().await;
        Ok(rota)
    }

    /// Starts the process and waits until it says where it listens.
    async fn run(&self) -> Result<(Process, String, TempDir), String> {
        // Apart from the data directory: a search for secrets there must not meet the log, nor the log of another run.
        let run = tempfile::tempdir().unwrap();
        let mut command = self.command(run.path());
        command.args(["serve", "--data-dir"]).arg(self.data_path());
        for flag in ["--listen", "--admin-listen", "--http-listen"] {
            if !self.args.iter().any(|arg| arg == flag) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        for (flag, url) in [("--redis-url", &self.redis), ("--database-url", &self.database)] {
            if let Some(url) = url {
                command.args([flag, url]);
            }
        }
        // A machine that is busy with other tests must not make Redis look away.
        if self.redis.is_some() && !self.args.iter().any(|arg| arg == "--redis-timeout") {
            command.args(["--redis-timeout", "5s"]);
        }
        command.args(&self.args);
        let mut process = Process::start_with_data(command, run.path(), &[self.data_path()], "KILL");
        let limit = self.patience.unwrap_or(Duration::from_secs(30));
        let address = process.wait_longer_for_line(limit, listening_address).await?;
        Ok((process, address, run))
    }

    /// `rota` with this environment and nothing of the developer's own settings.
    fn command(&self, folder: &Path) -> Command {
        let rota = env!("CARGO_BIN_EXE_rota");
        let mut command = match self.under.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(rota);
                command
            }
            None => Command::new(rota),
        };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROTA_") || name == "RUST_LOG")
        {
            command.env_remove(name);
        }
        command.current_dir(folder).env("NO_COLOR", "1").envs(self.env.iter().cloned());
        command
    }

    fn data_path(&self) -> &Path {
        self.data_dir.as_ref().expect("set before the start").path()
    }
}

/// The address in the log line `listening … 127.0.0.1:PORT`, whatever stands around it.
fn listening_address(line: &str) -> Option<String> {
    if line.contains(HTTP_LISTENING) { None } else { address_behind(line, "listening") }
}

/// The address behind those words.
fn address_behind(line: &str, words: &str) -> Option<String> {
    let (_, rest) = line.split_once(words)?;
    let (_, port) = rest.split_once("127.0.0.1:")?;
    let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
    (digits > 0).then(|| format!("127.0.0.1:{}", &port[..digits]))
}

/// What the log says of the HTTP door.
const HTTP_LISTENING: &str = "HTTP listening";

/// A running Rota. Dropped, it is killed.
pub struct Rota {
    settings: Builder,
    process: Process,
    address: String,
    /// Holds the log.
    run: TempDir,
    operator_token: OnceCell<String>,
}

impl Rota {
    /// With no more said: embedded, on SQLite and in-process state.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// An embedded one that the tests of this process share. Whoever stops a Rota or reads its logs starts its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Rota> = OnceCell::const_new();
        SHARED.get_or_init(async || Self::builder().start().await).await
    }

    /// The same with its state on the shared Redis.
    pub async fn shared_on_redis() -> &'static Self {
        static SHARED: OnceCell<Rota> = OnceCell::const_new();
        SHARED.get_or_init(async || Self::builder().redis(Redis::shared().await.url()).start().await).await
    }

    /// The one on PostgreSQL that the tests of this process share, each with tenants of its own.
    pub async fn on_postgres() -> &'static Self {
        static SHARED: OnceCell<Rota> = OnceCell::const_new();
        SHARED
            .get_or_init(async || {
                let database = Postgres::shared().await.fresh_database();
                Self::builder().database(database).start().await
            })
            .await
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where its HTTP door is: `127.0.0.1:PORT`.
    pub async fn http(&self) -> String {
        eventually(Duration::from_secs(5), async || {
            let logs = self.logs();
            logs.lines().find_map(|line| address_behind(line, HTTP_LISTENING)).ok_or(logs.clone())
        })
        .await
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.settings.data_path().to_owned()
    }

    /// Runs another command to its end, with its settings and data.
    pub fn output(&self, args: &[&str]) -> Output {
        self.settings.output(args)
    }

    /// What it has written so far, standard output and standard error together.
    pub fn logs(&self) -> String {
        self.process.log()
    }

    /// Kills it as a crash would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Asks it to end; see [`wait_exit`](Self::wait_exit).
    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    /// Sends a signal, such as `INT`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for its end; fails after `limit`.
    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit).await
    }

    /// Kills it where it still runs and starts it again with the same settings and data; on another port, unless it was
    /// given one.
    pub async fn restart(&mut self) {
        self.process.kill9();
        let restarted = self.settings.run().await.unwrap_or_else(|log| panic!("no restart: {log}"));
        (self.process, self.address, self.run) = restarted;
        self.wait_until_serving().await;
    }

    /// Its resident memory in KiB; none where the system does not say it as Linux does.
    pub fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        Some(line.split_whitespace().nth(1).unwrap().parse().unwrap())
    }

    /// How many descriptors it has open; none where the system does not say it as Linux does.
    pub fn descriptors(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.process.id())).ok()?.count())
    }

    /// The secret of an operator's token: the one it made at its first start on SQLite, or one made by
    /// `rota token create` on PostgreSQL.
    pub async fn operator_token(&self) -> &str {
        self.operator_token
            .get_or_init(async || {
                if self.settings.database.is_none() {
                    let file = self.data_dir().join("operator-token");
                    let secret = fs::read_to_string(&file)
                        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                    return secret.trim().to_owned();
                }
                let output = self.settings.output(&["token", "create", "--role", "operator"]);
                let problem = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "rota token create: {problem}");
                String::from_utf8(output.stdout).unwrap().trim().to_owned()
            })
            .await
    }

    /// Clients that act as the operator.
    pub async fn operator(&self) -> Clients {
        self.clients(self.operator_token().await).await
    }

    /// Clients that send `token`, on a connection of their own.
    pub async fn clients(&self, token: &str) -> Clients {
        Clients::over(self.channel().await, token)
    }

    /// A connection without a token.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap_or_else(|error| panic!("{error:?}; its log:\n{}", self.logs()))
    }

    /// What `grpc.health.v1` says of a service; `""` is the whole.
    pub async fn health(&self, service: &str) -> Result<ServingStatus, Status> {
        let request = HealthCheckRequest { service: service.to_owned() };
        Ok(HealthClient::new(self.channel().await).check(request).await?.into_inner().status())
    }

    /// Where it answers plain HTTP.
    pub async fn probes(&self) -> String {
        eventually(Duration::from_secs(5), async || {
            let logs = self.logs();
            let line = logs.lines().find(|line| line.contains("probes and metrics over HTTP"));
            line.and_then(|line| Some(line.split("address=").nth(1)?.trim().to_owned())).ok_or(logs.clone())
        })
        .await
    }

    /// Its metrics as text.
    pub async fn metrics(&self) -> String {
        let answer = reqwest::get(format!("http://{}/metrics", self.probes().await)).await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        let text = answer.text().await.unwrap();
        assert!(text.ends_with("# EOF\n"));
        text
    }

    async fn wait_until_serving(&self) {
        eventually(Duration::from_secs(30), async || match self.health("").await {
            Ok(ServingStatus::Serving) => Ok(()),
            other => Err(format!("health is {other:?}; its log:\n{}", self.logs())),
        })
        .await;
    }
}

/// One client a service. Cheap to clone: a clone shares the connection.
#[derive(Clone)]
pub struct Clients {
    pub admin: AdminServiceClient<Authenticated>,
    pub config: ConfigServiceClient<Authenticated>,
    pub invoke: InvokeServiceClient<Authenticated>,
    /// What they share.
    pub connection: Authenticated,
}

impl Clients {
    /// Clients that send `token` over that connection.
    pub fn over(channel: Channel, token: &str) -> Self {
        let bearer = Bearer(format!("Bearer {token}").parse().unwrap());
        let connection = InterceptedService::new(channel, bearer);
        Self {
            admin: AdminServiceClient::new(connection.clone()),
            config: ConfigServiceClient::new(connection.clone()),
            invoke: InvokeServiceClient::new(connection.clone()),
            connection,
        }
    }
}

/// A connection that sends a token with every call.
pub type Authenticated = InterceptedService<Channel, Bearer>;

/// Adds `authorization: Bearer …`.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

#[test]
fn the_address_is_found_in_every_form_of_the_log_line() {
    for line in [
        "2026-11-23T08:00:00Z  INFO rota::app: listening address=127.0.0.1:4711 admin=none",
        "\u{1b}[32m INFO\u{1b}[0m listening \u{1b}[3maddress\u{1b}[0m\u{1b}[2m=\u{1b}[0m127.0.0.1:4711",
        r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:4711"}}"#,
    ] {
        assert_eq!(listening_address(line).as_deref(), Some("127.0.0.1:4711"), "{line}");
    }
    assert_eq!(listening_address("connected to 127.0.0.1:6379"), None);
    assert_eq!(listening_address("HTTP listening address=127.0.0.1:4711"), None);
    assert_eq!(listening_address("listening address=127.0.0.1:"), None);
}

/// Runs each test on both databases. A test takes `&'static Rota`.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name($crate::support::rota::Rota::shared().await).await; })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name($crate::support::rota::Rota::on_postgres().await).await; })*
        }
    };
}
pub(crate) use on_both_databases;
