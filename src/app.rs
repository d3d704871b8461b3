//! Puts everything together: the one place that knows every concrete type.

use crate::{
    api::{self, Admin, ConfigApi, GateLayer, InvokeApi, Services},
    catalog::{Catalog, MasterKeySource, NewToken, OpenError, OpenOptions, Role},
    gate::{self, Drain, Gate},
    health::{self, Readiness, RedisNeed, Serving},
    invoke::Engine,
    provider::{Drivers, UpstreamClient},
    settings::{MasterKey, Settings},
    state::{ChangeFeed, CommandWatch, MemoryStore, RedisOptions, RedisStore, ResilientStore, StateStore},
    telemetry::{Metrics, Traces},
};
use anyhow::{Context, Result, anyhow};
use sea_orm::DbErr;
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs,
    io::{self, ErrorKind, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Connections that stay open after the last call has ended, such as those of health watchers, get this long.
const CLOSING: Duration = Duration::from_secs(1);
/// A start waits for Redis this long, then goes on without.
const REDIS_AT_START: Duration = Duration::from_secs(2);

/// A start asks for the database after pauses that grow between these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A service that is up.
pub struct App {
    address: SocketAddr,
    catalog: Catalog,
    state: Arc<dyn StateStore>,
    drain_delay: Duration,
    drain_limit: Duration,
    drain: Drain,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    traces: Traces,
}

/// Opens the catalog of these settings, with its schema up to date.
///
/// # Errors
/// Where the database, the data directory or the master key cannot be used.
pub async fn open_catalog(settings: &Settings) -> Result<Catalog> {
    if settings.embedded {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&settings.data_dir)
            .with_context(|| format!("the data directory {} cannot be made", settings.data_dir.display()))?;
    }
    let (setting, master_key) = match settings.master_key.clone() {
        MasterKey::Value(ring) => ("ROTA_MASTER_KEY: ", MasterKeySource::Value(ring)),
        MasterKey::File(path) => ("--master-key-file: ", MasterKeySource::File(path)),
        MasterKey::Command(command) => ("--master-key-command: ", MasterKeySource::Command(command)),
        MasterKey::Own(path) => ("", MasterKeySource::OwnFile(path)),
    };
    let catalog = Catalog::open(OpenOptions {
        database_url: settings.database_url.expose_secret().to_owned(),
        master_key,
        networks: settings.upstream.networks,
        database: settings.database,
    })
    .await
    .map_err(|error| match error {
        OpenError::MasterKey(error) => anyhow!("{setting}{error}"),
        error => error.into(),
    })?;
    catalog.migrate().await?;
    Ok(catalog)
}

/// The same, after a wait where the database is away: whoever starts a fleet starts its parts in any order.
async fn wait_for_catalog(settings: &Settings) -> Result<Catalog> {
    let end = Instant::now() + settings.start_wait;
    let mut pause = FIRST_PAUSE;
    loop {
        match open_catalog(settings).await {
            Err(error) if !settings.embedded && is_away(&error) && Instant::now() + pause < end => {
                tracing::warn!(error = format!("{error:#}"), again_in = ?pause, "waiting for the database");
                sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Whether the database cannot be reached, rather than refuses.
fn is_away(error: &anyhow::Error) -> bool {
    let away = |error: &OpenError| {
        matches!(error, OpenError::Database(DbErr::Conn(_) | DbErr::ConnectionAcquire(_)))
    };
    error.downcast_ref().is_some_and(away)
}

impl App {
    /// Starts serving. Returns when the port is open and the first snapshot loaded.
    ///
    /// # Errors
    /// Where a dependency or the port cannot be had. What had been started is stopped.
    pub async fn start(settings: &Settings) -> Result<Self> {
        let metrics = Arc::new(Metrics::new(settings.metrics_models));
        let drain = Drain::default();
        let readiness = Readiness {
            draining: drain.leaving.clone(),
            serving: Arc::default(),
            redis: match (&settings.redis, settings.redis_required) {
                (None, _) => RedisNeed::None,
                (_, false) => RedisNeed::Wanted,
                (_, true) => RedisNeed::Required,
            },
            database_away: Arc::default(),
        };
        // First of all: a start may wait, and whoever probes should learn that the process lives.
        let wanted = settings.admin_listen;
        match health::serve_probes(wanted.address, readiness.clone(), metrics.clone()).await {
            Ok((address, _)) => tracing::info!(%address, "probes and metrics over HTTP"),
            // A second service on one machine, which nobody has told where to be asked.
            Err(error) if !wanted.given => {
                tracing::warn!(address = %wanted.address, %error, "no probes and metrics over HTTP: see --admin-listen");
            }
            Err(error) => return Err(error).context(format!("cannot listen on {}", wanted.address)),
        }
        let catalog = wait_for_catalog(settings).await?;
        if settings.embedded && catalog.is_empty().await? {
            let file = settings.operator_token_file();
            write_operator_token(&catalog, &file).await?;
            tracing::info!(file = %file.display(), "first start: the operator's token is in this file");
        }
        let (state, feed, replica): (Arc<dyn StateStore>, _, _) = match &settings.redis {
            Some(options) => {
                let counts = metrics.clone();
                let watch: CommandWatch =
                    Arc::new(move |operation, answered, took| counts.command(operation, answered, took));
                let store =
                    RedisStore::connect_later(&RedisOptions { watch: Some(watch), ..options.clone() })?;
                let replica = store.replica().to_owned();
                let feed = store.change_feed();
                (shared_state(store, settings.redis_required).await?, Some(feed), replica)
            }
            None => (Arc::new(MemoryStore::default()), None, Uuid::new_v4().simple().to_string()),
        };
        let traces = match &settings.traces {
            Some(options) => Traces::start(options, &replica)?,
            None => Traces::default(),
        };
        catalog.load().await.context("the first snapshot")?;

        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen on {}", settings.listen))?;
        let address = listener.local_addr()?;
        let drivers = Drivers::new(UpstreamClient::new(&settings.upstream)?);
        let checked = drivers.clone();
        let counted = metrics.clone();
        let (reporter, health_service) = tonic_health::server::health_reporter();
        health::not_serving(&reporter).await;
        let router = api::router(
            GateLayer::new(Gate::new(
                catalog.clone(),
                drain.clone(),
                settings.limits,
                metrics.clone(),
                traces.clone(),
            )),
            Services {
                health: health_service,
                admin: Admin::new(catalog.clone(), state.clone()),
                config: ConfigApi::new(
                    catalog.clone(),
                    state.clone(),
                    drivers.clone(),
                    drain.draining.clone(),
                ),
                invoke: InvokeApi::new(
                    catalog.clone(),
                    Arc::new(Engine::new(
                        catalog.clone(),
                        state.clone(),
                        drivers,
                        settings.retry_budget,
                        metrics,
                        traces.clone(),
                    )),
                    settings.default_deadline,
                    drain.stop.clone(),
                ),
            },
            &settings.server,
        )?;
        let incoming = gate::connections(
            listener,
            settings.server.max_connections,
            settings.server.tls.clone(),
            counted,
        )
        .await
        .context("--tls-cert, --tls-key and --tls-client-ca cannot be used together")?;
        let server = tokio::spawn(
            router.serve_with_incoming_shutdown(incoming, drain.draining.clone().cancelled_owned()),
        );
        // Nothing fails any more: calls may come.
        let _ = readiness.serving.set(Serving { catalog: catalog.clone(), state: state.clone() });
        health::begin(&reporter, &readiness).await;
        tokio::spawn(health::follow(reporter, catalog.clone(), readiness.clone()));
        tokio::spawn(catalog.clone().follow(drain.draining.clone()));
        if let Some(feed) = feed {
            tokio::spawn(tell_of_changes(catalog.clone(), feed, drain.draining.clone()));
        }
        let checks = health::run_checks(catalog.clone(), state.clone(), checked, drain.draining.clone());
        tokio::spawn(checks);
        tracing::info!(%address, "listening");
        Ok(Self {
            address,
            catalog,
            state,
            drain_delay: settings.drain_delay,
            drain_limit: settings.drain_limit,
            drain,
            server,
            traces,
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

    /// Says NOT_SERVING, then, after the drain delay, asks connections to end, turns new calls away a moment later, waits
    /// for those in flight up to the drain limit, and ends the rest.
    pub async fn shut_down(mut self) {
        let shut = async {
            let _ = (&mut self.server).await;
        };
        self.drain.run(self.drain_delay, self.drain_limit, shut).await;
        if !self.server.is_finished() && timeout(CLOSING, &mut self.server).await.is_err() {
            self.server.abort();
        }
        // Leases of calls that were cut off give themselves back above; this writes it.
        self.state.flush().await;
        self.catalog.keep_last_uses().await;
        self.traces.flush().await;
        tracing::info!("stopped");
    }
}

/// State on Redis, which may be away unless it is required.
async fn shared_state(store: RedisStore, required: bool) -> Result<Arc<dyn StateStore>> {
    let store = ResilientStore::new(store);
    match store.wait(REDIS_AT_START).await {
        Err(error) if required => Err(error.into()),
        _ => Ok(store),
    }
}

/// Carries the word of changes between this replica and the others.
async fn tell_of_changes(catalog: Catalog, feed: ChangeFeed, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = catalog.committed() => feed.announce().await,
            () = feed.heard() => catalog.hint(),
            () = stop.cancelled() => return,
        }
    }
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

fn write_secret(path: &Path, secret: &SecretString) -> io::Result<()> {
    // An old file may belong to a database that is gone, and may be open to others.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", secret.expose_secret())
}
