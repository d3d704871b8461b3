//! How Redis is reached: one server, a Cluster, or the primary that Sentinels name, each with TLS or without.
//!
//! One client serves all three. While a node of a Cluster is gone it connects again and again, asking the nodes it knows
//! who holds what, and serves nobody until all primaries are there: so a Cluster is there or away as a whole.

use super::{
    error::{RedisError, Result},
    script::{Run, Script},
};
use crate::tasks::Tasks;
use fred::{
    clients::WithOptions,
    interfaces::{ClientLike, ClusterInterface, EventInterface, ServerInterface},
    prelude::{Builder, Client, Config, Error, FromValue, ReconnectPolicy},
    types::{
        ConnectHandle,
        config::{ClusterDiscoveryPolicy, Options, ReconnectError, Server, ServerConfig, TlsConnector},
    },
    util::redis_keyslot,
};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::{Instant, timeout},
};

/// Beyond this many commands waiting for the server, further ones fail.
const MAX_QUEUED_COMMANDS: usize = 10_000;
/// The longest pause between two attempts to connect, in milliseconds.
const MAX_PAUSE: u32 = 200;
/// What connecting may take, in commands' timeouts.
const CONNECTING: u32 = 4;
/// A key of each primary is looked for among this many names: enough for a primary that holds one slot of 16384.
const NAMES: u32 = 200_000;

/// How a server is reached.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://`, `redis-cluster://` or `redis-sentinel://`, or the same with `rediss`; may hold a password.
    pub url: SecretString,
    /// The PEM of the authorities that sign the servers' certificates. None: those the system trusts.
    pub ca: Option<Vec<u8>>,
    /// A command that takes longer counts as failed.
    pub command_timeout: Duration,
    /// Is told of every script that was run: its name, whether the server has answered, and how long that took.
    pub watch: Option<CommandWatch>,
    /// Where the tasks run that need it.
    pub tasks: Tasks,
}

/// See [`RedisOptions::watch`].
pub type CommandWatch = Arc<dyn Fn(&'static str, bool, Duration) + Send + Sync>;

impl RedisOptions {
    /// The defaults for a server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            ca: None,
            command_timeout: Duration::from_millis(250),
            watch: None,
            tasks: Tasks::default(),
        }
    }

    /// Whether the URL is one of a server, a Cluster or Sentinels.
    #[must_use]
    pub fn has_valid_url(&self) -> bool {
        self.server().is_some()
    }

    /// Whether the URL asks for TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.expose_secret().starts_with("rediss")
    }

    /// Whether a PEM holds certificates, all of them usable.
    #[must_use]
    pub fn is_ca(pem: &[u8]) -> bool {
        authorities(pem).is_some()
    }

    /// Where the server is, TLS aside: fred would load the system's certificates, which a private authority replaces.
    fn server(&self) -> Option<Config> {
        let (scheme, rest) = self.url.expose_secret().split_once("://")?;
        let kind = scheme.strip_prefix("rediss").or_else(|| scheme.strip_prefix("redis"))?;
        if !["", "-cluster", "-sentinel"].contains(&kind) {
            return None;
        }
        Config::from_url(&format!("redis{kind}://{rest}")).ok()
    }

    /// The servers that the URL names.
    #[must_use]
    pub fn servers(&self) -> Vec<(String, u16)> {
        let servers = match self.server().map(|config| config.server) {
            Some(ServerConfig::Centralized { server }) => vec![server],
            Some(ServerConfig::Clustered { hosts, .. } | ServerConfig::Sentinel { hosts, .. }) => hosts,
            _ => Vec::new(),
        };
        servers.into_iter().map(|server| (server.host.to_string(), server.port)).collect()
    }

    fn tls(&self) -> Result<TlsConnector> {
        let Some(pem) = &self.ca else { return Ok(TlsConnector::default_rustls()?) };
        let roots = authorities(pem).ok_or_else(|| RedisError::new("no authority's certificate"))?;
        Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth().into())
    }

    /// How long connecting may take.
    pub(crate) fn patience(&self) -> Duration {
        self.command_timeout * CONNECTING
    }

    /// A client that has not connected yet, and knows these nodes of a cluster, or Sentinels.
    pub(crate) fn client(&self, nodes: &[Server]) -> Result<WithOptions<Client>> {
        let mut config = self.server().ok_or_else(|| RedisError::new("malformed Redis URL"))?;
        if let ServerConfig::Clustered { policy, .. } = &mut config.server {
            *policy = ClusterDiscoveryPolicy::UseCache;
        }
        if let ServerConfig::Clustered { hosts, .. } | ServerConfig::Sentinel { hosts, .. } =
            &mut config.server
        {
            let more: Vec<_> = nodes.iter().filter(|node| !hosts.contains(node)).cloned().collect();
            hosts.extend(more);
        }
        // Not at the first failure to connect.
        config.fail_fast = false;
        if self.is_encrypted() {
            config.tls = Some(self.tls()?.into());
        }
        let patience = self.patience();
        let client = Builder::from_config(config)
            .with_performance_config(|performance| {
                performance.default_command_timeout = self.command_timeout;
            })
            .with_connection_config(|connection| {
                connection.connection_timeout = patience;
                connection.internal_command_timeout = patience;
                // A script that may have run must not run again behind our back.
                connection.max_command_attempts = 1;
                // Following a redirection takes an attempt more, and an ASK without one ends fred's task for ever:
                // `Script::run` follows where a slot has moved.
                connection.max_redirections = 0;
                connection.max_command_buffer_len = MAX_QUEUED_COMMANDS;
                connection.unresponsive.max_timeout = Some(patience);
                connection.unresponsive.interval = self.command_timeout;
                // A primary that has become a replica says so and keeps the connection.
                connection.reconnect_errors.push(ReconnectError::MasterDown);
                connection.tcp.nodelay = Some(true);
            })
            // Without a policy fred never reconnects.
            .set_policy(ReconnectPolicy::new_exponential(0, 50, MAX_PAUSE, 2))
            .build()?;
        Ok(client.with_options(&Options { fail_fast: true, ..Options::default() }))
    }
}

/// A client that connects in the background, again and again, and can be replaced by a new one.
pub(crate) struct Connection {
    options: RedisOptions,
    current: Mutex<Current>,
}

struct Current {
    client: WithOptions<Client>,
    task: ConnectHandle,
    /// Known beside those of the URL, which may be the ones that are gone: nodes of a cluster, or Sentinels.
    nodes: Vec<Server>,
    problems: Receiver<(Error, Option<Server>)>,
    last_problem: Option<RedisError>,
}

impl Connection {
    /// Begins to connect.
    pub(crate) fn open(options: &RedisOptions) -> Result<Self> {
        Ok(Self { options: options.clone(), current: Mutex::new(Current::begin(options, Vec::new())?) })
    }

    /// What commands go through now.
    pub(crate) fn client(&self) -> WithOptions<Client> {
        self.current.lock().client.clone()
    }

    /// The answer to a script, told to who watches.
    pub(crate) async fn run<T: FromValue>(&self, script: &Script, run: Run) -> Result<T> {
        let (client, began) = (self.client(), Instant::now());
        // In a box: the client's future is some 14 KiB, which all who wait for a command would hold.
        let answer = Box::pin(script.run(&client, run)).await;
        if let Some(watch) = &self.options.watch {
            watch(script.name, answer.is_ok(), began.elapsed());
        }
        answer
    }

    /// A key of each primary, among those that `name` gives to numbers.
    pub(crate) fn key_of_each_primary(&self, name: impl Fn(u32) -> String) -> Vec<String> {
        let Some(cluster) = self.client().cached_cluster_state() else { return vec![name(0)] };
        let mut primaries: HashSet<_> = cluster.unique_primary_nodes().into_iter().collect();
        let count = primaries.len();
        let mut is_new = |key: &String| {
            cluster.get_server(redis_keyslot(key.as_bytes())).is_some_and(|server| primaries.remove(server))
        };
        (0..NAMES).map(name).filter(|key| is_new(key)).take(count).collect()
    }

    /// Connects anew, and drops what is on its way: of a cluster that has lost a node, each command that still waits
    /// for it would make fred ask for the slots once more, one after the other, before anything else.
    pub(crate) fn renew(&self) {
        let mut current = self.current.lock();
        let last_problem = current.problem();
        let nodes = match current.client.cached_cluster_state() {
            Some(cluster) => cluster.unique_primary_nodes(),
            None => current.client.sentinel_nodes().unwrap_or_else(|| current.nodes.clone()),
        };
        match Current::begin(&self.options, nodes) {
            Ok(begun) => {
                current.task.abort();
                *current = Current { last_problem, ..begun };
            }
            Err(error) => current.last_problem = Some(error),
        }
    }

    /// Why the connection that is there now breaks, once it does. None where it is replaced.
    pub(crate) fn broken(&self) -> impl Future<Output = Option<RedisError>> + use<> {
        let mut problems = self.current.lock().client.error_rx();
        async move {
            loop {
                match problems.recv().await {
                    Ok((error, _)) => return Some(error.into()),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }

    /// Connects anew where fred has given up. It takes some answers, such as that of a server which is no cluster, for
    /// final, and an operator may mend them.
    pub(crate) fn renew_if_ended(&self) {
        let ended = self.current.lock().task.is_finished();
        if ended {
            self.renew();
        }
    }

    /// What it is asked, or why the connection was not there for that long.
    pub(crate) async fn within<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Result<T> {
        timeout(limit, answer).await.map_err(|_| {
            // What has kept it from connecting when it last tried.
            let problem = self.current.lock().problem();
            problem.unwrap_or_else(|| RedisError::new("it does not answer"))
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.current.lock().task.abort();
    }
}

impl Current {
    fn begin(options: &RedisOptions, nodes: Vec<Server>) -> Result<Self> {
        let client = options.client(&nodes)?;
        let problems = client.error_rx();
        Ok(Self { task: client.connect(), client, nodes, problems, last_problem: None })
    }

    fn problem(&mut self) -> Option<RedisError> {
        loop {
            match self.problems.try_recv() {
                Ok((error, _)) => self.last_problem = Some(error.into()),
                Err(TryRecvError::Lagged(_)) => {}
                Err(_) => return self.last_problem.clone(),
            }
        }
    }
}

fn authorities(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
}
