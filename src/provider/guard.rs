//! Decides which addresses an upstream call may go to.
//!
//! A tenant writes `base_url`, and Rota sends requests there from inside the operator's network, so a URL is judged
//! when it is saved ([`check_url`]) and when a request is sent ([`check_host`]), and a name's addresses when they are
//! resolved. Rota's own ports and stores are left out of every network ([`Reserved`]). Invariant: an address inside another (IPv4-mapped, NAT64, 6to4) is judged as the inner one. When DNS is gone, resolving fails and the
//! attempt is a `CONNECTION` failure.

use super::reserved::Reserved;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::net::lookup_host;
use url::{Host, Url};

/// Which networks upstream calls may reach: the setting `--upstream-networks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Networks {
    /// The public internet alone.
    Public,
    /// Private networks and this machine too. Link-local and metadata addresses stay refused.
    Private,
}

/// Why an address is refused; [`std::fmt::Display`] says it without the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("address not allowed: {0}")]
pub struct Refused(pub &'static str);

impl Refused {
    /// It is one of Rota's ports or stores.
    pub const OWN: Self = Self("it is Rota's own");
}

/// Why a host cannot be reached.
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

/// Names of cloud metadata services. What they resolve to is refused as well; this gives the clearer answer early.
const METADATA_NAMES: &[&str] = &[
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Metadata services that no range below covers under [`Networks::Private`]: Alibaba, Oracle, Azure.
const METADATA_V4: &[Ipv4Addr] =
    &[Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// The same over IPv6: AWS, Google, Oracle, Scaleway.
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    // Those of EKS Pod Identity.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Reads a `base_url` and judges it as far as that is possible without DNS.
///
/// # Errors
/// In words, what is wrong with it. Never the text itself: it may hold a password.
pub fn check_url(text: &str, networks: Networks) -> Result<Url, String> {
    // The parser follows browsers, which drop white space and make up for missing or turned slashes. A text that is
    // stored must say what will be called.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("must not hold spaces, control characters or backslashes".to_owned());
    }
    if text.split_once("://").is_none_or(|(_, rest)| rest.is_empty() || rest.starts_with('/')) {
        return Err("must be an absolute URL".to_owned());
    }
    let url = Url::parse(text).map_err(|_| "must be an absolute URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must start with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or fragment".to_owned());
    }
    check_host(&url, networks).map_err(|refused| refused.to_string())?;
    Ok(url)
}

/// Judges the host of a URL: an IP literal fully, a name only where the name itself gives it away.
///
/// # Errors
/// Why it is refused.
pub fn check_host(url: &Url, networks: Networks) -> Result<(), Refused> {
    match url.host() {
        None => Err(Refused("there is no host")),
        Some(Host::Ipv4(ip)) => check_ip(ip.into(), networks),
        Some(Host::Ipv6(ip)) => check_ip(ip.into(), networks),
        Some(Host::Domain(name)) => {
            // `url` has made it lower case.
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                return Err(Refused("there is no host"));
            }
            if METADATA_NAMES.contains(&name) {
                return Err(Refused("metadata service"));
            }
            if networks == Networks::Public && (name == "localhost" || name.ends_with(".localhost")) {
                return Err(Refused("loopback"));
            }
            Ok(())
        }
    }
}

/// Judges one address.
///
/// # Errors
/// Why it is refused.
pub fn check_ip(ip: IpAddr, networks: Networks) -> Result<(), Refused> {
    let refused = match ip {
        IpAddr::V4(ip) => refuse_v4(ip, networks),
        IpAddr::V6(ip) => refuse_v6(ip, networks),
    };
    refused.map_or(Ok(()), |reason| Err(Refused(reason)))
}

/// The ranges are those of IANA's IPv4 Special-Purpose Address Registry (RFC 6890).
fn refuse_v4(ip: Ipv4Addr, networks: Networks) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        // Linux sends 0.0.0.0 to this machine.
        (0, ..) => Some("unspecified"),
        (169, 254, _) => Some("link-local"),
        (224..=239, ..) => Some("multicast"),
        _ if ip.is_broadcast() => Some("broadcast"),
        _ if METADATA_V4.contains(&ip) => Some("metadata service"),
        _ if networks == Networks::Private => None,
        (127, ..) => Some("loopback"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("private network"),
        // Carrier-grade NAT, RFC 6598.
        (100, 64..=127, _) => Some("private network"),
        // Protocol assignments, documentation, the old 6to4 relay, benchmarks.
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) | (198, 18 | 19, _) => {
            Some("reserved")
        }
        (240..=255, ..) => Some("reserved"),
        _ => None,
    }
}

/// The ranges are those of IANA's IPv6 Special-Purpose Address Registry (RFC 6890).
fn refuse_v6(ip: Ipv6Addr, networks: Networks) -> Option<&'static str> {
    if let Some(inner) = inner_v4(ip) {
        return refuse_v4(inner, networks);
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        // Local-use NAT64 (RFC 8215): where the IPv4 address sits is the network's choice, so it cannot be judged.
        [0x64, 0xff9b, 1, ..] => Some("local NAT64"),
        _ if METADATA_V6.contains(&ip) => Some("metadata service"),
        _ if networks == Networks::Private => None,
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0xfc00..=0xfdff, ..] => Some("private network"),
        // Protocol assignments with Teredo and benchmarks (2001::/23), documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("reserved"),
        // Global unicast.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("reserved"),
    }
}

/// The IPv4 address that packets to this IPv6 address end up at, for the forms with a fixed place for it.
fn inner_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // IPv4-mapped and its stateless-translation form (RFC 4291, RFC 2765).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => join(high, low),
        // IPv4-compatible (RFC 4291), without :: and ::1.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => join(high, low),
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => join(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => join(high, low),
        _ => None,
    }
}

/// Whether two URLs have the same scheme, host and port: a credential given for one may go to the other.
#[must_use]
pub fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// What upstream calls may reach.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Which networks.
    pub networks: Networks,
    /// What is left out of these.
    pub reserved: Reserved,
}

/// The addresses of a host, by the system's resolver, or its own where it is one. Those that are refused are dropped; it fails
/// where none remains. Without a reach nothing is refused, as for the operator's own proxy.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    reach: Option<&Reach>,
) -> Result<Vec<SocketAddr>, Unreachable> {
    let found = lookup_host((host, port)).await.map_err(Unreachable::Name)?;
    let Some(reach) = reach else { return Ok(found.collect()) };
    let found = allowed(found, reach.networks)?;
    Ok(reach.reserved.allowed(found, port).await.ok_or(Refused::OWN)?)
}

/// Judges a host that a proxy leads to.
pub(super) async fn check_beyond_proxy(host: &str, port: u16, reach: &Reach) -> Result<(), Refused> {
    if reach.reserved.allow(host, port).await { Ok(()) } else { Err(Refused::OWN) }
}

/// Those that may be reached. Fails where there were some and all are refused.
fn allowed(found: impl Iterator<Item = SocketAddr>, networks: Networks) -> Result<Vec<SocketAddr>, Refused> {
    let mut kept = Vec::new();
    let mut refused = None;
    for address in found {
        match check_ip(address.ip(), networks) {
            Ok(()) => kept.push(address),
            Err(reason) => refused = Some(reason),
        }
    }
    match refused {
        Some(reason) if kept.is_empty() => Err(reason),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refused under both settings.
    const ALWAYS: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:ec2::23",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "::ffff:169.254.169.254",
        "::ffff:0:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::1",
        "::ffff:0.0.0.0",
    ];

    /// Refused under `public` alone.
    const PRIVATE: &[&str] = &[
        "10.0.0.1",
        "127.0.0.1",
        "127.255.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "240.0.0.1",
        "::1",
        "fc00::1",
        "fdff::1",
        "fec0::1",
        "2001:db8::1",
        "2001::1",
        "2001:2::1",
        "3fff::1",
        "100::1",
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
        "::10.1.2.3",
        "64:ff9b::192.168.0.1",
        "2002:7f00:1::",
    ];

    /// Allowed under both.
    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "169.253.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.169.0.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ];

    fn verdict(ip: &str, networks: Networks) -> bool {
        check_ip(ip.parse().unwrap(), networks).is_ok()
    }

    #[test]
    fn addresses_are_judged_by_what_they_reach() {
        for ip in ALWAYS {
            assert!(!verdict(ip, Networks::Private), "{ip} under private");
            assert!(!verdict(ip, Networks::Public), "{ip} under public");
        }
        for ip in PRIVATE {
            assert!(verdict(ip, Networks::Private), "{ip} under private");
            assert!(!verdict(ip, Networks::Public), "{ip} under public");
        }
        for ip in PUBLIC {
            assert!(verdict(ip, Networks::Private), "{ip} under private");
            assert!(verdict(ip, Networks::Public), "{ip} under public");
        }
    }

    #[test]
    fn base_urls_are_judged_when_saved() {
        let both = [
            ("https://api.openai.com/v1", true),
            ("http://example.com:8080", true),
            ("https://8.8.8.8/v1", true),
            ("https://[2606:4700::1111]/v1", true),
            ("", false),
            ("api.openai.com/v1", false),
            ("/v1", false),
            ("ftp://example.com", false),
            ("file:///etc/passwd", false),
            ("data:text/plain,hi", false),
            ("https://", false),
            ("https://user@example.com", false),
            ("https://:secret@example.com", false),
            ("https://example.com/v1?key=1", false),
            ("https://example.com/v1#x", false),
            ("http://metadata.google.internal/computeMetadata/v1", false),
            ("http://METADATA.google.internal./", false),
            ("http://169.254.169.254/", false),
            // The same address, written as a number, in hex, in octal and with fewer parts.
            ("http://2852039166/", false),
            ("http://0xa9fea9fe/", false),
            ("http://0251.0376.0251.0376/", false),
            ("http://169.254.43518/", false),
            ("http://[::ffff:a9fe:a9fe]/", false),
        ];
        for (url, ok) in both {
            assert_eq!(check_url(url, Networks::Public).is_ok(), ok, "{url} under public");
            assert_eq!(check_url(url, Networks::Private).is_ok(), ok, "{url} under private");
        }
        let private = [
            "http://localhost:11434/v1",
            "http://a.localhost",
            "http://127.1/",
            "http://[::1]:80/",
            "http://10.0.0.5",
        ];
        for url in private {
            assert!(check_url(url, Networks::Private).is_ok(), "{url} under private");
            assert!(check_url(url, Networks::Public).is_err(), "{url} under public");
        }
    }

    #[test]
    fn a_reason_never_repeats_the_url() {
        let reason = check_url("https://user:hunter2@example.com", Networks::Public).unwrap_err();
        assert!(!reason.contains("hunter2"), "{reason}");
    }

    #[test]
    fn refused_addresses_of_a_name_are_dropped() {
        let found = |ips: &[&str]| {
            ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect::<Vec<_>>().into_iter()
        };
        let kept = allowed(found(&["10.0.0.1", "1.1.1.1"]), Networks::Public).unwrap();
        assert_eq!(kept, found(&["1.1.1.1"]).collect::<Vec<_>>());
        assert_eq!(allowed(found(&["10.0.0.1", "::1"]), Networks::Public), Err(Refused("loopback")));
        assert_eq!(allowed(found(&["169.254.169.254"]), Networks::Private), Err(Refused("link-local")));
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://a.com/v1", "https://A.com:443/v2"));
        assert!(same("http://a.com:80", "http://a.com"));
        assert!(!same("https://a.com", "http://a.com"));
        assert!(!same("https://a.com", "https://b.com"));
        assert!(!same("https://a.com", "https://a.com:8443"));
        assert!(!same("https://a.com", "https://a.com.evil.org"));
    }

    #[test]
    fn an_address_says_what_will_be_called() {
        assert!(check_url("http://127.0.0.1:9/v1", Networks::Private).is_ok());
        for lenient in [
            " http://a/v1",
            "http://a/v1\n",
            "http://a/v\t1",
            "http://a/b c",
            "http://a/\0",
            "http:a/v1",
            "http:/a/v1",
            "http:///a/v1",
            "http:\\\\a\\v1",
        ] {
            assert!(check_url(lenient, Networks::Private).is_err(), "{lenient:?}");
        }
    }
}
