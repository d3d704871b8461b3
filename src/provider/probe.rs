//! Whether an upstream address can be reached, for `rota doctor`. Nothing is sent.

use super::{
    eyeballs,
    guard::{Reach, Unreachable, check_host, resolve},
    proxies::bare,
};
use std::{net::SocketAddr, time::Duration};
use url::Url;

/// Resolves the host of `url`, judges what it leads to as a call does, and makes a TCP connection. Without a reach
/// nothing is judged, as for the operator's own proxy. The time is divided over its addresses.
///
/// # Errors
/// [`Unreachable`]. The caller ends it in time.
pub async fn probe(url: &Url, reach: Option<&Reach>, within: Duration) -> Result<SocketAddr, Unreachable> {
    if let Some(reach) = reach {
        check_host(url, reach.networks)?;
    }
    let host = url.host_str().ok_or(Unreachable::Malformed)?;
    let port = url.port_or_known_default().ok_or(Unreachable::Malformed)?;
    let addresses = resolve(bare(host), port, reach).await?;
    let stream = eyeballs::connect(addresses, within).await?;
    stream.peer_addr().map_err(Unreachable::Name)
}
