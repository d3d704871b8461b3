//! An answer that its reader does not take is given up. Otherwise a caller that stops reading would hold a config and the
//! provider's connection for as long as it likes.

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use std::{sync::Arc, task::Poll, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a reader may take.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Until then, for the whole answer.
    Until(Instant),
    /// So long for each piece of an answer that is there as a whole.
    Each(Duration),
}

impl Patience {
    /// When somebody who asked for the last piece at that time has taken too long.
    fn end(self, asked: Instant) -> Instant {
        match self {
            Self::Until(end) => end,
            Self::Each(patience) => asked + patience,
        }
    }
}

struct Watched<S> {
    answer: Option<S>,
    asked: Instant,
}

/// The same answer, dropped when its reader has had `patience`, with all that it holds. Whoever asks for more then gets
/// `late`, once.
pub fn ended_unread<S: Stream + Unpin + Send + 'static>(
    answer: S,
    patience: Patience,
    late: impl FnOnce() -> S::Item + Send + 'static,
) -> BoxStream<'static, S::Item> {
    let shared = Arc::new(Mutex::new(Watched { answer: Some(answer), asked: Instant::now() }));
    let watched = Arc::downgrade(&shared);
    let over = CancellationToken::new();
    tokio::spawn(over.clone().run_until_cancelled_owned(async move {
        loop {
            let Some(asked) = watched.upgrade().map(|watched| watched.lock().asked) else { return };
            let end = patience.end(asked);
            if end <= Instant::now() {
                break;
            }
            sleep_until(end).await;
        }
        let unread = watched.upgrade().and_then(|watched| watched.lock().answer.take());
        // What it held is given back as when a caller goes away.
        drop(unread);
    }));
    let (over, mut late) = (over.drop_guard(), Some(late));
    stream::poll_fn(move |cx| {
        let _until_dropped = &over;
        let mut watched = shared.lock();
        watched.asked = Instant::now();
        if let Some(answer) = watched.answer.as_mut() {
            return answer.poll_next_unpin(cx);
        }
        Poll::Ready(late.take().map(|late| late()))
    })
    .boxed()
}
