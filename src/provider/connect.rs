//! Makes connections to providers: each to an address that the guard has let through, or to the operator's proxy, with
//! TLS where the URL says so.
//!
//! A proxy gets requests for `http` URLs whole, and a tunnel (CONNECT, RFC 9110 section 9.3.6) for `https`: what goes
//! through it is sealed for the provider.

use super::{
    eyeballs,
    guard::{Reach, Unreachable, check_beyond_proxy, resolve},
    proxies::{Proxy, bare},
};
use bytes::Bytes;
use http::{HeaderValue, Request, header, uri::Authority};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::BoxError;

/// What HTTP is spoken over.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Acknowledges at once what has come. The system would wait for up to 40 ms.
    fn acknowledge(&self);
}

impl Io for TcpStream {
    fn acknowledge(&self) {
        // Other systems have no such option. Without it the answer comes later, and that is all.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(self, true);
    }
}

impl<I: Io> Io for TlsStream<I> {
    fn acknowledge(&self) {
        self.get_ref().0.acknowledge();
    }
}

impl Io for Box<dyn Io> {
    fn acknowledge(&self) {
        (**self).acknowledge();
    }
}

/// A connection that was made.
pub(super) struct Connected {
    pub(super) io: Box<dyn Io>,
    /// Whether both sides speak HTTP/2.
    pub(super) h2: bool,
}

/// Who is called: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) tls: bool,
    pub(super) authority: Authority,
}

impl Origin {
    /// The host, without brackets.
    pub(super) fn host(&self) -> &str {
        bare(self.authority.host())
    }

    pub(super) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 })
    }
}

/// Connects to providers.
pub(super) struct Connector {
    reach: Reach,
    /// To providers, with the choice of HTTP/2.
    to_provider: TlsConnector,
    to_proxy: TlsConnector,
}

impl Connector {
    /// Trusts those authorities beside the system's.
    ///
    /// # Errors
    /// Where TLS cannot be set up, as on a machine without root certificates.
    pub(super) fn new(
        reach: Reach,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, rustls::Error> {
        let tls = tls(authorities)?;
        let mut with_choice = tls.clone();
        with_choice.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { reach, to_provider: Arc::new(with_choice).into(), to_proxy: Arc::new(tls).into() })
    }

    /// Connects to a provider, through that proxy where there is one. The time is divided over the addresses of a name,
    /// but it is the caller who ends it.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        proxy: Option<&Proxy>,
        within: Duration,
    ) -> Result<Connected, BoxError> {
        let Some(proxy) = proxy else {
            let tcp = tcp(origin.host(), origin.port(), Some(&self.reach), within).await?;
            return if origin.tls { self.seal(tcp, origin).await } else { Ok(plain(tcp)) };
        };
        check_beyond_proxy(origin.host(), origin.port(), &self.reach).await.map_err(Unreachable::Refused)?;
        // The proxy itself may be anywhere.
        let tcp = tcp(&proxy.host, proxy.port, None, within).await?;
        let io: Box<dyn Io> =
            if proxy.tls { Box::new(sealed(&self.to_proxy, tcp, &proxy.host).await?) } else { Box::new(tcp) };
        if !origin.tls {
            return Ok(Connected { io, h2: false });
        }
        let io = tunnel(io, &origin.authority, origin.port(), proxy.authorization.as_ref()).await?;
        self.seal(io, origin).await
    }

    /// Lays TLS over what leads to a provider.
    async fn seal<I: Io + 'static>(&self, io: I, origin: &Origin) -> Result<Connected, BoxError> {
        let tls = sealed(&self.to_provider, io, origin.host()).await?;
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connected { io: Box::new(tls), h2 })
    }
}

fn plain(tcp: TcpStream) -> Connected {
    Connected { io: Box::new(tcp), h2: false }
}

/// A connection to one of the addresses of that host.
async fn tcp(host: &str, port: u16, reach: Option<&Reach>, within: Duration) -> Result<TcpStream, BoxError> {
    let tcp = eyeballs::connect(resolve(host, port, reach).await?, within).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

async fn sealed<I: Io>(tls: &TlsConnector, io: I, host: &str) -> Result<TlsStream<I>, BoxError> {
    let name = ServerName::try_from(host.to_owned())?;
    Ok(tls.connect(name, io).await?)
}

/// Asks a proxy for a way to that host.
async fn tunnel(
    io: Box<dyn Io>,
    host: &Authority,
    port: u16,
    authorization: Option<&HeaderValue>,
) -> Result<Box<dyn Io>, BoxError> {
    let host = format!("{}:{port}", host.host());
    let mut request = Request::connect(&host).header(header::HOST, &host);
    if let Some(authorization) = authorization {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let (mut sender, connection) =
        http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(io)).await?;
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?);
    let (mut connection, mut answer) = (Box::pin(connection.without_shutdown()), Box::pin(answer));
    let (answer, parts) = tokio::select! {
        answer = &mut answer => (answer?, None),
        parts = &mut connection => (answer.await?, Some(parts?)),
    };
    if !answer.status().is_success() {
        return Err("the proxy refuses the tunnel".into());
    }
    let parts = match parts {
        Some(parts) => parts,
        None => connection.await?,
    };
    Ok(parts.io.into_inner())
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
