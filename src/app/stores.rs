//! Opens what a replica serves from: the catalog, the state of its pools, traces.

use crate::{
    catalog::{Catalog, MasterKeySource, NewToken, OpenError, OpenOptions, Role},
    redis::{ChangeFeed, CommandWatch, RedisOptions},
    settings::{MasterKey, Settings},
    state::{MemoryStore, ReachableStore, RedisStore, ResilientStore, StateStore},
    tasks::{Task, TaskCounts, Tasks},
    telemetry::{Metrics, Traces},
};
use anyhow::{Context, Result, anyhow};
use sea_orm::DbErr;
use secrecy::{ExposeSecret, SecretString};
use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// A start waits for Redis this long, then goes on without.
const REDIS_AT_START: Duration = Duration::from_secs(2);

/// A start asks for the database after pauses that grow between these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// What a replica serves from.
pub(super) struct Stores {
    /// With its first snapshot loaded.
    pub(super) catalog: Catalog,
    /// Turns, cooldowns and counts.
    pub(super) state: Arc<dyn StateStore>,
    /// Word of changes between replicas, where there is Redis.
    pub(super) feed: Option<Arc<ChangeFeed>>,
    /// Where spans go.
    pub(super) traces: Traces,
}

impl Stores {
    /// Opens all of them. Waits for the database and, a little, for Redis.
    ///
    /// # Errors
    /// Where one that is required cannot be had.
    pub(super) async fn open(settings: &Settings, metrics: &Arc<Metrics>, tasks: &Tasks) -> Result<Self> {
        let catalog = wait_for_catalog(settings).await?;
        let counts = metrics.clone();
        catalog.on_panic(move || counts.contained(Task::Follower));
        if settings.embedded && catalog.is_empty().await? {
            let file = settings.operator_token_file();
            write_operator_token(&catalog, &file).await?;
            tracing::info!(file = %file.display(), "first start: the operator's token is in this file");
        }
        let (state, feed, replica) = open_state(settings, metrics, tasks).await?;
        let traces = match &settings.traces {
            Some(options) => Traces::start(options, &replica, tasks)?,
            None => Traces::default(),
        };
        let (forgetful, series) = (state.clone(), metrics.clone());
        catalog.on_gone(move |gone| {
            series.forget_rows(&gone.pools);
            let state = forgetful.clone();
            // Apart, so that nobody who loads configuration waits for Redis.
            tokio::spawn(async move { state.forget(&gone).await });
        });
        catalog.load().await.context("the first snapshot")?;
        Ok(Self { catalog, state, feed, traces })
    }
}

/// The state store, the feed of changes, and what this replica is called there.
async fn open_state(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<(Arc<dyn StateStore>, Option<Arc<ChangeFeed>>, String)> {
    let Some(options) = &settings.redis else {
        let store = ReachableStore::alone(Arc::new(MemoryStore::default()));
        return Ok((Arc::new(store), None, Uuid::new_v4().simple().to_string()));
    };
    let counts = metrics.clone();
    let watch: CommandWatch =
        Arc::new(move |operation, answered, took| counts.command(operation, answered, took));
    let options = RedisOptions { watch: Some(watch), tasks: tasks.clone(), ..options.clone() };
    let redis = RedisStore::connect_later(&options)?;
    let (replica, feed) = (redis.replica().to_owned(), redis.change_feed());
    let store = ResilientStore::new(redis.clone());
    // It may be away unless it is required.
    match store.wait(REDIS_AT_START).await {
        Err(error) if settings.redis_required => Err(error.into()),
        _ => {
            let store = ReachableStore::of_fleet(store, &redis, &options);
            Ok((Arc::new(store), Some(Arc::new(feed)), replica))
        }
    }
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
        bounds: settings.bounds,
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

async fn write_operator_token(catalog: &Catalog, path: &Path) -> Result<()> {
    let (_, secret) = catalog.by_command_line().create_token(operator("first start")).await?;
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
