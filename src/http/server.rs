//! One connection of HTTP/1.1 or HTTP/2: its bounds, its requests, its end.

use super::door::Door;
use crate::gate::{Connection, Connections};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How long a connection may have nothing to ask, and the head of a request take to come. Longer than load balancers keep
/// theirs, so that they never send a request to a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(75);
/// The largest head of a request, and what HTTP/1.1 reads ahead, in bytes.
const HEAD: usize = 64 << 10;
/// The most metadata of a request over HTTP/2, in bytes.
const MAX_METADATA: u32 = 16 << 10;
/// How much a peer may send unread over HTTP/2: on one stream and on all.
const WINDOWS: (u32, u32) = (128 << 10, 256 << 10);
/// How much of one answer HTTP/2 may hold, in bytes.
const MAX_UNSENT: usize = 16 << 10;
/// How often a peer is pinged over HTTP/2, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// How many streams a connection may reset before they were served (CVE-2023-44487, "rapid reset").
const RESETS: usize = 20;

/// Serves the connections until `stop`, and then until the last of them has ended.
///
/// # Errors
/// Where the port is closed.
pub async fn serve(
    door: Door,
    connections: &Connections,
    max_age: Duration,
    streams_per_connection: u32,
    stop: CancellationToken,
) -> io::Result<()> {
    let each = |connection, ends| one(connection, door.clone(), streams_per_connection, ends);
    connections.serve(max_age, stop, each).await
}

async fn one(connection: Connection, door: Door, max_calls: u32, ends: impl Future<Output = ()>) {
    let (peer, local) = (connection.peer().clone(), connection.local());
    let patience = door.send_timeout();
    let service = {
        let peer = peer.clone();
        service_fn(move |request| {
            let (door, peer) = (door.clone(), peer.clone());
            async move { Ok::<_, Infallible>(Box::pin(door.answer(&peer, local, request)).await) }
        })
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_concurrent_streams(max_calls)
        .max_header_list_size(MAX_METADATA)
        .max_pending_accept_reset_streams(RESETS)
        .max_send_buf_size(MAX_UNSENT)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    let io = TokioIo::new(Impatient { io: connection, patience, stalled: None });
    let mut served = pin!(builder.serve_connection(io, service));
    let (mut ends, mut closed, mut is_ending) = (pin!(ends), pin!(peer.closed()), false);
    loop {
        tokio::select! {
            biased;
            served = &mut served => {
                if let Err(error) = served {
                    tracing::debug!(error = %error, "a connection has broken off");
                }
                return;
            }
            () = &mut ends, if !is_ending => {
                is_ending = true;
                served.as_mut().graceful_shutdown();
            }
            () = &mut closed => return,
        }
    }
}

/// A connection that breaks off where its peer takes nothing for too long.
struct Impatient {
    io: Connection,
    patience: Duration,
    /// When a peer that takes nothing has had its time.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let end = Instant::now() + self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if stalled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
