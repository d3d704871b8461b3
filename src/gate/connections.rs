//! Connections to a door: how many there may be, and how long one may take to begin.
//!
//! A connection begins with a handshake, where TLS is served, and the preface of HTTP/2. A peer that does not get so far in
//! time is cut off. After that HTTP/2 watches the peer and pings it. Beyond the bound the oldest connection that has shown
//! no valid token gives way. If all have shown one, a connection is closed as soon as it is accepted, so that a client learns
//! at once that it must go elsewhere.

use super::{
    peer::Peer,
    tls::{Tls, TlsError},
};
use crate::{
    net::{Places, Port},
    tasks::Tasks,
    telemetry::{Metrics, OpenConnection},
};
use futures::{Stream, StreamExt, future::ready, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;

/// How long a peer may take to begin.
const OPENING: Duration = Duration::from_secs(10);
/// The preface of HTTP/2, and the head of the frame of settings that must follow it.
const PREFACE: usize = 24 + 9;
/// How much is gathered before it is written, in bytes: a frame of HTTP/2's usual size, and some small ones.
const GATHERED: usize = (16 << 10) + 1024;

/// The connections to a door: its port, how many there may be, and how each begins.
pub struct Connections {
    port: Port,
    tls: Option<watch::Receiver<TlsAcceptor>>,
    most: usize,
    open: Arc<AtomicUsize>,
    strangers: Arc<Places>,
    metrics: Arc<Metrics>,
}

impl Connections {
    /// Connections to that port, at most `max_connections` at once, and of these at most `max_strangers` that have shown no
    /// valid token.
    ///
    /// # Errors
    /// Where TLS cannot be served with its files.
    pub async fn to(
        port: Port,
        max_connections: usize,
        max_strangers: usize,
        tls: Option<Tls>,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Self, TlsError> {
        let tls = match tls {
            Some(tls) => Some(tls.follow(tasks).await?),
            None => None,
        };
        let most = max_connections.min(half_of_descriptors());
        if most < max_connections {
            tracing::info!(
                most,
                asked = max_connections,
                "connections are bounded by half of the descriptors (ulimit -n)"
            );
        }
        let strangers = Arc::new(Places::new(max_strangers.min(most)));
        Ok(Self { port, tls, most, open: Arc::default(), strangers, metrics })
    }

    /// Accepts connections from now on. After a failure it may be called again; connections that are open keep their places.
    ///
    /// # Errors
    /// Where the port is closed, or the system gives no descriptor.
    pub fn incoming(&self) -> io::Result<impl Stream<Item = Connection> + use<>> {
        let taken =
            stream::unfold(
                self.port.accept()?,
                |mut accept| async move { Some((accept.next().await, accept)) },
            );
        let (open, strangers, metrics, most) =
            (self.open.clone(), self.strangers.clone(), self.metrics.clone(), self.most);
        let admitted = taken.filter_map(move |tcp| {
            let place = OpenPlace::new(&open, &metrics);
            // The one that gives way is gone in a moment.
            if place.count > most && !strangers.close_oldest() {
                metrics.connection_refused();
                return ready(None);
            }
            let (stranger, gave_way) = strangers.enter();
            if place.count > most || gave_way {
                metrics.connection_refused();
            }
            ready(Some((tcp, place, Arc::new(Peer::new(stranger)))))
        });
        // Each by itself: a slow handshake holds up no other.
        let tls = self.tls.clone();
        let opened = admitted.map(move |(tcp, place, peer)| {
            let tls = tls.clone();
            tokio::spawn(async move {
                tokio::select! {
                    connection = begin(tcp, tls, place, peer.clone()) => connection,
                    () = peer.closed() => None,
                }
            })
        });
        Ok(opened.buffer_unordered(self.most).filter_map(|opened| ready(opened.ok().flatten())))
    }

    /// The address of the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Takes no more connections.
    pub fn close(&self) {
        self.port.close();
    }
}

/// Half of the descriptors that the system gives. The other half is for calls to providers, the database and Redis: a client
/// that only connects must not take those away.
fn half_of_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let raised = setrlimit(Resource::Nofile, raised).map_or(limit.current, |()| limit.maximum);
    raised.and_then(|count| usize::try_from(count / 2).ok()).unwrap_or(usize::MAX)
}

async fn begin(
    tcp: TcpStream,
    tls: Option<watch::Receiver<TlsAcceptor>>,
    place: OpenPlace,
    peer: Arc<Peer>,
) -> Option<Connection> {
    let late = Box::pin(sleep(OPENING));
    // An answer in two segments would wait for the peer's delayed acknowledgement otherwise: 40 ms on Linux.
    let _ = tcp.set_nodelay(true);
    let io = match tls {
        None => Either::Left(tcp),
        Some(tls) => {
            let acceptor = tls.borrow().clone();
            Either::Right(Box::new(timeout(OPENING, acceptor.accept(tcp)).await.ok()?.ok()?))
        }
    };
    let io = BufWriter::with_capacity(GATHERED, io);
    Some(Connection { io, opening: Some(Opening { late, missing: PREFACE }), peer, _place: place })
}

/// A connection's place among those that may be open.
struct OpenPlace {
    open: Arc<AtomicUsize>,
    /// How many there are with it.
    count: usize,
    _open: OpenConnection,
}

impl OpenPlace {
    fn new(open: &Arc<AtomicUsize>, metrics: &Arc<Metrics>) -> Self {
        Self { open: open.clone(), count: open.fetch_add(1, Relaxed) + 1, _open: metrics.connection() }
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

/// One connection.
///
/// It says that it cannot write several pieces at once. Otherwise h2 would hand it each frame of more than 256 bytes by
/// itself: a message of 300 bytes and its trailers would be two writes, and would wake the client twice. So h2 gathers frames
/// of up to 1 KiB, and larger ones join their heads here.
pub struct Connection {
    io: BufWriter<Either<TcpStream, Box<TlsStream<TcpStream>>>>,
    opening: Option<Opening>,
    peer: Arc<Peer>,
    _place: OpenPlace,
}

/// What is known of a connection until its preface is there.
struct Opening {
    late: Pin<Box<Sleep>>,
    missing: usize,
}

impl Connection {
    /// Its peer.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buffer);
        let Some(opening) = &mut this.opening else { return read };
        opening.missing = opening.missing.saturating_sub(buffer.filled().len() - before);
        if opening.missing == 0 {
            this.opening = None;
        } else if opening.late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buffer);
        self.peer.blocked(written.is_pending());
        let written = ready!(written)?;
        self.peer.took(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.peer.blocked(flushed.is_pending());
        ready!(flushed)?;
        self.peer.took_all();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
