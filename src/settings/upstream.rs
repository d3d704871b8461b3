//! The settings of how providers are called.

use super::{Problem, RawSettings, authorities, given, size, time};
use crate::provider::{Networks, UpstreamOptions};
use std::net::SocketAddr;
use url::Url;

/// Checks them and fills in the defaults. Where `listen` is loopback, private networks may be reached.
pub(super) fn resolve(raw: &mut RawSettings, listen: SocketAddr, problem: Problem<'_>) -> UpstreamOptions {
    let networks = match given(raw.upstream_networks.take()).as_deref() {
        None if listen.ip().is_loopback() => Networks::Private,
        None | Some("public") => Networks::Public,
        Some("private") => Networks::Private,
        Some(_) => {
            problem("upstream-networks", "is `private` or `public`");
            Networks::Public
        }
    };
    let usual = UpstreamOptions::new(networks);
    let connect = raw.upstream_connect_timeout.take();
    let connect_timeout = time("upstream-connect-timeout", connect, usual.connect_timeout, problem);
    let pool_idle = time("upstream-idle-time", raw.upstream_idle_time.take(), usual.pool_idle, problem);
    let max_answer = size("upstream-max-answer", raw.upstream_max_answer.take(), usual.max_answer, problem);
    let ca = raw
        .upstream_ca
        .take()
        .filter(|file| !file.as_os_str().is_empty())
        .and_then(|file| authorities("upstream-ca", &file, UpstreamOptions::is_ca, problem));
    let proxy = given(raw.upstream_proxy.take());
    let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.host().is_some();
    // The value may hold a password.
    if proxy.as_deref().is_some_and(|proxy| !Url::parse(proxy).is_ok_and(|url| fits(&url))) {
        problem("upstream-proxy", "is not http://HOST:PORT or https://HOST:PORT");
    }
    UpstreamOptions {
        networks,
        connect_timeout,
        pool_idle,
        pool_size: raw.upstream_idle_connections.unwrap_or(usual.pool_size),
        max_answer,
        ca,
        proxy: proxy.map(Into::into),
    }
}
