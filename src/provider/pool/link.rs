//! One connection to a provider, and what became of a request that broke on it.

use super::{
    open::Open,
    signs::{Signs, Watched},
};
use crate::provider::{connect::Io, payload::Outgoing};
use futures::task::AtomicWaker;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch;

/// So much of an answer over HTTP/2 may come before it is read. Enough for 5 MB/s at 50 ms.
const STREAM_WINDOW: u32 = 256 << 10;

/// The most requests at once over one HTTP/2 connection, whatever the provider allows.
pub(super) const MAX_STREAMS: usize = 100;

/// What all streams of a connection may hold together: answers that nobody reads cannot fill it and stop the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * (MAX_STREAMS as u32 + 1);

/// A connection on which nothing comes is asked after so long whether it still is one.
const PING_AFTER: Duration = Duration::from_secs(10);

/// And is none where it does not answer within this.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// Until the provider says how many requests it takes at once. No provider says this.
const UNKNOWN: usize = usize::MAX - 1;

/// A request that broke.
#[derive(Debug)]
pub(in crate::provider) struct Broken {
    pub(in crate::provider) error: hyper::Error,
    pub(in crate::provider) fate: Fate,
}

/// What is known of a request that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::provider) enum Fate {
    /// Nothing of it was written.
    Unsent,
    /// The provider has certainly not processed it (RFC 9113 section 8.7).
    Untouched,
    /// It was sent, and the connection broke before a byte of the answer.
    Unheard,
    /// Anything else.
    Unknown,
}

/// An HTTP/1.1 connection: one request at a time.
pub(super) struct Single {
    sender: http1::SendRequest<Outgoing>,
    signs: Arc<Signs>,
}

impl Single {
    /// Begins to speak over these bytes.
    pub(super) async fn new(io: Box<dyn Io>) -> hyper::Result<Self> {
        let signs = Arc::new(Signs::default());
        let io = TokioIo::new(Watched::new(io, signs.clone(), None));
        let (mut sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.ready().await?;
        Ok(Self { sender, signs })
    }

    /// Waits until it can take a request. False: it never will.
    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Whether it can take a request now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it will never take one again.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, Broken> {
        self.signs.begin();
        let sent = self.sender.try_send_request(request).await;
        sent.map_err(|error| {
            let fate = match &error {
                error if error.message().is_some() || !self.signs.wrote() => Fate::Unsent,
                _ if !self.signs.heard() => Fate::Unheard,
                _ => Fate::Unknown,
            };
            Broken { error: error.into_error(), fate }
        })
    }
}

/// An HTTP/2 connection: as many requests at once as its provider allows.
pub(super) struct Multiple {
    sender: http2::SendRequest<Outgoing>,
    streams: watch::Receiver<usize>,
    /// Whether the provider has said that it ends, or it broke.
    ends: AtomicBool,
}

impl Multiple {
    /// Begins to speak over these bytes.
    pub(super) async fn new(io: Box<dyn Io>, open: Open) -> hyper::Result<Self> {
        let driver = Arc::new(AtomicWaker::new());
        let io = TokioIo::new(Watched::new(io, Arc::default(), Some(driver.clone())));
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_max_send_streams(UNKNOWN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_LIMIT)
            .keep_alive_while_idle(true)
            .handshake(io)
            .await?;
        let (said, streams) = watch::channel(UNKNOWN);
        tokio::spawn(Driven { connection, driver, said, _open: open });
        Ok(Self { sender, streams, ends: AtomicBool::new(false) })
    }

    /// How many requests it takes at once: one, until the provider has said how many.
    pub(super) fn room(&self) -> usize {
        match *self.streams.borrow() {
            UNKNOWN => 1,
            streams => streams.min(MAX_STREAMS),
        }
    }

    /// Waits until the provider has said how many requests it takes at once. False: the connection ended before.
    pub(super) async fn settled(&self) -> bool {
        self.streams.clone().wait_for(|streams| *streams != UNKNOWN).await.is_ok()
    }

    /// Whether it takes requests.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.ends.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request<Outgoing>) -> Result<Response<Incoming>, Broken> {
        let sent = self.sender.clone().try_send_request(request).await;
        sent.map_err(|error| {
            let fate = fate_of_stream(&error);
            let reset = cause(error.error()).is_some_and(h2::Error::is_reset);
            if !reset {
                self.ends.store(true, Ordering::Relaxed);
            }
            Broken { error: error.into_error(), fate }
        })
    }
}

/// What the error of an HTTP/2 stream tells.
fn fate_of_stream<B>(error: &TrySendError<B>) -> Fate {
    if error.message().is_some() {
        return Fate::Unsent;
    }
    match cause(error.error()) {
        // The library gives a GOAWAY to the streams above its last id alone.
        Some(error) if error.is_remote() && error.is_go_away() => Fate::Untouched,
        Some(error) if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            Fate::Untouched
        }
        // The connection broke.
        None if error.error().source().is_some_and(<dyn Error>::is::<io::Error>) => Fate::Unheard,
        _ => Fate::Unknown,
    }
}

/// What HTTP/2 says of it. An error of the connection below is in its place.
fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// Drives an HTTP/2 connection, and tells how many requests its provider takes at once.
struct Driven {
    connection: http2::Connection<TokioIo<Watched>, Outgoing, TokioExecutor>,
    /// Wakes it for the provider's first word, which another task reads.
    driver: Arc<AtomicWaker>,
    said: watch::Sender<usize>,
    _open: Open,
}

impl Future for Driven {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if *self.said.borrow() == UNKNOWN {
            self.driver.register(context.waker());
        }
        let polled = Pin::new(&mut self.connection).poll(context);
        let now = self.connection.current_max_send_streams();
        self.said.send_if_modified(|said| std::mem::replace(said, now) != now);
        polled.map(drop)
    }
}
