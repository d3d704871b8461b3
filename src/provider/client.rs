//! The one HTTP client that all drivers share.
//!
//! Invariants: redirects are not followed, no proxy is used that the operator did not set,
//! no address goes out unjudged (see [`guard`](super::guard)), no answer is read without a bound, and no error text
//! holds a URL. It sets no deadline beyond connecting: the engine does. When the server is gone, calls fail with
//! `CONNECTION` or `TIMEOUT`.

use super::{
    Target,
    body::{Body, data, open},
    connect::{Connector, Proxy, certificates},
    guard::{Guard, Networks, check_host},
    http_error::{failure_of_send, is_untouched, refused},
};
use crate::balance::{ErrorClass, Failure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Buf, Bytes, buf::Chain};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header, uri::Scheme};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, ResponseFuture},
    rt::{TokioExecutor, TokioTimer},
};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use url::Url;

/// Why there is no client: TLS cannot be set up, as where the machine has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for upstream calls cannot be built")]
pub struct BuildError(#[from] rustls::Error);

/// A provider's answer, whose body has not been read.
pub(super) type Response = http::Response<Body>;

/// The body of a request, in pieces that are never copied into one. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Payload([Bytes; 3]);

/// The same as it is sent.
type Pieces = Chain<Bytes, Chain<Bytes, Bytes>>;

impl Payload {
    /// The pieces in their order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().filter(|piece| !piece.is_empty())
    }
}

impl From<Bytes> for Payload {
    fn from(body: Bytes) -> Self {
        Self([body, Bytes::new(), Bytes::new()])
    }
}

impl From<[Bytes; 3]> for Payload {
    fn from(pieces: [Bytes; 3]) -> Self {
        Self(pieces)
    }
}

/// Signs requests to one target, as its driver does.
pub(super) trait Sign: Send + Sync {
    /// Signs a finished request, right before it is sent.
    fn sign(&self, request: &mut Request<Payload>) -> Result<(), Failure>;
}

/// How upstream servers are called.
#[derive(Debug, Clone)]
pub struct UpstreamOptions {
    /// Which networks are reached.
    pub networks: Networks,
    /// How long a connection may take, TLS included, where a policy says nothing else.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Below what common load balancers use, so that we close first.
    pub pool_idle: Duration,
    /// How many unused connections per server are kept.
    pub pool_size: usize,
    /// Bound of a whole answer, in bytes. 2048 embeddings of 3072 numbers in decimal stay below the default.
    pub max_answer: usize,
    /// Authorities to trust beside the system's, in PEM.
    pub ca: Option<Vec<u8>>,
    /// A proxy for every request, as `http://host:port` or `https://host:port`, with a user and password where needed.
    pub proxy: Option<SecretString>,
}

impl UpstreamOptions {
    /// The defaults.
    #[must_use]
    pub fn new(networks: Networks) -> Self {
        Self {
            networks,
            connect_timeout: Duration::from_secs(5),
            pool_idle: Duration::from_secs(50),
            pool_size: 256,
            max_answer: 96 << 20,
            ca: None,
            proxy: None,
        }
    }

    /// Whether these are certificates that can be trusted.
    #[must_use]
    pub fn is_ca(pem: &[u8]) -> bool {
        certificates(pem).is_some()
    }
}

/// Sends requests upstream. Clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct UpstreamClient {
    http: Client<Connector, Full<Pieces>>,
    networks: Networks,
    max_answer: usize,
    /// What a proxy wants to see with each request that it forwards.
    proxy_authorization: Option<HeaderValue>,
}

impl UpstreamClient {
    /// A client that calls in that way.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(options: &UpstreamOptions) -> Result<Self, BuildError> {
        let proxy = options.proxy.as_ref().and_then(|proxy| proxy_of(proxy.expose_secret()));
        let proxy_authorization = proxy.as_ref().and_then(|proxy| proxy.authorization.clone());
        // Where there is a proxy, nothing but its own name is resolved here, and it may be anywhere.
        let guard = Guard { networks: proxy.is_none().then_some(options.networks) };
        let authorities = options.ca.as_deref().and_then(certificates).unwrap_or_default();
        let connector = Connector::new(guard, proxy, authorities, options.connect_timeout)?;
        let http = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.pool_idle)
            .pool_max_idle_per_host(options.pool_size)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build(connector);
        Ok(Self { http, networks: options.networks, max_answer: options.max_answer, proxy_authorization })
    }

    /// Which networks it reaches.
    #[must_use]
    pub fn networks(&self) -> Networks {
        self.networks
    }

    /// Reads a whole answer.
    pub(super) async fn read(&self, response: Response) -> Result<Bytes, Failure> {
        let mut body = response.into_body();
        let first = match data(&mut body).await? {
            Some(first) if body.is_at_end() && first.len() <= self.max_answer => return Ok(first),
            first => first.unwrap_or_default(),
        };
        let expected = body.expected().min(1 << 20);
        let mut whole = Vec::with_capacity(first.len() + expected);
        let mut next = Some(first);
        while let Some(piece) = next {
            if whole.len() + piece.len() > self.max_answer {
                return Err(Failure::new(ErrorClass::ServerError, "the provider's answer is too large"));
            }
            whole.extend_from_slice(&piece);
            next = data(&mut body).await?;
        }
        Ok(whole.into())
    }

    /// Sends a request to that address, signed. What the request is made of takes no room in what waits for its answer.
    pub(super) fn send(
        &self,
        url: &Url,
        mut request: Request<Payload>,
        signer: &dyn Sign,
    ) -> Result<Sent, Failure> {
        check_host(url, self.networks).map_err(refused)?;
        *request.uri_mut() = Uri::try_from(url.as_str())
            .map_err(|_| Failure::new(ErrorClass::BadRequest, "the provider's URL is malformed"))?;
        let plain = request.uri().scheme() == Some(&Scheme::HTTP);
        let headers = request.headers_mut();
        for (name, value) in USUAL {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        if plain && let Some(authorization) = &self.proxy_authorization {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        // Only over TLS may HTTP/2 have been agreed on.
        let again = (!plain).then(|| Box::new(request.clone()));
        Ok(Sent { first: self.signed(request, signer)?, again })
    }

    fn signed(&self, mut request: Request<Payload>, signer: &dyn Sign) -> Result<ResponseFuture, Failure> {
        signer.sign(&mut request)?;
        Ok(self
            .http
            .request(request.map(|Payload([head, middle, tail])| Full::new(head.chain(middle.chain(tail))))))
    }
}

/// A request on its way.
pub(super) struct Sent {
    first: ResponseFuture,
    /// The same without its signature, where it may have to go again.
    again: Option<Box<Request<Payload>>>,
}

impl Sent {
    /// Waits for whatever answer comes. The request goes once more, signed anew, where the provider has certainly not
    /// looked at it.
    pub(super) async fn answer(
        self,
        client: &UpstreamClient,
        signer: &dyn Sign,
    ) -> Result<Response, Failure> {
        match (self.first.await, self.again) {
            (Err(error), Some(again)) if is_untouched(&error) => client.signed(*again, signer)?.await,
            (answer, _) => answer,
        }
        .map(open)
        .map_err(failure_of_send)
    }
}

/// What goes with every request that does not say otherwise.
const USUAL: [(HeaderName, &str); 3] = [
    (header::USER_AGENT, concat!("rota/", env!("CARGO_PKG_VERSION"))),
    (header::ACCEPT, "*/*"),
    // What is packed all the same is unpacked.
    (header::ACCEPT_ENCODING, "identity"),
];

/// The proxy of that setting; none where it is no URL, which settings refuse.
fn proxy_of(text: &str) -> Option<Proxy> {
    let url = Url::parse(text).ok()?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
        let pair = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)));
        value.ok().map(|mut value| {
            value.set_sensitive(true);
            value
        })
    });
    let address = format!("{}://{}:{}", url.scheme(), url.host_str()?, url.port_or_known_default()?);
    Some(Proxy { address: address.parse().ok()?, authorization: authorization.flatten() })
}

/// Puts a field of the credential into a header, marked sensitive; an empty one is left out.
pub(super) fn put_field(
    headers: &mut HeaderMap,
    name: HeaderName,
    target: &Target,
    field: &str,
    prefix: &str,
) -> Result<(), Failure> {
    let value = target.fields.get(field).map(|value| value.expose_secret().trim()).unwrap_or_default();
    if !value.is_empty() {
        let mut value = HeaderValue::from_str(&format!("{prefix}{value}")).map_err(|_| {
            Failure::new(
                ErrorClass::Authentication,
                format!("{field} has characters that no header can hold"),
            )
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_judged_after_resolving() {
        // Nobody but the guard can refuse this name.
        let url = || Uri::from_static("http://localhost:1/v1");
        let said = async |networks| {
            let guard = Guard { networks: Some(networks) };
            let connector = Connector::new(guard, None, Vec::new(), Duration::from_secs(5)).unwrap();
            let executor = TokioExecutor::new();
            let http = Client::builder(executor).build::<_, http_body_util::Empty<Bytes>>(connector);
            failure_of_send(http.get(url()).await.unwrap_err()).message
        };
        assert_eq!(said(Networks::Public).await, "address not allowed: loopback");
        assert_eq!(said(Networks::Private).await, "the provider cannot be reached");
    }
}
