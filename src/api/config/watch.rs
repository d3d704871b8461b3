//! WatchPool: the state of a pool, again after every change.

use super::{ConfigApi, convert, pb, status};
use crate::catalog::{Caller, ConfigFrom, ModelKey};
use futures::stream::{self, BoxStream, StreamExt};
use std::time::Duration;
use tonic::Status;

/// How often it looks. The state store pushes nothing, and configuration reaches other replicas this often as well.
const INTERVAL: Duration = Duration::from_millis(250);

pub(super) type PoolStream = BoxStream<'static, Result<pb::WatchPoolResponse, Status>>;

impl ConfigApi {
    pub(super) fn watch_pool(
        &self,
        caller: &Caller,
        request: pb::WatchPoolRequest,
    ) -> Result<PoolStream, Status> {
        let key = convert::key(caller, request.key, "key")?;
        let watch = Watch { api: self.clone(), key, last: None };
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            let stop = watch.api.stop.clone();
            tokio::select! {
                changed = watch.changed() => match changed {
                    Ok(state) => Some((Ok(pb::WatchPoolResponse { state: Some(state) }), Some(watch))),
                    Err(status) => Some((Err(status), None)),
                },
                () = stop.cancelled() => Some((Err(status::draining()), None)),
            }
        })
        .boxed())
    }
}

struct Watch {
    api: ConfigApi,
    key: ModelKey,
    last: Option<pb::PoolState>,
}

impl Watch {
    /// The next state that differs from the last.
    async fn changed(&mut self) -> Result<pb::PoolState, Status> {
        loop {
            if self.last.is_some() {
                tokio::time::sleep(INTERVAL).await;
            }
            let set =
                self.api.catalog.configs(&self.key, ConfigFrom::Any).await.map_err(status::from_catalog)?;
            let revision = set.revision;
            let configs = self.api.with_state(set).await;
            let state = pb::PoolState { key: Some(convert::key_out(self.key.clone())), revision, configs };
            let compared = without_clocks(state.clone());
            if self.last.as_ref() != Some(&compared) {
                self.last = Some(compared);
                return Ok(state);
            }
        }
    }
}

/// A cooldown that runs on is no change.
fn without_clocks(mut state: pb::PoolState) -> pb::PoolState {
    for config in &mut state.configs {
        config.ttl = None;
    }
    state
}
