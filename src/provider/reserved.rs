//! What no provider's address may lead to, whichever networks are allowed: Rota's own ports and its stores.
//!
//! They are few, so that most addresses are let through by their port alone. Only where a port is one of these, names are
//! resolved. When DNS is gone, the address of the call itself does not resolve either.

use parking_lot::RwLock;
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
};
use tokio::net::lookup_host;

/// See the module's documentation. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Reserved(Arc<RwLock<Vec<Endpoint>>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Endpoint {
    /// A port that this process listens on.
    Port(SocketAddr),
    /// A server of the operator's.
    Server(String, u16),
}

impl Reserved {
    /// Reserves an address that this process listens on.
    pub fn port(&self, address: SocketAddr) {
        self.0.write().push(Endpoint::Port(address));
    }

    /// Reserves a server by its name or address.
    pub fn server(&self, host: impl Into<String>, port: u16) {
        self.0.write().push(Endpoint::Server(host.into(), port));
    }

    /// Those of the addresses, all of that port, that are not reserved. None where there were some and all are.
    pub(super) async fn allowed(&self, mut found: Vec<SocketAddr>, port: u16) -> Option<Vec<SocketAddr>> {
        let endpoints: Vec<_> =
            self.0.read().iter().filter(|endpoint| endpoint.number() == port).cloned().collect();
        for endpoint in endpoints {
            let theirs = endpoint.addresses().await;
            let had_some = !found.is_empty();
            found.retain(|address| !is_one_of(address.ip().to_canonical(), &theirs));
            if had_some && found.is_empty() {
                return None;
            }
        }
        Some(found)
    }

    /// Whether a proxy may lead to that host. What the name means there is the proxy's business, but where it means one of
    /// these here it may not.
    pub(super) async fn allow(&self, host: &str, port: u16) -> bool {
        let is_near = self.0.read().iter().any(|endpoint| endpoint.number() == port);
        if !is_near {
            return true;
        }
        let is_name = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Server(own, number) if *number == port && own.eq_ignore_ascii_case(host));
        if self.0.read().iter().any(is_name) {
            return false;
        }
        match lookup_host((host, port)).await {
            Ok(found) => self.allowed(found.collect(), port).await.is_some(),
            Err(_) => true,
        }
    }
}

impl Endpoint {
    fn number(&self) -> u16 {
        match self {
            Self::Port(address) => address.port(),
            Self::Server(_, port) => *port,
        }
    }

    /// Where it is. Unspecified: at every address of this machine.
    async fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Port(address) => vec![address.ip().to_canonical()],
            Self::Server(host, port) => {
                let found = lookup_host((host.as_str(), *port)).await;
                found
                    .map(|found| found.map(|address| address.ip().to_canonical()).collect())
                    .unwrap_or_default()
            }
        }
    }
}

/// Whether an address is one of these. A server on this machine may listen on all of its addresses.
fn is_one_of(address: IpAddr, theirs: &[IpAddr]) -> bool {
    theirs.contains(&address) || (is_here(address) && theirs.iter().any(|their| is_here(*their)))
}

/// Whether it is an address of this machine: only those can be bound.
fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn own_ports_and_stores_are_kept_out() {
        let reserved = Reserved::default();
        reserved.port("0.0.0.0:50051".parse().unwrap());
        reserved.port("127.0.0.1:9464".parse().unwrap());
        reserved.server("localhost", 5432);
        reserved.server("10.1.2.3", 6379);
        for refused in [
            "127.0.0.1:50051",
            "127.9.9.9:50051",
            "[::1]:50051",
            "[::ffff:127.0.0.1]:50051",
            "127.0.0.1:9464",
            "127.0.0.2:5432",
            "10.1.2.3:6379",
            "[::ffff:10.1.2.3]:6379",
        ] {
            let address: SocketAddr = refused.parse().unwrap();
            assert_eq!(reserved.allowed(vec![address], address.port()).await, None, "{refused}");
        }
        for allowed in ["127.0.0.1:50052", "10.1.2.4:6379", "1.1.1.1:50051", "8.8.8.8:5432"] {
            let address: SocketAddr = allowed.parse().unwrap();
            let kept = reserved.allowed(vec![address], address.port()).await;
            assert_eq!(kept, Some(vec![address]), "{allowed}");
        }
        let mixed = addresses(&["10.1.2.3:6379", "10.1.2.4:6379"]);
        assert_eq!(reserved.allowed(mixed, 6379).await, Some(addresses(&["10.1.2.4:6379"])));
        assert_eq!(reserved.allowed(Vec::new(), 6379).await, Some(Vec::new()));
    }

    #[tokio::test]
    async fn a_proxy_does_not_lead_there_either() {
        let reserved = Reserved::default();
        reserved.server("db.internal", 5432);
        reserved.port("127.0.0.1:50051".parse().unwrap());
        for (host, port, ok) in [
            ("db.internal", 5432, false),
            ("DB.internal", 5432, false),
            ("localhost", 50051, false),
            ("127.0.0.1", 50051, false),
            ("db.internal", 5433, true),
            ("no-such-name.invalid", 5432, true),
        ] {
            assert_eq!(reserved.allow(host, port).await, ok, "{host}:{port}");
        }
    }
}
