//! Whether a request may come from where it comes. A page in a browser can send requests to whatever its machine reaches,
//! under a name of its own that leads there ("DNS rebinding",
//! <https://developer.chrome.com/blog/private-network-access-update>), so the name in `Host` must be one of ours, and a page
//! of another origin is refused. No CORS headers are sent.

use http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};
use std::net::{IpAddr, SocketAddr};

/// The names under which the door is reached, beside those of loopback and its own address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    any: bool,
    names: Vec<String>,
}

impl AllowedHosts {
    /// Reads names that are separated by commas: `rota.example,*.svc.cluster.local`, or `*` for any.
    ///
    /// # Errors
    /// The entry that is no name.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut hosts = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let name = entry.strip_prefix("*.").unwrap_or(entry);
            let is_name =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
            match entry {
                "*" => hosts.any = true,
                _ if name.is_empty() || !name.chars().all(is_name) => return Err(entry.to_owned()),
                _ => hosts.names.push(entry.trim_matches(['[', ']']).to_ascii_lowercase()),
            }
        }
        Ok(hosts)
    }

    fn has(&self, name: &str, local: SocketAddr) -> bool {
        let name = name.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = name.parse::<IpAddr>() {
            let address = address.to_canonical();
            return self.any
                || address.is_loopback()
                || address == local.ip().to_canonical()
                || self.names.contains(&name);
        }
        let is_local = name == "localhost" || name.ends_with(".localhost");
        self.any || is_local || self.names.iter().any(|allowed| is_named(allowed, &name))
    }
}

fn is_named(allowed: &str, name: &str) -> bool {
    match allowed.strip_prefix('*') {
        Some(end) => name.len() > end.len() && name.ends_with(end),
        None => allowed == name,
    }
}

/// Why a request is refused for where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// There is no name of the host, or several.
    NoHost,
    /// The host is none of ours.
    Host,
    /// A page of another origin.
    Origin,
}

/// Checks the name of the host and the origin.
///
/// # Errors
/// Where one is not ours.
pub fn check(
    headers: &HeaderMap,
    uri: &Uri,
    local: SocketAddr,
    allowed: &AllowedHosts,
) -> Result<(), Foreign> {
    let host = host(headers, uri).ok_or(Foreign::NoHost)?;
    if !allowed.has(host.host(), local) {
        return Err(Foreign::Host);
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let same =
        origin.as_ref().and_then(Uri::authority).is_some_and(|own| is_same(own, &host, origin.as_ref()));
    if same && origins.next().is_none() { Ok(()) } else { Err(Foreign::Origin) }
}

/// HTTP/2 has the host in the URI, HTTP/1.1 in a header, once (RFC 9112, section 3.2).
fn host(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    let mut named = headers.get_all(HOST).iter();
    let header = named.next().map(|host| host.to_str().ok()?.parse::<Authority>().ok());
    match (uri.authority(), header, named.next()) {
        (Some(authority), None, None) => Some(authority.clone()),
        (None, Some(header), None) => header,
        (Some(authority), Some(header), None) => header.filter(|header| header == authority),
        _ => None,
    }
}

fn is_same(origin: &Authority, host: &Authority, uri: Option<&Uri>) -> bool {
    let usual = match uri.and_then(Uri::scheme_str) {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(usual);
    origin.host().eq_ignore_ascii_case(host.host()) && port(origin) == port(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(host: &str, origin: Option<&str>, allowed: &str) -> Result<(), Foreign> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        let local = "10.1.2.3:8080".parse().unwrap();
        check(&headers, &Uri::from_static("/v1/models"), local, &AllowedHosts::read(allowed).unwrap())
    }

    #[test]
    fn loopback_the_own_address_and_what_is_allowed_are_ours() {
        for host in [
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1",
            "[::1]:8080",
            "127.9.9.9:1",
            "a.localhost",
            "10.1.2.3:8080",
            "localhost.",
        ] {
            assert_eq!(checked(host, None, ""), Ok(()), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.1.2.4", "rota"] {
            assert_eq!(checked(host, None, ""), Err(Foreign::Host), "{host}");
        }
        let allowed = "rota, *.svc.cluster.local,10.9.9.9";
        for host in ["rota:8080", "ROTA", "a.svc.cluster.local", "a.b.svc.cluster.local:80", "10.9.9.9"] {
            assert_eq!(checked(host, None, allowed), Ok(()), "{host}");
        }
        for host in ["rota.evil.example", "svc.cluster.local", "xsvc.cluster.local", "10.9.9.8"] {
            assert_eq!(checked(host, None, allowed), Err(Foreign::Host), "{host}");
        }
        assert_eq!(checked("evil.example", None, "*"), Ok(()));
        assert_eq!(AllowedHosts::read("a b"), Err("a b".to_owned()));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        assert_eq!(checked("localhost:8080", Some("http://localhost:8080"), ""), Ok(()));
        assert_eq!(checked("localhost", Some("http://localhost"), ""), Ok(()));
        for origin in [
            "http://evil.example",
            "http://localhost:8081",
            "http://localhost",
            "null",
            "file://",
            "https://localhost:8080.evil.example",
        ] {
            assert_eq!(checked("localhost:8080", Some(origin), ""), Err(Foreign::Origin), "{origin}");
        }
    }

    #[test]
    fn there_is_one_host() {
        let local = "127.0.0.1:1".parse().unwrap();
        let allowed = AllowedHosts::default();
        let mut headers = HeaderMap::new();
        let path = Uri::from_static("/v1/models");
        assert_eq!(check(&headers, &path, local, &allowed), Err(Foreign::NoHost));
        headers.append(HOST, "localhost".parse().unwrap());
        let whole = Uri::from_static("http://evil.example/v1/models");
        assert_eq!(check(&headers, &whole, local, &allowed), Err(Foreign::NoHost));
        headers.append(HOST, "localhost".parse().unwrap());
        assert_eq!(check(&headers, &path, local, &allowed), Err(Foreign::NoHost));
    }
}
