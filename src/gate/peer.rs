//! What is known of the peer of one connection, and what it holds.

use super::tenant_limits::PartysConnection;
use crate::net::Place;
use parking_lot::Mutex;
use std::sync::{
    Arc, OnceLock,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How many bytes of answers may wait for one connection to take them. What the system buffers comes on top.
const MOST_UNSENT: usize = 64 << 10;
/// How many calls without a token one connection may have at once: health checks and watches, and reflection.
pub const MOST_PUBLIC: usize = 8;
/// How many of them may be reflection.
const MOST_REFLECTION: usize = 2;

/// See the module's documentation. Calls on the connection share it.
pub struct Peer {
    is_known: AtomicBool,
    /// Whether the connection takes nothing at the moment.
    is_blocked: AtomicBool,
    /// Its place among the strangers, until its party counts it.
    stranger: Mutex<Option<Place>>,
    counted: OnceLock<PartysConnection>,
    /// Woken once, when the peer has shown a valid token.
    shown: Notify,
    /// Cancelled when the connection has to give way to another.
    closed: CancellationToken,
    /// Bytes of answers that HTTP/2 has and the connection has not taken yet.
    unsent: AtomicUsize,
    is_waited_for: AtomicBool,
    taken: Notify,
    public: AtomicUsize,
    reflection: AtomicUsize,
}

impl Peer {
    pub(super) fn new(stranger: Place) -> Self {
        Self {
            closed: stranger.closed.clone(),
            stranger: Mutex::new(Some(stranger)),
            counted: OnceLock::new(),
            is_known: AtomicBool::default(),
            is_blocked: AtomicBool::default(),
            shown: Notify::default(),
            unsent: AtomicUsize::default(),
            is_waited_for: AtomicBool::default(),
            taken: Notify::default(),
            public: AtomicUsize::default(),
            reflection: AtomicUsize::default(),
        }
    }

    /// Notes that the peer has shown a valid token. `connection` counts the connection for its party, if that may have one
    /// more; otherwise the connection still gives way to others.
    pub(super) fn has_shown_token(&self, connection: impl FnOnce() -> Option<PartysConnection>) {
        // Once: the first token says whose the connection is.
        if self.is_known.load(Relaxed) || self.is_known.swap(true, Relaxed) {
            return;
        }
        if let Some(counted) = connection() {
            let _ = self.counted.set(counted);
            drop(self.stranger.lock().take());
        }
        self.shown.notify_one();
    }

    /// Whether the peer has shown no valid token, and takes nothing of the much that was said to it.
    #[must_use]
    pub fn is_deaf_stranger(&self) -> bool {
        !self.is_known.load(Relaxed) && self.is_blocked.load(Relaxed) && !self.has_room()
    }

    /// Notes whether the connection takes anything at the moment.
    pub(super) fn blocked(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Relaxed);
    }

    /// Waits until the peer has shown a valid token.
    pub async fn shown(&self) {
        self.shown.notified().await;
    }

    /// Waits until the connection has to give way to another.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Counts a call without a token, until what is returned is dropped. `None` if there are too many.
    pub fn public_call(self: &Arc<Self>, is_reflection: bool) -> Option<PublicCall> {
        let call = PublicCall { peer: Arc::clone(self), is_reflection };
        let reflections =
            self.reflection.fetch_add(is_reflection.into(), Relaxed) + usize::from(is_reflection);
        let calls = self.public.fetch_add(1, Relaxed) + 1;
        (calls <= MOST_PUBLIC && reflections <= MOST_REFLECTION).then_some(call)
    }

    /// Notes that so many bytes of answers were handed to HTTP/2.
    pub fn sends(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, SeqCst);
    }

    /// Whether the connection has taken enough of what was handed over before.
    pub fn has_room(&self) -> bool {
        self.unsent.load(SeqCst) < MOST_UNSENT
    }

    /// Waits until the connection [has room](Self::has_room).
    pub async fn room(&self) {
        loop {
            let mut taken = std::pin::pin!(self.taken.notified());
            taken.as_mut().enable();
            self.is_waited_for.store(true, SeqCst);
            if self.has_room() {
                return;
            }
            taken.await;
        }
    }

    /// Notes that the connection has taken so many bytes.
    pub(super) fn took(&self, bytes: usize) {
        // Frames have heads: it takes more than was counted.
        let _ = self.unsent.fetch_update(SeqCst, SeqCst, |unsent| Some(unsent.saturating_sub(bytes)));
        self.wake();
    }

    /// Notes that the connection has taken all.
    pub(super) fn took_all(&self) {
        self.unsent.store(0, SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.is_waited_for.load(SeqCst) && self.has_room() && self.is_waited_for.swap(false, SeqCst) {
            self.taken.notify_waiters();
        }
    }
}

/// A call without a token, until it is dropped.
pub struct PublicCall {
    peer: Arc<Peer>,
    is_reflection: bool,
}

impl Drop for PublicCall {
    fn drop(&mut self) {
        self.peer.public.fetch_sub(1, Relaxed);
        self.peer.reflection.fetch_sub(self.is_reflection.into(), Relaxed);
    }
}
