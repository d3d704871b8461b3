//! Connections to providers, shared by all calls: one [`Host`] an origin.
//!
//! Nothing waits here for another call's answer: where no connection has room, another is made, and waiting for it is
//! part of connecting. Only where there are as many to a host as may be, calls wait in line until one is free, by turns of
//! the tenants. Where a tenant, or this replica, has as many in all as may be, a call that needs one more fails at once. When
//! a provider is gone, its connections leave the pool as they break, and calls fail with `CONNECTION` or `TIMEOUT`.

mod answer;
mod host;
mod kept;
mod line;
mod link;
mod open;
mod signs;

pub(super) use answer::{Answer, send};
pub(super) use host::{Host, Limits};
pub(super) use link::{Broken, Fate};

use super::{
    connect::{Connector, Origin},
    proxies::Proxies,
    shares::Shares,
};
use dashmap::DashMap;
use host::Common;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How often what nobody uses is closed.
const SWEEP: Duration = Duration::from_millis(500);

/// The part of all connections that may be unused.
const UNUSED: usize = 4;

/// The connections of one client.
pub(super) struct Pool {
    proxies: Proxies,
    common: Arc<Common>,
    hosts: DashMap<Origin, Arc<Host>>,
    sweeps: AtomicBool,
}

impl Pool {
    pub(super) fn new(connector: Connector, proxies: Proxies, limits: Limits) -> Arc<Self> {
        Arc::new_cyclic(|pool: &Weak<Self>| {
            let pool = pool.clone();
            let close_unused = move |tenant| {
                let Some(pool) = pool.upgrade() else { return };
                pool.hosts.iter().for_each(|host| host.close_unused(|of, _| of == tenant));
            };
            let common = Common {
                connector: Arc::new(connector),
                limits,
                open: Shares::new(limits.in_all),
                close_unused: Box::new(close_unused),
            };
            Self { proxies, common: Arc::new(common), hosts: DashMap::new(), sweeps: AtomicBool::new(false) }
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
        let new = || Host::new(origin.clone(), proxy, self.common.clone());
        // Beyond that, what a call needs goes with it.
        if self.hosts.len() > self.common.limits.in_all.saturating_mul(2) {
            return new();
        }
        self.hosts.entry(origin.clone()).or_insert_with(new).clone()
    }

    /// Closes the oldest of those that nobody uses, where there are more than may be. Each tenant keeps as many.
    fn bound_unused(&self) {
        let mut unused: HashMap<Uuid, Vec<Instant>> = HashMap::new();
        for host in &self.hosts {
            host.unused(|tenant, until| unused.entry(tenant).or_default().push(until));
        }
        let most = self.common.limits.in_all / UNUSED;
        if unused.values().map(Vec::len).sum::<usize>() <= most {
            return;
        }
        let each = most / unused.len();
        let last: HashMap<Uuid, Instant> = unused
            .into_iter()
            .filter_map(|(tenant, mut untils)| {
                untils.sort_unstable();
                let surplus = untils.len().checked_sub(each + 1)?;
                Some((tenant, *untils.get(surplus)?))
            })
            .collect();
        for host in &self.hosts {
            host.close_unused(|tenant, until| last.get(&tenant).is_some_and(|last| until <= *last));
        }
    }
}

/// Closes what nobody uses, for as long as there is the pool.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        pool.hosts.retain(|_, host| host.sweep(now));
        pool.bound_unused();
    }
}
