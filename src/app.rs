//! Puts everything together: the one place that knows every concrete type.

use crate::{
    api::{Admin, ConfigApi, Gate, InvokeApi, pb},
    catalog::{Catalog, MasterKeySource, NewToken, OpenOptions, Role},
    health,
    invoke::{Engine, Timeouts},
    provider::{Drivers, UpstreamClient},
    settings::Settings,
    state::{MemoryStore, RedisOptions, RedisStore, StateStore},
};
use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codec::CompressionEncoding, transport::Server};

/// Connections that stay open after the last call has ended, such as those of health watchers, get this long.
const CLOSING: Duration = Duration::from_secs(1);

/// A service that is up.
pub struct App {
    address: SocketAddr,
    catalog: Catalog,
    state: Arc<dyn StateStore>,
    drain_limit: Duration,
    /// No new calls.
    draining: CancellationToken,
    /// No calls at all.
    stop: CancellationToken,
    inside: TaskTracker,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Opens the catalog of these settings, with its schema up to date.
///
/// # Errors
/// Where the database, the data directory or the master key cannot be used.
pub async fn open_catalog(settings: &Settings) -> Result<Catalog> {
    if settings.embedded {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.data_dir).with_context(|| {
            format!("the data directory {} cannot be made", settings.data_dir.display())
        })?;
    }
    let master_key = match &settings.master_key {
        Some(key) => MasterKeySource::Value(key.clone()),
        None => MasterKeySource::File(settings.master_key_file()),
    };
    let catalog = Catalog::open(OpenOptions {
        database_url: settings.database_url.clone(),
        master_key,
        networks: settings.networks,
        max_connections: settings.database_connections,
    })
    .await?;
    catalog.migrate().await?;
    Ok(catalog)
}

impl App {
    /// Starts serving. Returns when the port is open and the first snapshot loaded.
    ///
    /// # Errors
    /// Where a dependency or the port cannot be had. What had been started is stopped.
    pub async fn start(settings: &Settings) -> Result<Self> {
        let catalog = open_catalog(settings).await?;
        if settings.embedded && catalog.is_empty().await? {
            let file = settings.operator_token_file();
            write_operator_token(&catalog, &file).await?;
            tracing::info!(file = %file.display(), "first start: the operator's token is in this file");
        }
        let state: Arc<dyn StateStore> = match &settings.redis_url {
            Some(url) => Arc::new(RedisStore::connect(&RedisOptions::new(url.expose_secret())).await?),
            None => Arc::new(MemoryStore::default()),
        };
        catalog.load().await.context("the first snapshot")?;

        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen on {}", settings.listen))?;
        let address = listener.local_addr()?;
        let (draining, stop, inside) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let server = serve(settings, &catalog, &state, listener, &draining, &stop, &inside).await?;
        tokio::spawn(catalog.clone().follow(draining.clone()));
        tracing::info!(%address, "listening");
        Ok(Self {
            address,
            catalog,
            state,
            drain_limit: settings.drain_limit,
            draining,
            stop,
            inside,
            server,
        })
    }

    /// Where gRPC is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The catalog served.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Says NOT_SERVING, takes no new calls, waits for those in flight up to the drain limit, ends the rest.
    pub async fn shut_down(self) {
        tracing::info!(in_flight = self.inside.len(), "draining");
        self.draining.cancel();
        self.inside.close();
        if timeout(self.drain_limit, self.inside.wait()).await.is_err() {
            tracing::warn!(in_flight = self.inside.len(), "the drain limit is over: ending what is in flight");
        }
        self.stop.cancel();
        let aborted = self.server.abort_handle();
        if timeout(CLOSING, self.server).await.is_err() {
            aborted.abort();
        }
        // Leases of calls that were cut off give themselves back above; this writes it.
        self.state.flush().await;
        tracing::info!("stopped");
    }
}

async fn serve(
    settings: &Settings,
    catalog: &Catalog,
    state: &Arc<dyn StateStore>,
    listener: TcpListener,
    draining: &CancellationToken,
    stop: &CancellationToken,
    inside: &TaskTracker,
) -> Result<JoinHandle<Result<(), tonic::transport::Error>>> {
    let drivers = Drivers::new(UpstreamClient::new(settings.networks)?);
    let engine = Arc::new(Engine::new(state.clone(), drivers.clone(), Timeouts::default()));
    let (reporter, health_service) = tonic_health::server::health_reporter();
    health::not_serving(&reporter).await;
    tokio::spawn(health::follow(reporter, catalog.clone(), draining.clone()));

    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Compressed requests are understood everywhere; answers go out as they are, since most are small.
    let gzip = CompressionEncoding::Gzip;
    let limit = settings.max_message_size;
    let invoke = InvokeApi::new(catalog.clone(), engine, settings.default_deadline, stop.clone());
    let router = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .layer(Gate::new(catalog.clone(), draining.clone(), inside.clone()))
        .add_service(health_service.accept_compressed(gzip))
        .add_service(reflection().build_v1()?.accept_compressed(gzip))
        .add_service(reflection().build_v1alpha()?.accept_compressed(gzip))
        .add_service(
            pb::admin_service_server::AdminServiceServer::new(Admin::new(catalog.clone()))
                .max_decoding_message_size(limit)
                .accept_compressed(gzip),
        )
        .add_service(
            pb::config_service_server::ConfigServiceServer::new(ConfigApi::new(
                catalog.clone(),
                state.clone(),
                drivers,
            ))
            .max_decoding_message_size(limit)
            .accept_compressed(gzip),
        )
        .add_service(
            pb::invoke_service_server::InvokeServiceServer::new(invoke)
                .max_decoding_message_size(limit)
                .accept_compressed(gzip),
        );
    let incoming = TcpListenerStream::new(listener);
    let drained = draining.clone().cancelled_owned();
    Ok(tokio::spawn(router.serve_with_incoming_shutdown(incoming, drained)))
}

async fn write_operator_token(catalog: &Catalog, path: &Path) -> Result<()> {
    let (_, secret) = catalog.create_token(operator("first start")).await?;
    let written = write_secret(path, &secret);
    written.with_context(|| format!("the operator's token cannot be written to {}", path.display()))
}

/// A token for the operator, to be made.
#[must_use]
pub fn operator(name: &str) -> NewToken {
    NewToken { role: Some(Role::Operator), name: name.to_owned(), ..NewToken::default() }
}

fn write_secret(path: &Path, secret: &SecretString) -> std::io::Result<()> {
    // An old file may belong to a database that is gone, and may be open to others.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", secret.expose_secret())
}
