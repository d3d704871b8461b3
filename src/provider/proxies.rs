//! Which proxy leads to which host: the settings `--upstream-proxy` and `--upstream-no-proxy`. Pure.
//!
//! Hosts are named as in `NO_PROXY` (curl, Go, Python have the same): `example.com` is that name and all below it, as are
//! `.example.com` and `*.example.com`; `10.0.0.0/8` is every address in it that is written as one, since no name is
//! resolved for a proxy; `:8080` behind either bounds it to that port; `*` is every host.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use std::{fmt, net::IpAddr, sync::Arc};
use url::{Host, Url};

/// One of the operator's proxies.
pub(super) struct Proxy {
    /// Whether it is spoken to over TLS.
    pub(super) tls: bool,
    /// Its name or address; an IPv6 address has no brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What shows who we are, where it asks for that.
    pub(super) authorization: Option<HeaderValue>,
}

/// The ways to all hosts.
#[derive(Clone, Default)]
pub struct Proxies {
    /// Reached without a proxy, whatever the rules say.
    direct: Arc<[Hosts]>,
    /// The first that fits holds.
    rules: Arc<[(Hosts, Arc<Proxy>)]>,
}

/// How they are written, for a bad setting. Never the setting itself: it may hold a password.
const FORM: &str =
    "is not http://HOST:PORT or https://HOST:PORT, or several as HOST=URL, separated by commas";

impl Proxies {
    /// Reads both settings. The first is one URL for all hosts, or a list: `HOST=URL` for some, a URL for the others.
    ///
    /// # Errors
    /// What is wrong with which of them: the first, or else the second. Neither text is repeated.
    pub fn new(proxies: &str, direct: &str) -> Result<Self, Misread> {
        let direct: Option<Arc<[_]>> = words(direct).map(|word| Hosts::new(&word)).collect();
        let direct = direct.ok_or(Misread::Direct("is not a list of HOST, .DOMAIN, ADDRESS/BITS or *"))?;
        // One URL may have whatever a password may have.
        let rules: Option<Arc<[_]>> = match proxy(proxies.trim()) {
            Some(only) => Some([(Hosts::ALL, only)].into()),
            None => words(proxies).map(|word| rule(&word)).collect(),
        };
        let rules = rules.ok_or(Misread::Proxies(FORM))?;
        if rules.iter().rev().skip(1).any(|(hosts, _)| hosts.suffix == Suffix::All && hosts.port.is_none()) {
            return Err(Misread::Proxies("has rules behind the one for all hosts, which is the last"));
        }
        Ok(Self { direct, rules })
    }

    /// The proxy that leads to that host, or none.
    pub(super) fn to(&self, host: &str, port: u16) -> Option<&Arc<Proxy>> {
        if self.direct.iter().any(|hosts| hosts.hold(host, port)) {
            return None;
        }
        self.rules.iter().find(|(hosts, _)| hosts.hold(host, port)).map(|(_, proxy)| proxy)
    }

    /// Whether the host of that URL is reached through a proxy.
    #[must_use]
    pub fn lead_to(&self, url: &Url) -> bool {
        let host = bare(url.host_str().unwrap_or_default());
        self.to(host, url.port_or_known_default().unwrap_or_default()).is_some()
    }

    /// Where the proxies are, each as a URL without user and password.
    #[must_use]
    pub fn addresses(&self) -> Vec<Url> {
        let mut all: Vec<Url> = self.rules.iter().filter_map(|(_, proxy)| proxy.url()).collect();
        all.dedup();
        all
    }
}

/// Says how many there are, since a proxy's address may come with a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules for proxies", self.rules.len())
    }
}

/// Which setting cannot be read, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misread {
    /// That of the proxies.
    Proxies(&'static str),
    /// That of the hosts without one.
    Direct(&'static str),
}

impl Proxy {
    fn url(&self) -> Option<Url> {
        let scheme = if self.tls { "https" } else { "http" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        Url::parse(&format!("{scheme}://{host}:{}", self.port)).ok()
    }
}

/// A host without the brackets that a URL has around an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Hosts that one rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hosts {
    suffix: Suffix,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Suffix {
    All,
    /// In lower case, without a dot before it.
    Name(String),
    /// An address, and how many of its bits count.
    Network(IpAddr, u32),
}

impl Hosts {
    const ALL: Self = Self { suffix: Suffix::All, port: None };

    fn new(text: &str) -> Option<Self> {
        if let Some((network, bits)) = text.split_once('/') {
            let network: IpAddr = bare(network).parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(network))?;
            return Some(Self { suffix: Suffix::Network(network, bits), port: None });
        }
        if let Ok(address) = bare(text).parse::<IpAddr>() {
            return Some(Self { suffix: Suffix::Network(address, width(address)), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        if host == "*" {
            return Some(Self { suffix: Suffix::All, port });
        }
        let name = host.strip_prefix("*.").or(host.strip_prefix('.')).unwrap_or(host);
        let suffix = match Host::parse(name).ok()? {
            // It makes it lower case, and international names what URLs have for them.
            Host::Domain(name) if !name.contains('*') => Suffix::Name(name),
            Host::Ipv4(address) => Suffix::Network(address.into(), 32),
            Host::Ipv6(address) => Suffix::Network(address.into(), 128),
            Host::Domain(_) => return None,
        };
        Some(Self { suffix, port })
    }

    /// Whether they hold that one, given as in a URL, without brackets.
    fn hold(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match &self.suffix {
            Suffix::All => true,
            Suffix::Name(name) => {
                let host = host.strip_suffix('.').unwrap_or(host);
                host.strip_suffix(name.as_str()).is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            Suffix::Network(network, bits) => {
                host.parse().is_ok_and(|address| starts_alike(address, *network, *bits))
            }
        }
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether two addresses of one family have the same first bits.
fn starts_alike(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    let differ = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u32::from(one) ^ u32::from(other)).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (u128::from(one) ^ u128::from(other)).leading_zeros(),
        _ => return false,
    };
    differ >= bits
}

/// What commas or blanks separate.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).map(str::to_owned)
}

fn rule(text: &str) -> Option<(Hosts, Arc<Proxy>)> {
    if let Some(proxy) = proxy(text) {
        return Some((Hosts::ALL, proxy));
    }
    let (hosts, url) = text.split_once('=')?;
    Some((Hosts::new(hosts)?, proxy(url)?))
}

fn proxy(text: &str) -> Option<Arc<Proxy>> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
        let pair = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)));
        value.ok().map(|mut value| {
            value.set_sensitive(true);
            value
        })
    });
    Some(Arc::new(Proxy {
        tls: url.scheme() == "https",
        host: bare(url.host_str()?).to_owned(),
        port: url.port_or_known_default()?,
        authorization: authorization.flatten(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The port of the proxy that leads there, or 0.
    fn way(proxies: &Proxies, host: &str, port: u16) -> u16 {
        proxies.to(host, port).map_or(0, |proxy| proxy.port)
    }

    #[test]
    fn one_url_is_for_all_hosts() {
        let proxies = Proxies::new("http://user:a,b=c@proxy:3128", "").unwrap();
        assert_eq!(way(&proxies, "api.openai.com", 443), 3128);
        let proxy = proxies.to("api.openai.com", 443).unwrap();
        assert_eq!((proxy.host.as_str(), proxy.tls), ("proxy", false));
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic dXNlcjphLGI9Yw==");
        assert_eq!(format!("{proxies:?}"), "1 rules for proxies");
        assert_eq!(way(&Proxies::default(), "a", 1), 0);
        assert!(Proxies::new("", " ").unwrap().addresses().is_empty());
    }

    #[test]
    fn the_first_rule_that_fits_holds() {
        let rules =
            "openai.com=http://one:1, *.azure.com=https://[::1]:2 10.0.0.0/8=http://three:3,http://rest:4";
        let proxies =
            Proxies::new(rules, "localhost,.corp,192.168.0.0/16,[fd00::1],a.openai.com:8080").unwrap();
        let table = [
            ("openai.com", 443, 1),
            ("api.openai.com", 443, 1),
            ("notopenai.com", 443, 4),
            ("x.azure.com", 443, 2),
            ("10.1.2.3", 80, 3),
            ("11.1.2.3", 80, 4),
            ("localhost", 11434, 0),
            ("vllm.corp", 8000, 0),
            ("vllm.corp.", 8000, 0),
            ("corp", 8000, 0),
            ("192.168.3.4", 80, 0),
            ("fd00::1", 80, 0),
            ("fd00::2", 80, 4),
            ("a.openai.com", 8080, 0),
            ("a.openai.com", 443, 1),
        ];
        for (host, port, expected) in table {
            assert_eq!(way(&proxies, host, port), expected, "{host}:{port}");
        }
        assert_eq!(proxies.addresses().len(), 4);
        assert_eq!(proxies.addresses()[1].as_str(), "https://[::1]:2/");
        assert!(proxies.lead_to(&"http://[fd00::2]/v1".parse().unwrap()));
        assert!(!proxies.lead_to(&"http://[fd00::1]/v1".parse().unwrap()));
    }

    #[test]
    fn all_but_some() {
        let proxies = Proxies::new("a.com=http://one:1", "*").unwrap();
        assert_eq!(way(&proxies, "a.com", 443), 0);
        let proxies = Proxies::new("*:80=http://one:1,http://two:2", "").unwrap();
        assert_eq!((way(&proxies, "a", 80), way(&proxies, "a", 443)), (1, 2));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in ["socks5://proxy:1", "proxy:1", "a=b", "=http://a:1", "a b", "http://", "a*b=http://c:1"] {
            assert!(matches!(Proxies::new(bad, ""), Err(Misread::Proxies(_))), "{bad}");
        }
        assert!(matches!(Proxies::new("http://a:1,b=http://c:1", ""), Err(Misread::Proxies(_))));
        for bad in ["10.0.0.0/33", "a/b", "a:port", "a*"] {
            assert!(matches!(Proxies::new("http://a:1", bad), Err(Misread::Direct(_))), "{bad}");
        }
    }
}
