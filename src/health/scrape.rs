//! The metrics of this replica, with those that are only read when somebody scrapes.

use super::readiness::{Readiness, RedisNeed, Serving};
use crate::{
    balance::Standing,
    catalog::{DatabaseState, ModelKey, Pool},
    provider::ModelType,
    tasks::{Task, Tasks},
    telemetry::{Metrics, ModelLabels, Standings, StoreMode},
};
use futures::{StreamExt, stream};
use std::time::Duration;
use tokio::{runtime::Handle, time::timeout};

/// How many pools are asked of the state store at once, and how long all of them may take. A scrape must get an answer even
/// when Redis hangs.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(2);

/// All metrics as text.
pub(super) async fn scrape(readiness: &Readiness, metrics: &Metrics, tasks: &Tasks) -> String {
    // A database that has not answered yet is what a start waits for.
    let started = readiness.serving.get().is_some();
    let database = *readiness.database.lock();
    metrics.readiness(
        readiness.why_not().is_none(),
        started && database != DatabaseState::Away,
        started && database == DatabaseState::Writable,
    );
    if let Some(serving) = readiness.serving.get() {
        let mode = match readiness.redis {
            RedisNeed::None => StoreMode::Memory,
            _ if serving.state.degraded() => StoreMode::Alone,
            _ => StoreMode::Shared,
        };
        metrics.service(mode, serving.catalog.version().unwrap_or_default());
        metrics.cut_off(serving.state.is_cut_off());
        let looks = stream::iter(metrics.models()).map(|model| async move {
            // A pool that makes this panic must not keep every other from being told.
            let name = format!("{}/{}/{}", model.tenant, model.provider, model.model);
            tasks.contain(Task::AdminServer, &name, look(serving, metrics, model)).await;
        });
        // Those that have not answered in time keep what they last said.
        let _ = timeout(PATIENCE, looks.buffer_unordered(AT_ONCE).collect::<()>()).await;
    }
    metrics.tasks(Handle::current().metrics().num_alive_tasks());
    metrics.render()
}

/// Notes how the pool of a model stands.
async fn look(serving: &Serving, metrics: &Metrics, model: ModelLabels) {
    let Some(model_type) = ModelType::from_name(model.model_type) else { return };
    let key = ModelKey {
        tenant: model.tenant.clone(),
        provider: model.provider.clone(),
        model_type,
        model: model.model.clone(),
    };
    match serving.catalog.pool(&key) {
        Some(pool) if pool.balanced => {
            metrics.pool(&model, standings(serving, &pool).await);
        }
        Some(pool) => {
            let eligible = pool.members.len() as i64;
            metrics.pool(&model, Standings { eligible, ..Standings::default() });
        }
        None => metrics.forget(&model),
    }
}

async fn standings(serving: &Serving, pool: &Pool) -> Standings {
    let seen = serving.state.inspect(&pool.roster).await;
    let mut standings = Standings::default();
    for (member, state) in pool.roster.members.iter().zip(&seen.members) {
        let candidate = state.candidate(member, seen.now, false, 0);
        match candidate.standing {
            Standing::Cooling(_) => standings.cooling += 1,
            _ if candidate.may_serve() => standings.eligible += 1,
            _ => standings.waiting += 1,
        }
    }
    standings
}
