//! Whether an upstream address can be reached, for `rota doctor`. Nothing is sent.

use super::guard::{self, Networks, Refused, check_host};
use std::{io, net::SocketAddr};
use tokio::net::{TcpStream, lookup_host};
use url::Url;

/// Why an address cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// `--upstream-networks` forbids it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It is not an address with a host and a port.
    #[error("not an address")]
    Malformed,
    /// Its name does not resolve.
    #[error("the name does not resolve: {0}")]
    Name(#[source] io::Error),
    /// None of its addresses takes a connection; this is what the last one said.
    #[error("{0} takes no connection: {1}")]
    Connect(SocketAddr, #[source] io::Error),
}

/// Resolves the host of `url`, judges what it leads to as a call does, and makes a TCP connection. Which networks:
/// none judges nothing, as for the operator's own proxy.
///
/// # Errors
/// [`Unreachable`]. It has no bound of its own in time.
pub async fn probe(url: &Url, networks: Option<Networks>) -> Result<SocketAddr, Unreachable> {
    if let Some(networks) = networks {
        check_host(url, networks)?;
    }
    let host = url.host_str().ok_or(Unreachable::Malformed)?;
    let port = url.port_or_known_default().ok_or(Unreachable::Malformed)?;
    // A URL has brackets around an IPv6 address, a resolver wants none.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = lookup_host((host, port)).await.map_err(Unreachable::Name)?;
    let addresses = match networks {
        Some(networks) => guard::allowed(found, networks)?,
        None => found.collect(),
    };
    let mut last = Unreachable::Name(io::Error::other("it has no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(address),
            Err(error) => last = Unreachable::Connect(address, error),
        }
    }
    Err(last)
}
