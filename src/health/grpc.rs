//! What `grpc.health.v1` says.

use super::readiness::Readiness;
use crate::catalog::{Catalog, DatabaseState};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};
use tonic_health::{ServingStatus, server::HealthReporter};

/// How often the database is asked whether it takes changes, and a required Redis whether it answers.
const INTERVAL: Duration = Duration::from_secs(1);

/// Services that work from snapshots. `""` is the whole, and `readiness` is another name of it.
const FROM_SNAPSHOTS: [&str; 3] = ["", "readiness", "rota.v1.InvokeService"];
/// Services that need the database, and that it takes writes.
const FROM_DATABASE: [&str; 2] = ["rota.v1.ConfigService", "rota.v1.AdminService"];

/// The process alone.
const LIVENESS: [&str; 1] = ["liveness"];

/// Says that the process lives, and that nothing is served yet.
pub async fn not_serving(reporter: &HealthReporter) {
    set(reporter, &LIVENESS, true).await;
    set(reporter, &FROM_SNAPSHOTS, false).await;
    set(reporter, &FROM_DATABASE, false).await;
}

/// Says what is served at the start, when the first snapshot has just come from the database.
pub async fn begin(reporter: &HealthReporter, readiness: &Readiness) {
    set(reporter, &FROM_SNAPSHOTS, readiness.why_not().is_none()).await;
    set(reporter, &FROM_DATABASE, true).await;
}

/// Says what is served from then on, until the drain.
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
    let mut known = DatabaseState::Writable;
    let mut ticks = ticks();
    loop {
        tokio::select! {
            () = readiness.draining.cancelled() => return set(reporter, &FROM_DATABASE, false).await,
            _ = ticks.tick() => {}
        }
        let now = catalog.database_state().await;
        if known != now && !readiness.draining.is_cancelled() {
            match now {
                DatabaseState::Writable => {
                    tracing::info!("the database is back: configuration can be changed");
                }
                DatabaseState::ReadOnly => {
                    tracing::warn!("the database takes no writes: configuration cannot be changed");
                }
                DatabaseState::Away => {
                    tracing::warn!("the database is away: configuration cannot be changed");
                }
            }
            known = now;
            *readiness.database.lock() = now;
            set(reporter, &FROM_DATABASE, now == DatabaseState::Writable).await;
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
