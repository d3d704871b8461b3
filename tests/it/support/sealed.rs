//! A way to an upstream by HTTP/2 over TLS, with the limits that real ones have.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rota::scripted::Upstream;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::authority::Authority;

/// What it allows.
#[derive(Clone, Copy, Default)]
pub struct Allows {
    /// So many requests at once over a connection.
    pub streams: Option<u32>,
    /// So many in all. Then the connection ends by a GOAWAY.
    pub calls: Option<usize>,
}

/// See the module's documentation.
pub struct Sealed {
    address: SocketAddr,
    made: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Sealed {
    /// To that upstream, under an authority whose PEM is put into that file.
    pub async fn to(upstream: &Upstream, allows: Allows, file: &Path) -> Self {
        let authority = Authority::new();
        fs::write(file, authority.ca.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, made) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let (acceptor, count) = (authority.acceptor(&[b"h2"]), made.clone());
        let behind = Behind { origin: upstream.origin(), client: reqwest::Client::new() };
        let server = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(greet(acceptor.clone(), tcp, behind.clone(), allows));
            }
        });
        Self { address, made, server }
    }

    /// What goes into a provider's `base_url`.
    pub fn base_url(&self) -> String {
        format!("https://{}/v1", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made to it.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What serves in the end.
#[derive(Clone)]
struct Behind {
    origin: String,
    client: reqwest::Client,
}

async fn greet(acceptor: TlsAcceptor, tcp: TcpStream, behind: Behind, allows: Allows) {
    tcp.set_nodelay(true).unwrap();
    if let Ok(tls) = acceptor.accept(tcp).await {
        serve(tls, behind, allows).await;
    }
}

async fn serve(tls: TlsStream<TcpStream>, behind: Behind, allows: Allows) {
    let (served, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let tell = enough.clone();
    let service = service_fn(move |request| {
        if allows.calls.is_some_and(|calls| served.fetch_add(1, Ordering::SeqCst) + 1 == calls) {
            tell.notify_one();
        }
        forward(behind.clone(), request)
    });
    let mut connection = std::pin::pin!(
        http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(allows.streams)
            .serve_connection(TokioIo::new(tls), service)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        () = enough.notified() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn forward(behind: Behind, request: Request<Incoming>) -> Result<Response<reqwest::Body>, Infallible> {
    let (head, body) = request.into_parts();
    let url = format!("{}{}", behind.origin, head.uri.path_and_query().unwrap());
    let Ok(body) = body.collect().await else { return std::future::pending().await };
    let sent = behind.client.request(head.method, url).headers(head.headers).body(body.to_bytes());
    Ok(sent.timeout(Duration::from_secs(60)).send().await.unwrap().into())
}
