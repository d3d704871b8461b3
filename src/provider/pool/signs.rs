//! What can be seen of a connection below HTTP: whether anything was written and read since a request began.

use crate::provider::connect::Io;
use futures::task::AtomicWaker;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was seen since the last request began.
#[derive(Default)]
pub(super) struct Signs {
    wrote: AtomicBool,
    heard: AtomicBool,
}

impl Signs {
    /// A request begins. Who asks later has its outcome from the task that reads and writes, which orders the rest.
    pub(super) fn begin(&self) {
        self.wrote.store(false, Ordering::Relaxed);
        self.heard.store(false, Ordering::Relaxed);
    }

    /// Whether a byte was written.
    pub(super) fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }

    /// Whether a byte was read.
    pub(super) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }
}

/// A connection that leaves signs.
pub(super) struct Watched {
    io: Box<dyn Io>,
    signs: Arc<Signs>,
    /// Whom each look for bytes wakes, while it waits.
    reader: Option<Arc<AtomicWaker>>,
}

impl Watched {
    pub(super) fn new(io: Box<dyn Io>, signs: Arc<Signs>, reader: Option<Arc<AtomicWaker>>) -> Self {
        Self { io, signs, reader }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.signs.wrote.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether the head of an answer over HTTP/1.1 came alone. A server that writes head and body apart, and lets its system
/// gather small writes (RFC 896), sends the body when the head is acknowledged.
fn is_head(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\r\n\r\n") && !bytes.ends_with(b"\r\n0\r\n\r\n")
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty() && !self.signs.heard.swap(true, Ordering::Relaxed) && is_head(came) {
            self.io.acknowledge();
        }
        if let Some(reader) = &self.reader {
            reader.wake();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.note(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.note(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
