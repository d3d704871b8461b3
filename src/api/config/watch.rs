//! WatchPool: sends the state of a pool, and sends it again after every change.

use super::{balancing, service::ConfigApi};
use crate::{
    api::{from_pb, pb, status, to_pb},
    catalog::{Caller, ConfigFrom, ConfigSet, Error, ModelKey},
    gate::Refusal,
};
use futures::stream::{self, BoxStream, StreamExt};
use std::time::Duration;
use tonic::Status;

/// How often the state is read. The state store pushes nothing, and configuration reaches other replicas this often, too.
const INTERVAL: Duration = Duration::from_millis(250);

pub(super) type PoolStream = BoxStream<'static, Result<pb::WatchPoolResponse, Status>>;

impl ConfigApi {
    pub(super) fn watch_pool(
        &self,
        caller: &Caller,
        request: pb::WatchPoolRequest,
    ) -> Result<PoolStream, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let watch = Watch { api: self.clone(), caller: caller.clone(), key, known: None, last: None };
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            let stop = watch.api.stop.clone();
            tokio::select! {
                changed = watch.changed() => match changed {
                    Ok(state) => Some((Ok(pb::WatchPoolResponse { state: Some(state) }), Some(watch))),
                    Err(status) => Some((Err(status), None)),
                },
                () = stop.cancelled() => Some((Err(status::from_refusal(Refusal::Draining)), None)),
            }
        })
        .boxed())
    }
}

struct Watch {
    api: ConfigApi,
    caller: Caller,
    key: ModelKey,
    /// The configs, and the version of the catalog they were read at.
    known: Option<(Option<i64>, ConfigSet)>,
    last: Option<pb::PoolState>,
}

impl Watch {
    /// Waits for a state that differs from the last one.
    async fn changed(&mut self) -> Result<pb::PoolState, Status> {
        loop {
            if self.last.is_some() {
                tokio::time::sleep(INTERVAL).await;
            }
            if !self.api.catalog.still_valid(&self.caller).await {
                return Err(status::from_refusal(Refusal::TokenInvalid));
            }
            let set = self.configs().await?;
            let seen = self.api.state.inspect(&set.roster).await;
            let revision = set.revision;
            let configs = balancing::listed(set, seen);
            let state = pb::PoolState { key: Some(to_pb::key(self.key.clone())), revision, configs };
            let compared = without_clocks(state.clone());
            if self.last.as_ref() != Some(&compared) {
                self.last = Some(compared);
                return Ok(state);
            }
        }
    }
}

impl Watch {
    /// Reads the configs. The database is asked only after a change; while it is away, the configs known last stand.
    async fn configs(&mut self) -> Result<ConfigSet, Status> {
        let catalog = &self.api.catalog;
        let version = catalog.version();
        if let Some((at, set)) = &self.known
            && *at == version
        {
            return Ok(set.clone());
        }
        match (catalog.configs(&self.key, ConfigFrom::Any).await, &self.known) {
            (Ok(set), _) => {
                self.known = Some((version, set.clone()));
                Ok(set)
            }
            (Err(Error::DatabaseUnavailable), Some((_, set))) => Ok(set.clone()),
            (Err(error), _) => Err(status::from_catalog(error)),
        }
    }
}

/// Removes the time that is left of cooldowns: a cooldown that runs on is no change.
fn without_clocks(mut state: pb::PoolState) -> pb::PoolState {
    for config in &mut state.configs {
        config.ttl = None;
    }
    state
}
