//! Readiness, told by `grpc.health.v1`; and active checks of what tenants configured.
//!
//! `ConfigService` and `AdminService` follow the database. `InvokeService` and `""` do not: calls are served from
//! snapshots. They need migrations, a first snapshot and no drain. An outage upstream touches none of them.

mod checks;
mod http;

pub use checks::run as run_checks;
pub use http::serve_probes;

use crate::catalog::Catalog;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// How often the database is asked whether it is there.
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

/// Says that everything is served, then follows the database until `stop`.
pub async fn follow(reporter: HealthReporter, catalog: Catalog, stop: CancellationToken) {
    set(&reporter, &FROM_SNAPSHOTS, true).await;
    let mut there = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return not_serving(&reporter).await,
            _ = ticks.tick() => {}
        }
        let now = catalog.ping().await.is_ok();
        if there != Some(now) && !stop.is_cancelled() {
            match (there, now) {
                (_, false) => tracing::warn!("the database is away: configuration cannot be changed"),
                (Some(false), true) => tracing::info!("the database is back"),
                _ => {}
            }
            there = Some(now);
            set(&reporter, &FROM_DATABASE, now).await;
        }
    }
}

async fn set(reporter: &HealthReporter, services: &[&str], serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in services {
        reporter.set_service_status(*service, status).await;
    }
}
