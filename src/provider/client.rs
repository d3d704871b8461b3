//! The one HTTP client that all drivers share.
//!
//! Invariants: redirects are not followed, no proxy is used that the operator did not set,
//! no address goes out unjudged (see [`guard`](super::guard)), no answer is read without a bound, and no error text
//! holds a URL. It sets no deadline beyond connecting: the engine does. When the server is gone, calls fail with
//! `CONNECTION` or `TIMEOUT`.

use super::{
    Payload, Proxies, Target,
    body::{Body, data, open},
    connect::{Connector, Origin, certificates},
    guard::{Networks, Reach, check_host},
    http_error::{failure_of_send, refused},
    pool::{Fate, Host, Limits, Pool, send},
    reserved::Reserved,
    shares::Shares,
    whole::Reading,
};
use crate::balance::{ErrorClass, Failure};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header, uri::Scheme};
use secrecy::ExposeSecret;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use url::Url;
use uuid::Uuid;

/// Why there is no client: TLS cannot be set up, as where the machine has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for upstream calls cannot be built")]
pub struct BuildError(#[from] rustls::Error);

/// A provider's answer, whose body has not been read.
pub(super) type Response = http::Response<Body>;

/// Signs requests to one target, as its driver does.
pub(super) trait Sign: Send + Sync {
    /// Signs a finished request, right before it is sent.
    fn sign(&self, request: &mut Request<Payload>) -> Result<(), Failure>;
}

/// No connection lasts longer, whatever is set: moments are counted in times that have an end.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// An answer that comes in one piece of at most so many bytes is not counted.
const SMALL: usize = 64 << 10;

/// How upstream servers are called.
#[derive(Debug, Clone)]
pub struct UpstreamOptions {
    /// Which networks are reached.
    pub networks: Networks,
    /// What is left out of these: Rota's own ports and stores.
    pub reserved: Reserved,
    /// How long a connection may take, TLS included, where a policy says nothing else.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept over HTTP/1.1. A server that closes it in the same moment takes a request with
    /// it, so that we close first: Node, uvicorn and Apache keep it for 5 s, AWS's load balancer for 60 s, nginx for 75 s.
    pub pool_idle: Duration,
    /// The same over HTTP/2, where a server says which requests it has not looked at, so that nothing is lost.
    pub pool_idle_h2: Duration,
    /// How many unused connections per server are kept.
    pub pool_size: usize,
    /// How many connections there are to one host, those that are being made among them.
    pub connections_of_host: usize,
    /// How many there are in all.
    pub connections: usize,
    /// How long a connection is used. A new one asks the resolver anew, and so finds a provider that has moved.
    pub connection_age: Duration,
    /// Bound of a whole answer, in bytes. 2048 embeddings of 3072 numbers in decimal stay below the default.
    pub max_answer: usize,
    /// How many bytes the answers that are being read take together.
    pub answer_room: usize,
    /// Authorities to trust beside the system's, in PEM.
    pub ca: Option<Vec<u8>>,
    /// Which proxy leads to which host.
    pub proxies: Proxies,
}

impl UpstreamOptions {
    /// The defaults.
    #[must_use]
    pub fn new(networks: Networks) -> Self {
        Self {
            networks,
            reserved: Reserved::default(),
            connect_timeout: Duration::from_secs(5),
            pool_idle: Duration::from_secs(4),
            pool_idle_h2: Duration::from_secs(50),
            pool_size: 256,
            connections_of_host: 5000,
            connections: 10_000,
            connection_age: Duration::from_secs(300),
            max_answer: 96 << 20,
            answer_room: 640 << 20,
            ca: None,
            proxies: Proxies::default(),
        }
    }

    /// Whether these are certificates that can be trusted.
    #[must_use]
    pub fn is_ca(pem: &[u8]) -> bool {
        certificates(pem).is_some()
    }
}

/// Sends requests upstream. Clones share one pool of connections.
#[derive(Clone)]
pub struct UpstreamClient {
    pool: Arc<Pool>,
    networks: Networks,
    max_answer: usize,
    answers: Arc<Shares>,
    on_resend: Arc<dyn Fn() + Send + Sync>,
}

/// How one request is sent.
pub(super) struct Sending {
    to: Arc<Host>,
    tenant: Uuid,
    /// How long a new connection may take.
    within: Option<Duration>,
    /// Whether it may be sent twice without harm.
    repeatable: bool,
}

impl UpstreamClient {
    /// A client that calls in that way.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(options: &UpstreamOptions) -> Result<Self, BuildError> {
        let authorities = options.ca.as_deref().and_then(certificates).unwrap_or_default();
        let reach = Reach { networks: options.networks, reserved: options.reserved.clone() };
        let connector = Connector::new(reach, authorities)?;
        let limits = Limits {
            connect: options.connect_timeout,
            idle: [options.pool_idle, options.pool_idle_h2].map(|time| time.min(LONGEST)),
            size: options.pool_size,
            age: options.connection_age.min(LONGEST),
            of_host: options.connections_of_host,
            in_all: options.connections,
        };
        Ok(Self {
            pool: Pool::new(connector, options.proxies.clone(), limits),
            networks: options.networks,
            max_answer: options.max_answer,
            answers: Shares::new(options.answer_room),
            on_resend: Arc::new(|| ()),
        })
    }

    /// The same, which tells of each request that is sent again because its connection had ended unnoticed: the provider
    /// may have got it twice.
    #[must_use]
    pub fn on_resend(self, tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_resend: Arc::new(tell), ..self }
    }

    /// Which networks it reaches.
    #[must_use]
    pub fn networks(&self) -> Networks {
        self.networks
    }

    /// Reads a whole answer to a tenant's request. Says what room it takes, packed or not.
    pub(super) async fn read(
        &self,
        response: Response,
        tenant: Uuid,
    ) -> Result<(Bytes, Reading<'_>), Failure> {
        let mut body = response.into_body();
        let mut reading = Reading::new(&self.answers, tenant);
        let Some(first) = data(&mut body).await? else { return Ok((Bytes::new(), reading)) };
        // Most answers: read at once, and no more than this for each call.
        if body.is_at_end() && first.len() <= SMALL.min(self.max_answer) {
            return Ok((first, reading));
        }
        let too_large = || Failure::new(ErrorClass::ServerError, "the provider's answer is too large");
        if first.len() > self.max_answer {
            return Err(too_large());
        }
        reading.grow(first.len())?;
        if body.is_at_end() {
            return Ok((first, reading));
        }
        // What was announced takes no memory before it is there.
        let expected = body.expected().min(self.max_answer.saturating_sub(first.len()));
        let mut whole = Vec::with_capacity(first.len() + expected);
        whole.extend_from_slice(&first);
        drop(first);
        while let Some(piece) = data(&mut body).await? {
            if whole.len() + piece.len() > self.max_answer {
                return Err(too_large());
            }
            reading.grow(piece.len())?;
            whole.extend_from_slice(&piece);
        }
        Ok((whole.into(), reading))
    }

    /// Sends a request to that address, signed, and returns whatever answer comes. What the request is made of takes no room
    /// in what waits for its answer.
    pub(super) fn send<'c>(
        &'c self,
        url: &Url,
        mut request: Request<Payload>,
        target: &Target,
        repeatable: bool,
        signer: &'c dyn Sign,
    ) -> Result<BoxFuture<'c, Result<Response, Failure>>, Failure> {
        check_host(url, self.networks).map_err(refused)?;
        let malformed = || Failure::new(ErrorClass::BadRequest, "the provider's URL is malformed");
        *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|_| malformed())?;
        let tls = request.uri().scheme() == Some(&Scheme::HTTPS);
        let authority = request.uri().authority().cloned().ok_or_else(malformed)?;
        let headers = request.headers_mut();
        for (name, value) in USUAL {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        let to = self.pool.host(Origin { tls, authority });
        let sending = Sending { to, tenant: target.tenant, within: target.connect_timeout, repeatable };
        Ok(Box::pin(self.exchange(sending, request, signer)))
    }

    /// The request goes once more, signed anew and over a connection that is made for it, where the provider has certainly
    /// not looked at it (RFC 9113 section 8.7), or where the connection had ended while nobody used it and the request may be
    /// repeated (RFC 9110 section 9.2.2).
    async fn exchange(
        &self,
        sending: Sending,
        request: Request<Payload>,
        signer: &dyn Sign,
    ) -> Result<Response, Failure> {
        let mut after = None;
        loop {
            let mut signed = request.clone();
            signer.sign(&mut signed)?;
            let lease = sending.to.lease(sending.tenant, sending.within, after).await?;
            let broken = match send(lease, signed).await {
                Ok(response) => return Ok(open(response)),
                Err(broken) => broken,
            };
            let again = match broken.fate {
                Fate::Unsent | Fate::Untouched => true,
                Fate::Unheard => sending.repeatable,
                Fate::Unknown => false,
            };
            if !again || after.is_some() {
                return Err(failure_of_send(&broken));
            }
            if broken.fate == Fate::Unheard {
                (self.on_resend)();
            }
            after = Some(Instant::now());
        }
    }
}

/// What goes with every request that does not say otherwise.
const USUAL: [(HeaderName, &str); 3] = [
    (header::USER_AGENT, concat!("rota/", env!("CARGO_PKG_VERSION"))),
    (header::ACCEPT, "*/*"),
    // What is packed all the same is unpacked.
    (header::ACCEPT_ENCODING, "identity"),
];

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

    struct Unsigned;

    impl Sign for Unsigned {
        fn sign(&self, _: &mut Request<Payload>) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn addresses_are_judged_after_resolving() {
        // Nobody but the guard in the resolver can refuse this name.
        let said = async |networks| {
            // A way without the proxy is judged as any other.
            let proxies = Proxies::new("http://127.0.0.1:1", "localhost").unwrap();
            let options = UpstreamOptions { proxies, ..UpstreamOptions::new(networks) };
            let client = UpstreamClient::new(&options).unwrap();
            let origin = Origin { tls: false, authority: "localhost:1".parse().unwrap() };
            let to = client.pool.host(origin);
            let sending = Sending { to, tenant: Uuid::nil(), within: None, repeatable: true };
            let request = Request::new(Payload::default());
            let failure = client.exchange(sending, request, &Unsigned).await.err().unwrap();
            (failure.unsent, failure.message)
        };
        assert_eq!(said(Networks::Public).await, (true, "address not allowed: loopback".to_owned()));
        assert_eq!(said(Networks::Private).await, (true, "the provider cannot be reached".to_owned()));
    }
}
