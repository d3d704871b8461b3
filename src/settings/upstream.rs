//! The settings of how providers are called.

use super::{
    RawSettings,
    values::{Problems, authorities, choice, given, given_path, size, time},
};
use crate::provider::{Misread, Networks, Proxies, Reserved, UpstreamOptions};
use std::net::SocketAddr;

/// Far beyond what a process has descriptors for.
const MOST_CONNECTIONS: usize = 1_000_000;

/// How providers are called, with the defaults filled in. Private networks may be reached if every door listens on a
/// loopback address and nothing else is given.
pub(super) fn resolve(
    raw: &mut RawSettings,
    mut doors: impl Iterator<Item = SocketAddr>,
    problems: &mut Problems,
) -> UpstreamOptions {
    let near = doors.all(|door| door.ip().is_loopback());
    let usual = if near { Networks::Private } else { Networks::Public };
    let networks = choice("upstream-networks", raw.upstream_networks.take(), problems).unwrap_or(usual);
    let default = UpstreamOptions::new(networks);
    let connect = raw.upstream_connect_timeout.take();
    let connect_timeout = time("upstream-connect-timeout", connect, default.connect_timeout, problems);
    let idle = given(raw.upstream_idle_time.take());
    let pool_idle = time("upstream-idle-time", idle.clone(), default.pool_idle, problems);
    let pool_idle_h2 = if idle.is_some() { pool_idle } else { default.pool_idle_h2 };
    let age = raw.upstream_connection_age.take();
    let connection_age = time("upstream-connection-age", age, default.connection_age, problems);
    let max_answer =
        size("upstream-max-answer", raw.upstream_max_answer.take(), default.max_answer, problems);
    let answer_memory = raw.upstream_answer_memory.take();
    let answer_room = size("upstream-answer-memory", answer_memory, default.answer_room, problems);
    let connections = raw.upstream_connections.unwrap_or(default.connections);
    let of_host = raw.upstream_connections_per_host.unwrap_or(default.connections_of_host);
    let counts = [("upstream-connections", connections), ("upstream-connections-per-host", of_host)];
    for (setting, count) in counts {
        if count == 0 || count > MOST_CONNECTIONS {
            problems.add(setting, "is a number from 1 to 1000000");
        }
    }
    let ca = given_path(raw.upstream_ca.take())
        .and_then(|file| authorities("upstream-ca", &file, UpstreamOptions::is_ca, problems));
    let (to, direct) = (raw.upstream_proxy.take(), raw.upstream_no_proxy.take());
    let proxies = Proxies::new(&to.unwrap_or_default(), &direct.unwrap_or_default());
    let proxies = proxies.unwrap_or_else(|misread| {
        match misread {
            Misread::Proxies(what) => problems.add("upstream-proxy", what),
            Misread::Direct(what) => problems.add("upstream-no-proxy", what),
        }
        Proxies::default()
    });
    UpstreamOptions {
        networks,
        reserved: Reserved::default(),
        connect_timeout,
        pool_idle,
        pool_idle_h2,
        connection_age,
        pool_size: raw.upstream_idle_connections.unwrap_or(default.pool_size),
        connections_of_host: of_host,
        connections,
        max_answer,
        answer_room,
        ca,
        proxies,
    }
}
