//! What the RPCs of ConfigService share.

use crate::{catalog::Catalog, provider::Registry, state::StateStore};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves `rota.v1.ConfigService`.
#[derive(Clone)]
pub struct ConfigApi {
    pub(super) catalog: Catalog,
    pub(super) state: Arc<dyn StateStore>,
    pub(super) drivers: Registry,
    pub(super) stop: CancellationToken,
}

impl ConfigApi {
    /// Serves that catalog and the state of its pools. Credentials are validated through those drivers. Watches end when
    /// `stop` is cancelled.
    pub fn new(
        catalog: Catalog,
        state: Arc<dyn StateStore>,
        drivers: Registry,
        stop: CancellationToken,
    ) -> Self {
        Self { catalog, state, drivers, stop }
    }
}
