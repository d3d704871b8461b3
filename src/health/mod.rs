//! Liveness and readiness, told by `grpc.health.v1` and over plain HTTP; and active checks of what tenants configured.
//!
//! `ConfigService` and `AdminService` follow the database. `InvokeService`, `readiness` and `""` do not: calls are served
//! from snapshots. They need migrations, a first snapshot and no drain, and Redis where it is required. `liveness` is the
//! process alone: it serves as long as there is one. An outage upstream touches none of them.

mod checks;
mod http;
mod scrape;

pub use checks::run as run_checks;
pub use http::serve_probes;

use crate::{catalog::Catalog, state::StateStore};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// How often the database and a required Redis are asked whether they are there.
const INTERVAL: Duration = Duration::from_secs(1);

/// Services that work from snapshots; `""` is the whole, and `readiness` its other name.
const FROM_SNAPSHOTS: [&str; 3] = ["", "readiness", "rota.v1.InvokeService"];
/// Services that need the database.
const FROM_DATABASE: [&str; 2] = ["rota.v1.ConfigService", "rota.v1.AdminService"];

/// The process alone.
const LIVENESS: [&str; 1] = ["liveness"];

/// Says that the process lives, and that nothing is served yet.
pub async fn not_serving(reporter: &HealthReporter) {
    set(reporter, &LIVENESS, true).await;
    set(reporter, &FROM_SNAPSHOTS, false).await;
    set(reporter, &FROM_DATABASE, false).await;
}

/// Whether calls are taken.
#[derive(Clone)]
pub struct Readiness {
    /// Cancelled when no new calls are taken.
    pub draining: CancellationToken,
    /// What serves; not there while the service starts.
    pub serving: Arc<OnceLock<Serving>>,
    /// What that needs of Redis.
    pub redis: RedisNeed,
    /// Whether the database was away when it was last asked.
    pub database_away: Arc<AtomicBool>,
}

/// What calls are served from.
pub struct Serving {
    /// What tenants configured.
    pub catalog: Catalog,
    /// Where turns and cooldowns live.
    pub state: Arc<dyn StateStore>,
}

/// What readiness makes of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisNeed {
    /// State is in the process.
    None,
    /// A replica may go on alone.
    Wanted,
    /// No calls are taken without it.
    Required,
}

/// One thing that calls or configuration depend on.
#[derive(Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub there: bool,
    /// What that means.
    pub means: &'static str,
}

impl Readiness {
    /// Why no calls are taken; none where they are.
    #[must_use]
    pub fn why_not(&self) -> Option<&'static str> {
        match self.serving.get() {
            _ if self.draining.is_cancelled() => Some("draining"),
            None => Some("starting"),
            Some(serving) if self.redis == RedisNeed::Required && serving.state.degraded() => {
                Some("Redis is required, and away")
            }
            Some(_) => None,
        }
    }

    /// Everything that counts, one by one.
    #[must_use]
    pub fn dependencies(&self) -> Vec<Dependency> {
        let Some(serving) = self.serving.get() else {
            return vec![Dependency {
                name: "calls",
                there: false,
                means: "starting: the log says what is waited for",
            }];
        };
        let draining = self.draining.is_cancelled();
        let mut all = vec![Dependency {
            name: "calls",
            there: !draining,
            means: if draining { "draining" } else { "the first snapshot is loaded" },
        }];
        if self.redis != RedisNeed::None {
            let away = serving.state.degraded();
            let means = match (away, self.redis) {
                (false, _) => "turns and cooldowns are shared",
                (true, RedisNeed::Required) => "away, and required",
                (true, _) => "away: this replica decides alone",
            };
            all.push(Dependency { name: "redis", there: !away, means });
        }
        let away = self.database_away.load(Ordering::Relaxed);
        let means =
            if away { "away: configuration cannot be changed" } else { "configuration can be changed" };
        all.push(Dependency { name: "database", there: !away, means });
        all
    }
}

/// Says what is served from the start: the first snapshot has just come from the database.
pub async fn begin(reporter: &HealthReporter, readiness: &Readiness) {
    set(reporter, &FROM_SNAPSHOTS, readiness.why_not().is_none()).await;
    set(reporter, &FROM_DATABASE, true).await;
}

/// Says what is served since, until the drain.
pub async fn follow(reporter: HealthReporter, catalog: Catalog, readiness: Readiness) {
    // Apart: a database that hangs must not hold up what is said of calls.
    tokio::join!(follow_readiness(&reporter, &readiness), follow_database(&reporter, &catalog, &readiness));
}

async fn follow_readiness(reporter: &HealthReporter, readiness: &Readiness) {
    let mut told = None;
    let mut ticks = ticks();
    loop {
        let ready = readiness.why_not().is_none();
        if told.replace(ready) != Some(ready) {
            set(reporter, &FROM_SNAPSHOTS, ready).await;
        }
        tokio::select! {
            () = readiness.draining.cancelled() => return set(reporter, &FROM_SNAPSHOTS, false).await,
            _ = ticks.tick() => {}
        }
    }
}

async fn follow_database(reporter: &HealthReporter, catalog: &Catalog, readiness: &Readiness) {
    let mut there = true;
    let mut ticks = ticks();
    loop {
        tokio::select! {
            () = readiness.draining.cancelled() => return set(reporter, &FROM_DATABASE, false).await,
            _ = ticks.tick() => {}
        }
        let now = catalog.ping().await.is_ok();
        if there != now && !readiness.draining.is_cancelled() {
            if now {
                tracing::info!("the database is back");
            } else {
                tracing::warn!("the database is away: configuration cannot be changed");
            }
            there = now;
            readiness.database_away.store(!now, Ordering::Relaxed);
            set(reporter, &FROM_DATABASE, now).await;
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn set(reporter: &HealthReporter, services: &[&str], serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in services {
        reporter.set_service_status(*service, status).await;
    }
}
