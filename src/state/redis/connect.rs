//! How Redis is reached: one server, a Cluster, or the primary that Sentinels name, each with TLS or without.
//!
//! One client serves all three. While a node of a Cluster is gone it connects again and again, asking the nodes it knows
//! who holds what, and serves nobody until all primaries are there: so a Cluster is there or away as a whole.

use super::state_error;
use crate::state::StateError;
use fred::{
    clients::WithOptions,
    prelude::{Builder, Client, ClientLike, Config, ReconnectPolicy},
    types::{
        ConnectHandle,
        config::{ClusterDiscoveryPolicy, Options, ReconnectError, ServerConfig, TlsConnector},
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::time::sleep;

/// Beyond this many commands waiting for the server, further ones fail.
const MAX_QUEUED_COMMANDS: usize = 10_000;
/// The longest pause between two attempts to connect, in milliseconds.
const MAX_PAUSE: u32 = 500;
/// What connecting may take, in commands' timeouts.
const CONNECTING: u32 = 4;

/// How a [`RedisStore`](super::RedisStore) reaches its server.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://`, `redis-cluster://` or `redis-sentinel://`, or the same with `rediss`; may hold a password.
    pub url: SecretString,
    /// The PEM of the authorities that sign the servers' certificates. None: those the system trusts.
    pub ca: Option<Vec<u8>>,
    /// A command that takes longer counts as failed.
    pub command_timeout: Duration,
}

impl RedisOptions {
    /// The defaults for a server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: SecretString::from(url.into()), ca: None, command_timeout: Duration::from_millis(250) }
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
        let mut config = Config::from_url(&format!("redis{kind}://{rest}")).ok()?;
        if let ServerConfig::Clustered { policy, .. } = &mut config.server {
            // The nodes of the URL may be the ones that are gone.
            *policy = ClusterDiscoveryPolicy::UseCache;
        }
        Some(config)
    }

    fn tls(&self) -> Result<TlsConnector, StateError> {
        let Some(pem) = &self.ca else { return TlsConnector::default_rustls().map_err(state_error) };
        let roots = authorities(pem).ok_or_else(|| StateError("no authority's certificate".into()))?;
        Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth().into())
    }

    /// A client that has not connected yet. `once`: the first failure to connect is the last.
    pub(super) fn client(&self, once: bool) -> Result<WithOptions<Client>, StateError> {
        let mut config = self.server().ok_or_else(|| StateError("malformed Redis URL".into()))?;
        config.fail_fast = once;
        if self.is_encrypted() {
            config.tls = Some(self.tls()?.into());
        }
        let patience = self.command_timeout * CONNECTING;
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
            .build()
            .map_err(state_error)?;
        Ok(client.with_options(&Options { fail_fast: true, ..Options::default() }))
    }
}

/// Goes on connecting where fred gives up: it takes some answers, such as that of a server which is no Cluster, for
/// final, and an operator may mend them.
pub(super) fn keep_connected(client: WithOptions<Client>, mut connection: ConnectHandle) {
    tokio::spawn(async move {
        loop {
            drop(connection.await);
            sleep(Duration::from_millis(MAX_PAUSE.into())).await;
            connection = client.connect();
        }
    });
}

fn authorities(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
}
