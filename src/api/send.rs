//! How an answer goes out: as fast as its reader takes it, and no longer than that may last. HTTP/2 gets as much of it as
//! the reader's window and the connection have room for, so what waits for a reader is here, where it can be dropped.

use super::status;
use crate::gate::{Peer, Refusal};
use bytes::Bytes;
use futures::future::{Either, select};
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tonic::Status;

/// How much is handed over at once, in bytes: a frame of HTTP/2's usual size.
const STRETCH: usize = 16 << 10;

/// What the head of an answer takes, about, in bytes.
const HEAD: usize = 512;

/// How long an answer may last.
#[derive(Clone, Copy, Default)]
pub(super) struct Patience {
    /// How long its reader may take for each 16 KiB. `None`: until `end`.
    pub(super) unread: Option<Duration>,
    /// When an answer that its reader does not take ends.
    pub(super) end: Option<Instant>,
    /// How long an answer may have nothing to say.
    pub(super) silence: Option<Duration>,
    /// When it ends, whoever reads it.
    pub(super) life: Option<Instant>,
}

/// Why an answer does not go on.
enum Stopped {
    /// The client has reset the call, or the connection is gone.
    Gone,
    /// It has lasted too long.
    Over(Refusal),
}

/// Sends that answer. `note` sees the headers that hold its status.
pub(super) async fn send<B>(
    mut respond: SendResponse<Bytes>,
    response: Response<B>,
    peer: &Peer,
    patience: Patience,
    mut note: impl FnMut(&HeaderMap),
) where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    let (head, mut body) = response.into_parts();
    let head = Response::from_parts(head, ());
    note(head.headers());
    if body.is_end_stream() {
        peer.sends(HEAD);
        let _ = respond.send_response(head, true);
        return;
    }
    let Ok(mut out) = respond.send_response(head, false) else { return };
    match pour(&mut body, &mut out, peer, patience, &mut note).await {
        Ok(()) | Err(Stopped::Gone) => {}
        Err(Stopped::Over(refusal)) => {
            // What it held is given back before anything else.
            drop(body);
            let status = status::from_refusal(refusal);
            let mut trailers = HeaderMap::new();
            if status.add_header(&mut trailers).is_ok() {
                note(&trailers);
                out.reserve_capacity(0);
                let _ = out.send_trailers(trailers);
            }
        }
    }
}

async fn pour<B>(
    body: &mut B,
    out: &mut SendStream<Bytes>,
    peer: &Peer,
    patience: Patience,
    note: &mut impl FnMut(&HeaderMap),
) -> Result<(), Stopped>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    loop {
        let frame = match patience {
            Patience { silence: None, life: None, .. } => next(body, out).await?,
            Patience { silence, life, .. } => {
                let over = async {
                    match (silence, life) {
                        (Some(silence), Some(life)) => sleep_until(life.min(Instant::now() + silence)).await,
                        (Some(silence), None) => sleep(silence).await,
                        (None, Some(life)) => sleep_until(life).await,
                        (None, None) => pending().await,
                    }
                };
                match select(pin!(next(body, out)), pin!(over)).await {
                    Either::Left((frame, _)) => frame?,
                    Either::Right(_) => return Err(Stopped::Over(Refusal::Late)),
                }
            }
        };
        match frame.map(Frame::into_data) {
            None => {
                let _ = out.send_data(Bytes::new(), true);
                return Ok(());
            }
            Some(Ok(data)) => data_out(data, out, peer, patience).await?,
            Some(Err(frame)) => {
                if let Ok(trailers) = frame.into_trailers() {
                    note(&trailers);
                    let _ = out.send_trailers(trailers);
                    return Ok(());
                }
            }
        }
    }
}

/// The next frame of the answer. `None` at its end.
async fn next<B>(body: &mut B, out: &mut SendStream<Bytes>) -> Result<Option<Frame<Bytes>>, Stopped>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    poll_fn(|cx| {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame.transpose());
        }
        out.poll_reset(cx).map(|_| Err(Status::cancelled("")))
    })
    .await
    .map_err(|_| {
        out.send_reset(Reason::INTERNAL_ERROR);
        Stopped::Gone
    })
}

async fn data_out(
    mut data: Bytes,
    out: &mut SendStream<Bytes>,
    peer: &Peer,
    patience: Patience,
) -> Result<(), Stopped> {
    while !data.is_empty() {
        let mut piece = data.split_to(data.len().min(STRETCH));
        if data.len() > STRETCH {
            // A copy: what HTTP/2 holds must not keep the whole answer.
            piece = Bytes::copy_from_slice(&piece);
        }
        // Set as soon as something has to be waited for.
        let mut end = None;
        while !piece.is_empty() {
            out.reserve_capacity(piece.len());
            if out.capacity() == 0 || !peer.has_room() {
                let end = *end.get_or_insert_with(|| patience.end_of_wait());
                let room = room(out, peer);
                match end {
                    Some(end) => {
                        timeout_at(end, room).await.map_err(|_| Stopped::Over(Refusal::Unread))??;
                    }
                    None => room.await?,
                }
            }
            let part = piece.split_to(out.capacity().min(piece.len()));
            if !part.is_empty() {
                peer.sends(part.len());
                out.send_data(part, false).map_err(|_| Stopped::Gone)?;
            }
        }
    }
    Ok(())
}

/// Waits until the reader's window and the connection have room.
async fn room(out: &mut SendStream<Bytes>, peer: &Peer) -> Result<(), Stopped> {
    while out.capacity() == 0 {
        match poll_fn(|cx| out.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            _ => return Err(Stopped::Gone),
        }
    }
    if peer.has_room() {
        return Ok(());
    }
    let gone = poll_fn(|cx| out.poll_reset(cx));
    match select(pin!(peer.room()), pin!(gone)).await {
        Either::Left(_) => Ok(()),
        Either::Right(_) => Err(Stopped::Gone),
    }
}

impl Patience {
    /// When a wait that begins now ends.
    fn end_of_wait(self) -> Option<Instant> {
        let unread = self.unread.map(|unread| Instant::now() + unread);
        [unread, self.end].into_iter().flatten().min()
    }
}
