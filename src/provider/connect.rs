//! Makes connections to providers: each to an address that the guard has let through, or to the operator's proxy, with
//! TLS where the URL says so, and within the bound of the call that makes it.
//!
//! A proxy gets requests for `http` URLs whole, and a tunnel (CONNECT, RFC 9110 section 9.3.6) for `https`: what goes
//! through it is sealed for the provider.

use super::guard::Guard;
use http::{HeaderValue, Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector, proxy::Tunnel},
    rt::TokioIo,
};
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tower::{BoxError, Service};

tokio::task_local! {
    /// How long the calls of this task may take to connect.
    static WITHIN: Duration;
}

/// Runs an attempt whose new connections may take so long; none: as the service is set.
pub async fn connect_within<F: Future>(bound: Option<Duration>, attempt: F) -> F::Output {
    match bound {
        Some(bound) => WITHIN.scope(bound, attempt).await,
        None => attempt.await,
    }
}

/// The operator's proxy.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    pub(super) address: Uri,
    /// What shows who we are, where it asks for that.
    pub(super) authorization: Option<HeaderValue>,
}

/// Connects the HTTP client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    ways: Arc<HttpsConnector<Dial>>,
    within: Duration,
}

impl Connector {
    /// Connects within that time where the task says nothing else, and trusts those authorities beside the system's.
    ///
    /// # Errors
    /// Where TLS cannot be set up, as on a machine without root certificates.
    pub(super) fn new(
        guard: Guard,
        proxy: Option<Proxy>,
        authorities: Vec<CertificateDer<'static>>,
        within: Duration,
    ) -> Result<Self, rustls::Error> {
        let mut tcp = HttpConnector::new_with_resolver(guard);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = tls(authorities)?;
        let proxy = proxy.map(|proxy| {
            let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
            (https.enable_http1().wrap_connector(tcp.clone()), proxy)
        });
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let ways = https.enable_all_versions().wrap_connector(Dial { tcp, proxy });
        Ok(Self { ways: Arc::new(ways), within })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Dialled>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let within = WITHIN.try_with(|within| *within).unwrap_or(self.within);
        let connecting = HttpsConnector::clone(&self.ways).call(uri);
        Box::pin(async move {
            match tokio::time::timeout(within, connecting).await {
                Ok(made) => made,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

/// The system's authorities and those.
fn tls(authorities: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(authorities, provider.clone())?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    // The library's word for any verifier that is not its own; this one is the platform's.
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// The certificates of a PEM; none where there are none, or one is malformed.
pub(super) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Opens what TLS may be laid over.
#[derive(Clone)]
struct Dial {
    tcp: HttpConnector<Guard>,
    proxy: Option<(HttpsConnector<HttpConnector<Guard>>, Proxy)>,
}

impl Service<Uri> for Dial {
    type Response = Dialled;
    type Error = BoxError;
    type Future = Connecting<Dialled>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Some((way, proxy)) = &mut self.proxy else {
            let connecting = self.tcp.call(uri);
            return Box::pin(async move {
                Ok(Dialled { io: MaybeHttpsStream::Http(connecting.await?), forwards: false })
            });
        };
        if uri.scheme() == Some(&Scheme::HTTPS) {
            let mut tunnel = Tunnel::new(proxy.address.clone(), way.clone());
            if let Some(authorization) = &proxy.authorization {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let connecting = tunnel.call(uri);
            return Box::pin(async move { Ok(Dialled { io: connecting.await?, forwards: false }) });
        }
        let connecting = way.call(proxy.address.clone());
        Box::pin(async move { Ok(Dialled { io: connecting.await?, forwards: true }) })
    }
}

/// A connection to a provider or a proxy.
pub(super) struct Dialled {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether a proxy at its other end forwards requests: then these say the whole URL.
    forwards: bool,
}

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.forwards)
    }
}

impl Read for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }
}
