//! What requests are served with.

use super::origin::AllowedHosts;
use crate::{catalog::Catalog, gate::Gate, invoke::Engine};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How requests are taken.
#[derive(Debug, Clone)]
pub struct DoorOptions {
    /// The largest body in, in bytes.
    pub max_body: usize,
    /// How long a client may take nothing of an answer that is there.
    pub send_timeout: Duration,
    /// The deadline of a call that has none of its own.
    pub default_deadline: Duration,
    /// The names under which the door is reached.
    pub allowed_hosts: AllowedHosts,
}

/// What requests need.
pub struct Serving {
    pub gate: Gate,
    pub catalog: Catalog,
    pub engine: Arc<Engine>,
    pub options: DoorOptions,
    /// Cancelled when calls that are inside are to end at once.
    pub stop: CancellationToken,
}
