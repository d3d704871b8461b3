//! Readiness, told by `grpc.health.v1`; and active checks of what tenants configured.
//!
//! `ConfigService` and `AdminService` follow the database. `InvokeService` and `""` do not: calls are served from
//! snapshots. They need migrations, a first snapshot and no drain, and Redis where it is required. An outage upstream
//! touches none of them.

mod checks;
mod http;

pub use checks::run as run_checks;
pub use http::serve_probes;

use crate::{catalog::Catalog, state::StateStore};
use std::{sync::Arc, time::Duration};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// How often the database and a required Redis are asked whether they are there.
const INTERVAL: Duration = Duration::from_secs(1);

/// Services that work from snapshots; `""` is the whole.
const FROM_SNAPSHOTS: [&str; 2] = ["", "rota.v1.InvokeService"];
/// Services that need the database.
const FROM_DATABASE: [&str; 2] = ["rota.v1.ConfigService", "rota.v1.AdminService"];

/// Says that nothing is served yet, or any more.
pub async fn not_serving(reporter: &HealthReporter) {
    set(reporter, &FROM_SNAPSHOTS, false).await;
    set(reporter, &FROM_DATABASE, false).await;
}

/// Whether calls are taken.
#[derive(Clone)]
pub struct Readiness {
    /// Cancelled when no new calls are taken.
    pub draining: CancellationToken,
    /// State that must be shared; none where a replica may go on alone.
    pub required: Option<Arc<dyn StateStore>>,
}

impl Readiness {
    /// Why no calls are taken; none where they are.
    #[must_use]
    pub fn why_not(&self) -> Option<&'static str> {
        if self.draining.is_cancelled() {
            Some("draining")
        } else if self.required.as_ref().is_some_and(|state| state.degraded()) {
            Some("Redis is required, and away")
        } else {
            None
        }
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
