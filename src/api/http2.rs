//! One connection of HTTP/2: its windows, its pings, its calls, its end.
//!
//! Until the peer has shown a valid token its windows are narrow, and few of its calls are taken at once: what it can make this
//! process hold is little.

use super::door::Door;
use crate::gate::{Connection, MOST_PUBLIC};
use bytes::Bytes;
use h2::{
    Ping, PingPong, RecvStream,
    server::{Builder, Connection as Http2, SendResponse},
};
use http::Request;
use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

/// How often a peer is pinged. A peer that does not answer in time is gone, and what it held is given back.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// How many streams a connection may reset before they were served (CVE-2023-44487, "rapid reset").
const RESETS: usize = 20;
/// The most metadata of one call, in bytes.
const MAX_METADATA: u32 = 16 << 10;
/// How much a peer may send unread, on one call and on all, in bytes: before it has shown a valid token, and then.
const NARROW: (u32, u32) = (16 << 10, (64 << 10) - 1);
const WIDE: u32 = 1 << 20;
/// What small frames that wait to be read may cost beside their data, in bytes: two thousand of them. Those who call begin
/// with many at once, so this is not narrow at first.
const SMALL_FRAMES: usize = 512 << 10;
/// How much of an answer HTTP/2 may hold, in bytes.
const MAX_UNSENT: usize = 64 << 10;
/// How many calls of a peer that has shown no valid token are taken at once: those that may last without one, and some that
/// wait to be refused. Each that is taken costs several KiB.
const STRANGERS_CALLS: usize = MOST_PUBLIC + 4;
/// Windows cannot change while the peer has still to acknowledge what they were.
const AGAIN: Duration = Duration::from_millis(10);

/// Serves a connection until it ends. Once `ends` is over, the client is told to send no more calls on it (GOAWAY), and it
/// ends with the last of those that it has: none is cut, however long it takes.
///
/// # Errors
/// Where the peer does not speak HTTP/2, or breaks off.
pub(super) async fn serve(
    connection: Connection,
    door: Door,
    max_calls: u32,
    ends: impl Future<Output = ()>,
) -> Result<(), h2::Error> {
    let peer = connection.peer().clone();
    let mut builder = Builder::new();
    builder
        .initial_window_size(NARROW.0)
        .initial_connection_window_size(NARROW.1)
        .max_concurrent_streams(max_calls)
        .max_header_list_size(MAX_METADATA)
        .max_pending_accept_reset_streams(RESETS)
        .data_frame_budget(SMALL_FRAMES)
        .max_send_buffer_size(MAX_UNSENT);
    let (mut ends, mut closed, mut shown) = (pin!(ends), pin!(peer.closed()), pin!(peer.shown()));
    let mut http2 = tokio::select! {
        greeted = builder.handshake(connection) => greeted?,
        () = &mut closed => return Ok(()),
        () = &mut ends => return Ok(()),
    };
    let mut lost = pin!(lost(http2.ping_pong()));
    let (mut is_ending, mut width) = (false, Width::Narrow);
    let (places, mut place) = (Arc::new(Semaphore::new(STRANGERS_CALLS)), None);
    loop {
        let takes_calls = width != Width::Narrow || place.is_some();
        tokio::select! {
            biased;
            call = poll_fn(|cx| next(&mut http2, takes_calls, cx)) => match call {
                Some(call) => {
                    let (request, respond) = call?;
                    if peer.is_deaf_stranger() {
                        return Ok(());
                    }
                    let (answer, place) = (door.clone().answer(peer.clone(), request, respond), place.take());
                    tokio::spawn(async move {
                        answer.await;
                        drop(place);
                    });
                }
                None => return Ok(()),
            },
            // Made where it is polled alone: most calls need none.
            free = async { places.clone().acquire_owned().await }, if !takes_calls => place = free.ok(),
            () = &mut shown, if width == Width::Narrow => width = widened(&mut http2),
            () = sleep(AGAIN), if width == Width::Widening => width = widened(&mut http2),
            () = &mut ends, if !is_ending => {
                is_ending = true;
                http2.graceful_shutdown();
            }
            () = &mut closed => return Ok(()),
            () = &mut lost => return Ok(()),
        }
    }
}

/// Drives the connection, and takes its next call where it may. None: it has ended.
#[expect(clippy::type_complexity, reason = "what h2 gives")]
fn next(
    http2: &mut Http2<Connection, Bytes>,
    takes_calls: bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>> {
    if takes_calls {
        return http2.poll_accept(cx);
    }
    http2.poll_closed(cx).map(|closed| closed.err().map(Err))
}

/// How wide the windows of a connection are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Narrow,
    Widening,
    Wide,
}

fn widened(http2: &mut Http2<Connection, Bytes>) -> Width {
    if http2.set_initial_window_size(WIDE).is_err() {
        return Width::Widening;
    }
    http2.set_target_window_size(WIDE);
    Width::Wide
}

/// Ends when the peer does not answer a ping.
async fn lost(ping_pong: Option<PingPong>) {
    let Some(mut ping_pong) = ping_pong else { return };
    loop {
        sleep(PING).await;
        if !matches!(timeout(PONG, ping_pong.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}
