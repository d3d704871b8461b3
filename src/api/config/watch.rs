//! WatchPool: sends the state of a pool, and sends it again after every change.

use super::{
    service::ConfigApi,
    watches::{Told, Watching},
};
use crate::{
    api::{from_pb, pb, status},
    catalog::{Caller, Catalog},
    gate::Refusal,
};
use futures::stream::{self, BoxStream, StreamExt};
use prost::bytes::Bytes;
use std::time::Duration;
use tokio::time::sleep;
use tonic::Status;

/// How often a watcher's token is looked at.
const TOKEN: Duration = Duration::from_secs(1);

pub(super) type PoolStream = BoxStream<'static, Result<pb::WatchPoolResponse, Status>>;

impl ConfigApi {
    pub(super) fn watch_pool(
        &self,
        caller: &Caller,
        request: pb::WatchPoolRequest,
    ) -> Result<PoolStream, Status> {
        let key = from_pb::key(caller, request.key, "key")?;
        let watching = self.watches.watch(&self.catalog, &self.state, key).map_err(status::from_refusal)?;
        let watch = Watch { catalog: self.catalog.clone(), caller: caller.clone(), watching, last: None };
        let stop = self.stop.clone();
        Ok(stream::unfold(Some(watch), move |watch| {
            let stop = stop.clone();
            async move {
                let mut watch = watch?;
                tokio::select! {
                    changed = watch.changed() => match changed {
                        Ok(encoded) => {
                            let encoded = Some(encoded);
                            Some((Ok(pb::WatchPoolResponse { state: None, encoded }), Some(watch)))
                        }
                        Err(status) => Some((Err(status), None)),
                    },
                    () = stop.cancelled() => Some((Err(status::from_refusal(Refusal::Draining)), None)),
                }
            }
        })
        .boxed())
    }
}

struct Watch {
    catalog: Catalog,
    caller: Caller,
    watching: Watching,
    last: Option<Bytes>,
}

impl Watch {
    /// Waits for a state that differs from the last one.
    async fn changed(&mut self) -> Result<Bytes, Status> {
        loop {
            if !self.catalog.still_valid(&self.caller).await {
                return Err(status::from_refusal(Refusal::TokenInvalid));
            }
            tokio::select! {
                told = self.watching.next() => match told {
                    Told::State(encoded) if self.last.as_ref() != Some(&encoded) => {
                        self.last = Some(encoded.clone());
                        return Ok(encoded);
                    }
                    Told::State(_) => {}
                    Told::Ended(status) => return Err(status),
                },
                () = sleep(TOKEN) => {}
            }
        }
    }
}
