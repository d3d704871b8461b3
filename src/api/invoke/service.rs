//! What the RPCs of InvokeService share: the engine, and how a call names its model and its deadline.

use crate::{
    api::{deadline::client_timeout, from_pb, pb, status},
    balance::OnBreak,
    catalog::{Caller, Catalog},
    invoke::{Call, CallOptions, Engine, time_within},
    provider::ModelType,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, metadata::MetadataMap};

/// How long the name of a flow may be, in characters.
const MAX_FLOW: usize = 256;

/// Serves `rota.v1.InvokeService`.
#[derive(Clone)]
pub struct InvokeApi {
    pub(super) catalog: Catalog,
    pub(super) engine: Arc<Engine>,
    default_deadline: Duration,
    pub(super) stop: CancellationToken,
}

impl InvokeApi {
    /// Serves the models of that catalog. A call without a deadline gets `default_deadline`. Streams end when `stop` is
    /// cancelled.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        engine: Arc<Engine>,
        default_deadline: Duration,
        stop: CancellationToken,
    ) -> Self {
        Self { catalog, engine, default_deadline, stop }
    }

    /// Makes a call of that model, with its deadline.
    pub(super) async fn call(
        &self,
        metadata: &MetadataMap,
        caller: &Caller,
        key: Option<pb::ModelKey>,
        model_type: ModelType,
        options: Option<&pb::CallOptions>,
        tokens: u64,
    ) -> Result<Call, Status> {
        let began = Instant::now();
        let given = client_timeout(metadata.as_ref()).unwrap_or(self.default_deadline);
        let key = key.unwrap_or_default();
        let Asked { tenant, max_attempts, on_break } = call_in(caller, &key, model_type, options)?;
        if let Some(notes) = options.and_then(|options| options.metadata.as_ref()) {
            tracing::debug!(tenant, ?notes, "the caller's notes");
        }
        let pool = self
            .catalog
            .resolve(&tenant, &key.provider, model_type, &key.model)
            .await
            .map_err(|error| status::from_catalog(error.under("key")))?;
        let options = CallOptions {
            began,
            deadline: began + time_within(given),
            max_attempts,
            fallback: !options.is_some_and(|options| options.disable_fallback),
            tokens,
            on_break,
        };
        Ok(self.engine.call(pool, options))
    }
}

/// What every call says beside its input.
pub(super) struct Asked {
    tenant: String,
    /// How many attempts it may make.
    max_attempts: usize,
    on_break: Option<OnBreak>,
}

/// Reads what every call says beside its input.
pub(super) fn call_in(
    caller: &Caller,
    key: &pb::ModelKey,
    model_type: ModelType,
    options: Option<&pb::CallOptions>,
) -> Result<Asked, Status> {
    let named = from_pb::optional_model_type(key.model_type, "key.model_type")?;
    if named.is_some_and(|named| named != model_type) {
        return Err(status::invalid("key.model_type", "is not what this RPC calls; it may be left out"));
    }
    let tenant = from_pb::tenant(caller, &key.tenant_id, "key.tenant_id")?;
    let Some(options) = options else { return Ok(Asked { tenant, max_attempts: 0, on_break: None }) };
    let max_attempts = usize::try_from(options.max_attempts)
        .map_err(|_| status::invalid("options.max_attempts", "must not be negative"))?;
    if options.flow.chars().nth(MAX_FLOW).is_some() {
        return Err(status::invalid("options.flow", format!("has at most {MAX_FLOW} characters")));
    }
    let on_break = from_pb::on_break(options.on_break, "options.on_break")?;
    Ok(Asked { tenant, max_attempts, on_break })
}
