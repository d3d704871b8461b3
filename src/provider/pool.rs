//! Connections to providers, shared by all calls: one [`Host`] an origin.
//!
//! Nothing waits here for another call's answer: where no connection has room, another is made, and waiting for it is
//! part of connecting. When a provider is gone, its connections leave the pool as they break, and calls fail with
//! `CONNECTION` or `TIMEOUT`.

mod answer;
mod host;
mod link;
mod signs;

pub(super) use answer::{Answer, send};
pub(super) use host::{Host, Limits};
pub(super) use link::{Broken, Fate};

use super::{
    connect::{Connector, Origin},
    proxies::Proxies,
};
use dashmap::DashMap;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often what nobody uses is closed.
const SWEEP: Duration = Duration::from_millis(500);

/// The connections of one client.
pub(super) struct Pool {
    connector: Arc<Connector>,
    proxies: Proxies,
    limits: Limits,
    hosts: DashMap<Origin, Arc<Host>>,
    sweeps: AtomicBool,
}

impl Pool {
    pub(super) fn new(connector: Connector, proxies: Proxies, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            connector: Arc::new(connector),
            proxies,
            limits,
            hosts: DashMap::new(),
            sweeps: AtomicBool::new(false),
        })
    }

    /// The connections to that origin.
    pub(super) fn host(self: &Arc<Self>, origin: Origin) -> Arc<Host> {
        if let Some(host) = self.hosts.get(&origin) {
            return host.clone();
        }
        if !self.sweeps.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        let proxy = self.proxies.to(origin.host(), origin.port()).cloned();
        let new = || Host::new(origin.clone(), proxy, self.connector.clone(), self.limits);
        self.hosts.entry(origin.clone()).or_insert_with(new).clone()
    }
}

/// Closes what nobody uses, for as long as there is the pool.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        // A call that still has a host without connections brings its own back to it, and both end together.
        pool.hosts.retain(|_, host| host.sweep(now));
    }
}
