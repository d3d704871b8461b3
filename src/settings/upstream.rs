//! The settings of how providers are called.

use super::{
    RawSettings,
    values::{Problems, authorities, choice, given, given_path, size, time},
};
use crate::provider::{Networks, UpstreamOptions};
use std::net::SocketAddr;
use url::Url;

/// How providers are called, with the defaults filled in. Private networks may be reached if `listen` is a loopback
/// address and nothing else is given.
pub(super) fn resolve(raw: &mut RawSettings, listen: SocketAddr, problems: &mut Problems) -> UpstreamOptions {
    let usual = if listen.ip().is_loopback() { Networks::Private } else { Networks::Public };
    let networks = choice("upstream-networks", raw.upstream_networks.take(), problems).unwrap_or(usual);
    let default = UpstreamOptions::new(networks);
    let connect = raw.upstream_connect_timeout.take();
    let connect_timeout = time("upstream-connect-timeout", connect, default.connect_timeout, problems);
    let pool_idle = time("upstream-idle-time", raw.upstream_idle_time.take(), default.pool_idle, problems);
    let max_answer =
        size("upstream-max-answer", raw.upstream_max_answer.take(), default.max_answer, problems);
    let ca = given_path(raw.upstream_ca.take())
        .and_then(|file| authorities("upstream-ca", &file, UpstreamOptions::is_ca, problems));
    let proxy = given(raw.upstream_proxy.take());
    let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.host().is_some();
    // The value may hold a password.
    if proxy.as_deref().is_some_and(|proxy| !Url::parse(proxy).is_ok_and(|url| fits(&url))) {
        problems.add("upstream-proxy", "is not http://HOST:PORT or https://HOST:PORT");
    }
    UpstreamOptions {
        networks,
        connect_timeout,
        pool_idle,
        pool_size: raw.upstream_idle_connections.unwrap_or(default.pool_size),
        max_answer,
        ca,
        proxy: proxy.map(Into::into),
    }
}
