//! Connections to a door: how many there may be, and how long one may take to begin.
//!
//! A connection begins with a handshake, where TLS is served, and the preface of HTTP/2 or the first line of a request. A peer
//! that does not get so far in time is cut off. After that the door watches the peer. All doors share the bounds. Beyond the bound the oldest connection that has shown
//! no valid token gives way. If all have shown one, a connection is closed as soon as it is accepted, so that a client learns
//! at once that it must go elsewhere.

use super::{
    peer::Peer,
    tls::{Acceptors, Tls, TlsError, Versions},
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
    pin::{Pin, pin},
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
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};

/// How long a peer may take to begin.
const OPENING: Duration = Duration::from_secs(10);
/// The preface of HTTP/2, and the head of the frame of settings that must follow it.
const PREFACE: usize = 24 + 9;
/// No request of HTTP/1.1 is shorter: `GET / HTTP/1.1`.
const REQUEST_LINE: usize = 14;
/// How much is gathered before it is written, in bytes: a frame of HTTP/2's usual size, and some small ones.
const GATHERED: usize = (16 << 10) + 1024;

/// The connections to a door: its port, how many there may be, and how each begins.
pub struct Connections {
    port: Port,
    versions: Versions,
    tls: Option<watch::Receiver<Acceptors>>,
    most: usize,
    open: Arc<AtomicUsize>,
    strangers: Arc<Places>,
    metrics: Arc<Metrics>,
}

impl Connections {
    /// Connections of HTTP/2 to that port, at most `max_connections` at once, and of these at most `max_strangers` that have
    /// shown no valid token.
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
        Ok(Self { port, versions: Versions::Http2, tls, most, open: Arc::default(), strangers, metrics })
    }

    /// Connections to another port, within the same bounds and with the same TLS.
    #[must_use]
    pub fn beside(&self, port: Port, versions: Versions) -> Self {
        Self {
            port,
            versions,
            tls: self.tls.clone(),
            most: self.most,
            open: self.open.clone(),
            strangers: self.strangers.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Serves the connections until `stop`, and then until the last of them has ended. `each` serves one; it asks its peer
    /// to leave when the future that it is given is over, after `max_age`, give or take a tenth.
    ///
    /// # Errors
    /// Where the port is closed.
    pub async fn serve<F: Future<Output = ()> + Send + 'static>(
        &self,
        max_age: Duration,
        stop: CancellationToken,
        each: impl Fn(Connection, Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
    ) -> io::Result<()> {
        let open = TaskTracker::new();
        {
            // Dropped before the wait: the port is closed only then.
            let mut incoming = pin!(self.incoming()?);
            while let Some(Some(connection)) = stop.run_until_cancelled(incoming.next()).await {
                let (age, stop) = (jittered(max_age), stop.clone());
                let ends = async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = sleep(age) => {}
                    }
                };
                open.spawn(each(connection, Box::pin(ends)));
            }
            self.port.close();
        }
        open.close();
        open.wait().await;
        Ok(())
    }

    /// Accepts connections from now on. After a failure it may be called again; connections that are open keep their places.
    fn incoming(&self) -> io::Result<impl Stream<Item = Connection> + use<>> {
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
        let (versions, tls) = (self.versions, self.tls.clone());
        let opened = admitted.map(move |(tcp, place, peer)| {
            let tls = tls.as_ref().map(|tls| tls.borrow().of(versions).clone());
            tokio::spawn(async move {
                tokio::select! {
                    connection = begin(tcp, versions, tls, place, peer.clone()) => connection,
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
}

/// A time within a tenth of this one: connections that began together, as after a deployment, do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(0.9..1.1))
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
    versions: Versions,
    tls: Option<TlsAcceptor>,
    place: OpenPlace,
    peer: Arc<Peer>,
) -> Option<Connection> {
    let late = Box::pin(sleep(OPENING));
    let local = tcp.local_addr().ok()?;
    // An answer in two segments would wait for the peer's delayed acknowledgement otherwise: 40 ms on Linux.
    let _ = tcp.set_nodelay(true);
    let io = match tls {
        None => Either::Left(tcp),
        Some(tls) => Either::Right(Box::new(timeout(OPENING, tls.accept(tcp)).await.ok()?.ok()?)),
    };
    let io = BufWriter::with_capacity(GATHERED, io);
    let missing = match versions {
        Versions::Http2 => PREFACE,
        Versions::Any => REQUEST_LINE,
    };
    Some(Connection { io, local, opening: Some(Opening { late, missing }), peer, _place: place })
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
    local: SocketAddr,
    opening: Option<Opening>,
    peer: Arc<Peer>,
    _place: OpenPlace,
}

/// What is known of a connection until its first bytes are there.
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

    /// The address that the peer has reached.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
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
