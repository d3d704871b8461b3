//! Puts everything together: the one place that knows every concrete type.

mod stores;

pub use stores::{open_catalog, operator};

use crate::{
    api::{self, Admin, ConfigApi, HealthApi, InvokeApi, Services},
    catalog::{Catalog, DatabaseState},
    gate::{Connections, Drain, Gate, Versions},
    health::{self, CheckSlots, Readiness, RedisNeed, Serving},
    http,
    invoke::Engine,
    net::Port,
    provider::{Registry, UpstreamClient},
    redis::ChangeFeed,
    settings::{OptionalListen, Settings},
    tasks::{Task, Tasks},
    telemetry::Metrics,
};
use anyhow::{Context, Result};
use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use stores::Stores;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::server::{HealthReporter, HealthService};

/// Connections that stay open after the last call has ended, such as those of health watchers, get this long.
const CLOSING: Duration = Duration::from_secs(1);

/// A service that is up.
pub struct App {
    address: SocketAddr,
    http_address: Option<SocketAddr>,
    stores: Stores,
    tasks: Tasks,
    drain: Drain,
    drain_delay: Duration,
    drain_limit: Duration,
    /// Each ends when the last connection to its door has.
    servers: Vec<JoinHandle<()>>,
    /// Cancelled at the very end: until then calls that are inside need the tasks of their stores.
    end: CancellationToken,
}

impl App {
    /// Starts serving. Returns when the port is open and the first snapshot loaded.
    ///
    /// # Errors
    /// Where a dependency or the port cannot be had.
    pub async fn start(settings: &Settings) -> Result<Self> {
        let metrics = Arc::new(Metrics::new(settings.metrics_models));
        let (drain, end) = (Drain::default(), CancellationToken::new());
        let tasks = Tasks::new(drain.draining.clone(), metrics.clone());
        let lasting = tasks.until(end.clone());
        let readiness = readiness(settings, &drain);
        // First of all: a start may wait, and whoever probes should learn that the process lives.
        open_admin_port(settings, &readiness, &metrics, &lasting).await?;
        let stores = Stores::open(settings, &metrics, &lasting).await?;
        let told = metrics.clone();
        let client = UpstreamClient::new(&settings.upstream)?.on_resend(move || told.resent());
        let drivers = Registry::new(client);
        let reporter = HealthReporter::new();
        let health = Arc::new(HealthApi::new(HealthService::from_health_reporter(reporter.clone())));
        health::not_serving(&reporter).await;
        let gate = Gate::new(
            stores.catalog.clone(),
            drain.clone(),
            settings.limits,
            metrics.clone(),
            stores.traces.clone(),
        );
        let engine = engine(settings, &stores, drivers.clone(), metrics.clone());
        let services = Services {
            health,
            admin: Admin::new(stores.catalog.clone(), stores.state.clone()),
            config: ConfigApi::new(
                stores.catalog.clone(),
                stores.state.clone(),
                drivers.clone(),
                settings.tenant_max_watches,
                drain.draining.clone(),
            ),
            invoke: InvokeApi::new(
                stores.catalog.clone(),
                engine.clone(),
                settings.default_deadline,
                drain.stop.clone(),
            ),
        };
        let connections = open_port(settings, metrics, &tasks).await?;
        let address = connections.address();
        settings.upstream.reserved.port(address);
        let http = open_http_port(settings, &connections).await?;
        let http_address = http.as_ref().map(Connections::address);
        let mut servers = vec![serve(settings, gate.clone(), services, connections, &tasks)?];
        if let Some(connections) = http {
            settings.upstream.reserved.port(connections.address());
            let (catalog, options) = (stores.catalog.clone(), settings.http.clone());
            let door = http::Door::new(gate, catalog, engine, options, drain.stop.clone());
            servers.push(serve_http(settings, door, connections, &tasks));
        }
        // Nothing fails any more: calls may come.
        let serving = Serving { catalog: stores.catalog.clone(), state: stores.state.clone() };
        let _ = readiness.serving.set(serving);
        health::begin(&reporter, &readiness).await;
        start_background(settings, &stores, &tasks, reporter, &readiness, drivers);
        tracing::info!(%address, "listening");
        if let Some(address) = http_address {
            tracing::info!(%address, "HTTP listening");
        }
        let (drain_delay, drain_limit) = (settings.drain_delay, settings.drain_limit);
        Ok(Self { address, http_address, stores, tasks, drain, drain_delay, drain_limit, servers, end })
    }

    /// Where gRPC is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where vendors' protocols are served over HTTP.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// The catalog served.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.stores.catalog
    }

    /// Waits until a task without which this replica must not serve has failed too often. Then it should shut down, and
    /// its process exit with an error that names the task.
    pub async fn given_up(&self) -> Task {
        self.tasks.given_up().await
    }

    /// Says NOT_SERVING, then, after the drain delay, asks connections to end, turns new calls away a moment later, waits
    /// for those in flight up to the drain limit, and ends the rest.
    pub async fn shut_down(mut self) {
        self.drain.run(self.drain_delay, self.drain_limit, all_shut(&mut self.servers)).await;
        if timeout(CLOSING, all_shut(&mut self.servers)).await.is_err() {
            self.servers.iter().for_each(JoinHandle::abort);
        }
        // Leases of calls that were cut off give themselves back above; this writes it.
        self.stores.state.flush().await;
        self.stores.catalog.keep_counts().await;
        self.stores.traces.flush().await;
        self.end.cancel();
        tracing::info!("stopped");
    }
}

/// Waits until the last connection to each door has ended.
async fn all_shut(servers: &mut [JoinHandle<()>]) {
    for server in servers {
        if !server.is_finished() {
            let _ = server.await;
        }
    }
}

fn readiness(settings: &Settings, drain: &Drain) -> Readiness {
    Readiness {
        draining: drain.leaving.clone(),
        serving: Arc::default(),
        redis: match (&settings.redis, settings.redis_required) {
            (None, _) => RedisNeed::None,
            (_, false) => RedisNeed::Wanted,
            (_, true) => RedisNeed::Required,
        },
        database: Arc::new(Mutex::new(DatabaseState::Writable)),
    }
}

/// Opens the port of probes and metrics, and serves it.
async fn open_admin_port(
    settings: &Settings,
    readiness: &Readiness,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<()> {
    let without = "no probes and metrics over HTTP: see --admin-listen";
    let Some(port) = bind_optional(settings.admin_listen, without).await?.map(Arc::new) else {
        return Ok(());
    };
    settings.upstream.reserved.port(port.address());
    tracing::info!(address = %port.address(), "probes and metrics over HTTP");
    let (readiness, metrics, set) = (readiness.clone(), metrics.clone(), tasks.clone());
    tasks.spawn_endless(Task::AdminServer, move || {
        health::serve_http(port.clone(), readiness.clone(), metrics.clone(), set.clone())
    });
    Ok(())
}

fn engine(settings: &Settings, stores: &Stores, drivers: Registry, metrics: Arc<Metrics>) -> Arc<Engine> {
    let engine = Engine::new(
        stores.catalog.clone(),
        stores.state.clone(),
        drivers,
        settings.retry_budget,
        metrics,
        stores.traces.clone(),
    )
    .with_max_leases(settings.max_leases);
    Arc::new(engine)
}

/// Listens on an address that a start can do without. None where it is taken and was not given.
async fn bind_optional(wanted: OptionalListen, without: &str) -> Result<Option<Port>> {
    match Port::bind(wanted.address).await {
        Ok(port) => Ok(Some(port)),
        // A second service on one machine, which nobody has told where to listen.
        Err(error) if !wanted.given => {
            tracing::warn!(address = %wanted.address, %error, "{without}");
            Ok(None)
        }
        Err(error) => Err(error).context(format!("cannot listen on {}", wanted.address)),
    }
}

/// Opens the port of vendors' protocols.
async fn open_http_port(settings: &Settings, grpc: &Connections) -> Result<Option<Connections>> {
    let Some(wanted) = settings.http_listen else { return Ok(None) };
    let port = bind_optional(wanted, "no OpenAI, Anthropic and Gemini over HTTP: see --http-listen").await?;
    Ok(port.map(|port| grpc.beside(port, Versions::Any)))
}

/// Serves vendors' protocols, as [`serve`] does gRPC.
fn serve_http(
    settings: &Settings,
    door: http::Door,
    connections: Connections,
    tasks: &Tasks,
) -> JoinHandle<()> {
    let (options, connections) = (settings.server.clone(), Arc::new(connections));
    tasks.spawn(Task::HttpServer, move |stop| {
        let (door, connections, options) = (door.clone(), connections.clone(), options.clone());
        async move {
            let (age, streams) = (options.max_connection_age, options.streams_per_connection);
            if let Err(error) = http::serve(door, &connections, age, streams, stop).await {
                tracing::warn!(%error, "HTTP cannot be served");
            }
        }
    })
}

/// Opens the port of gRPC.
async fn open_port(settings: &Settings, metrics: Arc<Metrics>, tasks: &Tasks) -> Result<Connections> {
    let port = Port::bind(settings.listen).await;
    let port = port.with_context(|| format!("cannot listen on {}", settings.listen))?;
    let options = &settings.server;
    Connections::to(port, options.max_connections, options.max_strangers, options.tls.clone(), metrics, tasks)
        .await
        .context("--tls-cert, --tls-key and --tls-client-ca cannot be used together")
}

/// Serves gRPC until the drain, and then until the last connection has ended. A server that fails is made anew on the same
/// port. Connections of the old one end after their calls.
fn serve(
    settings: &Settings,
    gate: Gate,
    services: Services,
    connections: Connections,
    tasks: &Tasks,
) -> Result<JoinHandle<()>> {
    let (options, connections) = (settings.server.clone(), Arc::new(connections));
    let door = api::door(gate, services, options.door)?;
    Ok(tasks.spawn(Task::Server, move |stop| {
        let (door, connections, options) = (door.clone(), connections.clone(), options.clone());
        async move {
            if let Err(error) = api::serve(door, &connections, &options, stop).await {
                tracing::warn!(%error, "gRPC cannot be served");
            }
        }
    }))
}

/// Starts what goes on beside calls.
fn start_background(
    settings: &Settings,
    stores: &Stores,
    tasks: &Tasks,
    reporter: HealthReporter,
    readiness: &Readiness,
    drivers: Registry,
) {
    let catalog = stores.catalog.clone();
    tasks.spawn(Task::Follower, move |stop| catalog.clone().follow(stop));
    let catalog = stores.catalog.clone();
    tasks.spawn(Task::Upkeep, move |stop| catalog.clone().maintain(stop));
    if let Some(feed) = stores.feed.clone() {
        let catalog = stores.catalog.clone();
        let announcements = move || tell_of_changes(catalog.clone(), feed.clone());
        tasks.spawn_endless(Task::ChangeAnnouncements, announcements);
    }
    let (catalog, readiness) = (stores.catalog.clone(), readiness.clone());
    // It says by itself, once the replica leaves, that nothing is served.
    tasks
        .until(readiness.draining.clone())
        .spawn(Task::Health, move |_| health::follow(reporter.clone(), catalog.clone(), readiness.clone()));
    let (catalog, state, set) = (stores.catalog.clone(), stores.state.clone(), tasks.clone());
    let slots = CheckSlots { of_tenant: settings.tenant_health_checks, in_all: settings.health_checks };
    tasks.spawn(Task::HealthChecks, move |stop| {
        health::run_checks(catalog.clone(), state.clone(), drivers.clone(), slots, set.clone(), stop)
    });
}

/// Carries word of changes between this replica and the others.
async fn tell_of_changes(catalog: Catalog, feed: Arc<ChangeFeed>) {
    loop {
        tokio::select! {
            () = catalog.committed() => feed.announce().await,
            () = feed.heard() => catalog.hint(),
        }
    }
}
