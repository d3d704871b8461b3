//! The one HTTP client that all drivers share.
//!
//! Invariants: redirects are not followed, no proxy is used that the operator did not set,
//! no address goes out unjudged (see [`guard`](super::guard)), no answer is read without a bound, and no error text
//! holds a URL. It sets no deadline beyond connecting: the engine does. When the server is gone, calls fail with
//! `CONNECTION` or `TIMEOUT`.

use super::{
    ByteStream, Target, classify,
    connect::ConnectBound,
    guard::{Guard, Networks, Refused, check_host},
    redact::Redactor,
};
use crate::balance::{ErrorClass, Failure};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::{Certificate, Proxy, RequestBuilder, Response, multipart::Form, redirect};
use rustix::io::Errno;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::{
    error::Error as _,
    io,
    time::{Duration, SystemTime},
};
use url::Url;

/// How much of an error's body is read, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// How long to wait for an error's body: its status and headers are known already.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);

/// Why there is no client: TLS cannot be set up, as where the machine has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for upstream calls cannot be built")]
pub struct BuildError(#[source] reqwest::Error);

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
        Certificate::from_pem_bundle(pem).is_ok_and(|certificates| !certificates.is_empty())
    }
}

/// Sends requests upstream. Clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct UpstreamClient {
    http: reqwest::Client,
    networks: Networks,
    max_answer: usize,
}

impl UpstreamClient {
    /// A client that calls in that way.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(options: &UpstreamOptions) -> Result<Self, BuildError> {
        let broken = |error: reqwest::Error| BuildError(error.without_url());
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("rota/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .connector_layer(ConnectBound { default: options.connect_timeout })
            .tcp_nodelay(true)
            .pool_idle_timeout(options.pool_idle)
            .pool_max_idle_per_host(options.pool_size)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10));
        let mut proxy_name = None;
        builder = match &options.proxy {
            Some(proxy) => {
                let url = Url::parse(proxy.expose_secret()).ok();
                proxy_name = url.and_then(|url| url.host_str().map(str::to_owned));
                builder.proxy(Proxy::all(proxy.expose_secret()).map_err(broken)?)
            }
            None => builder.no_proxy(),
        };
        if let Some(ca) = &options.ca {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(ca).map_err(broken)?);
        }
        let guard = Guard { networks: options.networks, proxy: proxy_name.map(Into::into) };
        let http = builder.dns_resolver(guard).build().map_err(broken)?;
        Ok(Self { http, networks: options.networks, max_answer: options.max_answer })
    }

    /// Which networks it reaches.
    #[must_use]
    pub fn networks(&self) -> Networks {
        self.networks
    }

    /// Sends a request, with a JSON body where there is one, and returns the answer to it where the status is 2xx.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<&Value>,
        redactor: &Redactor,
    ) -> Result<Response, Failure> {
        let request = self.http.request(method, url.clone()).headers(headers);
        let request = match body {
            Some(body) => {
                request.header(http::header::CONTENT_TYPE, "application/json").body(body.to_string())
            }
            None => request,
        };
        self.success(&url, request, redactor).await
    }

    /// Sends a request and returns whatever answer comes.
    pub(super) async fn exchange(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Failure> {
        let request = self.http.request(method, url.clone()).headers(headers);
        self.answer(&url, if body.is_empty() { request } else { request.body(body) }).await
    }

    /// Posts a form, and returns the answer to it where the status is 2xx.
    pub(super) async fn send_form(
        &self,
        url: Url,
        headers: HeaderMap,
        form: Form,
        redactor: &Redactor,
    ) -> Result<Response, Failure> {
        let request = self.http.post(url.clone()).headers(headers).multipart(form);
        self.success(&url, request, redactor).await
    }

    /// Reads a whole answer.
    pub(super) async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::with_capacity(response.content_length().map_or(0, |n| n.min(1 << 20) as usize));
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > self.max_answer {
                return Err(Failure::new(ErrorClass::ServerError, "the provider's answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn success(
        &self,
        url: &Url,
        request: RequestBuilder,
        redactor: &Redactor,
    ) -> Result<Response, Failure> {
        let response = self.answer(url, request).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response, redactor).await) }
    }

    async fn answer(&self, url: &Url, request: RequestBuilder) -> Result<Response, Failure> {
        check_host(url, self.networks).map_err(refused)?;
        request.send().await.map_err(failure)
    }
}

/// The body of an answer as it comes.
pub(super) fn body(response: Response) -> ByteStream {
    response.bytes_stream().map(|chunk| chunk.map_err(failure)).boxed()
}

/// The URL of a path below the base, whose own path stays.
pub(super) fn join(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    // Fails for URLs without a host alone, which no `base_url` is; the client refuses them.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// The base, with the version of the API where there is no path at all: a vendor's own clients add it by themselves, so
/// that people leave it out.
pub(super) fn with_version(base: &Url, version: &str) -> Url {
    if base.path() == "/" { join(base, &[version]) } else { base.clone() }
}

/// The base without a version of the API at its end, for a vendor whose paths have one.
pub(super) fn without_version(base: &Url, versions: &[&str]) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    if let Some((root, last)) = path.rsplit_once('/')
        && versions.contains(&last)
    {
        url.set_path(root);
    }
    url
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

/// What an answer that is no success means. What cannot be read of its body is left out.
async fn refusal(mut response: Response, redactor: &Redactor) -> Failure {
    let (body, _) = read_error(&mut response).await;
    classify::of_answer(response.status(), response.headers(), &body, redactor, SystemTime::now())
}

/// Reads the start of an error's body, and whether the connection broke meanwhile. More may follow.
pub(super) async fn read_error(response: &mut Response) -> (Vec<u8>, Option<Failure>) {
    let mut body = Vec::new();
    let fill = async {
        while body.len() < MAX_ERROR {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return None,
                Err(error) => return Some(failure(error)),
            }
        }
        None
    };
    // Late or not, what has come is used.
    let broke = tokio::time::timeout(ERROR_BODY_WAIT, fill).await.ok().flatten();
    (body, broke)
}

/// What an error of the HTTP client means. Takes its kind alone: its text holds the URL.
pub(super) fn failure(error: reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(reason) = inner.downcast_ref::<Refused>() {
            return refused(*reason);
        }
        if inner.downcast_ref::<io::Error>().is_some_and(is_ours) {
            let message = "this replica can open no more connections";
            return Failure { unsent: true, ours: true, ..Failure::new(ErrorClass::Connection, message) };
        }
        cause = inner.source();
    }
    let (class, message) = if error.is_timeout() {
        (ErrorClass::Timeout, "the provider did not answer in time")
    } else if error.is_dns() {
        (ErrorClass::Connection, "the provider's name cannot be resolved")
    } else if error.is_connect() {
        (ErrorClass::Connection, "the provider cannot be reached")
    } else if error.is_body() || error.is_decode() {
        (ErrorClass::Connection, "the connection broke within the answer")
    } else {
        (ErrorClass::Connection, "the connection broke")
    };
    let unsent = error.is_dns() || error.is_connect();
    Failure { unsent, ..Failure::new(class, message) }
}

/// Whether this process or machine has run out of descriptors or memory.
fn is_ours(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

fn refused(reason: Refused) -> Failure {
    Failure { unsent: true, ..Failure::new(ErrorClass::Connection, reason.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_there_once() {
        let with =
            [("https://h", "/v1"), ("https://h/", "/v1"), ("https://h/v1/", "/v1/"), ("https://h/a", "/a")];
        for (base, path) in with {
            assert_eq!(with_version(&base.parse().unwrap(), "v1").path(), path, "{base}");
        }
        let without =
            [("https://h", "/"), ("https://h/v2", "/"), ("https://h/a/v1/", "/a"), ("https://h/v3", "/v3")];
        for (base, path) in without {
            assert_eq!(without_version(&base.parse().unwrap(), &["v1", "v2"]).path(), path, "{base}");
        }
    }

    #[test]
    fn the_base_path_is_kept() {
        let table = [
            ("https://h/v1", "https://h/v1/chat/completions"),
            ("https://h/v1/", "https://h/v1/chat/completions"),
            ("https://h", "https://h/chat/completions"),
            ("https://h:8443/a/b%20c", "https://h:8443/a/b%20c/chat/completions"),
        ];
        for (base, url) in table {
            assert_eq!(join(&base.parse().unwrap(), &["chat", "completions"]).as_str(), url);
        }
    }
}
