//! What the RPCs of ConfigService share.

use super::watches::Watches;
use crate::{catalog::Catalog, provider::Registry, state::StateStore};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves `rota.v1.ConfigService`.
#[derive(Clone)]
pub struct ConfigApi {
    pub(super) catalog: Catalog,
    pub(super) state: Arc<dyn StateStore>,
    pub(super) drivers: Registry,
    pub(super) watches: Arc<Watches>,
    pub(super) stop: CancellationToken,
}

impl ConfigApi {
    /// Serves that catalog and the state of its pools. Credentials are validated through those drivers. A tenant may have so
    /// many watches of pools at once. They end when `stop` is cancelled.
    pub fn new(
        catalog: Catalog,
        state: Arc<dyn StateStore>,
        drivers: Registry,
        tenant_max_watches: usize,
        stop: CancellationToken,
    ) -> Self {
        let watches = Arc::new(Watches::new(tenant_max_watches));
        Self { catalog, state, drivers, watches, stop }
    }
}
