//! Streamed answers as the contract's messages.

use crate::{
    api::{pb, status, to_pb},
    balance::{ErrorClass, Failure},
    gate::Refusal,
    invoke::{CallError, Route, StreamEvent, Streamed},
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use std::{sync::Arc, task::Poll, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages of a streamed answer.
pub(super) type Pieces<M> = BoxStream<'static, Result<M, Status>>;

/// An answer that somebody reads ends by itself at its deadline. An answer that is still open this much later has no reader.
const UNREAD: Duration = Duration::from_secs(1);

/// Turns the pieces of a streamed answer into messages. `message` makes each; the first gets the route. Nothing is read
/// ahead, so a slow reader slows the provider until the call's deadline. Cancelling `stop` ends the stream.
pub(super) fn pieces<E: StreamEvent, M: Send + 'static>(
    answer: Streamed<E>,
    stop: CancellationToken,
    message: impl Fn(E, &Streamed<E>, Option<pb::Route>) -> M + Copy + Send + 'static,
) -> Pieces<M> {
    let route = Some(to_pb::route(answer.route()));
    let deadline = answer.deadline();
    // In a box, since each piece would move it.
    let pieces = stream::unfold(Some(Box::new((answer, route))), move |state| {
        let stop = stop.clone();
        async move {
            let mut state = state?;
            let (answer, route) = &mut *state;
            let piece = tokio::select! {
                piece = answer.next() => piece?,
                () = stop.cancelled() => return Some((Err(status::from_refusal(Refusal::Draining)), None)),
            };
            match piece {
                Ok(event) => Some((Ok(message(event, answer, route.take())), Some(state))),
                Err(error) => Some((Err(status::from_call(error)), None)),
            }
        }
    });
    ended_unread(pieces.boxed(), deadline)
}

/// Ends a stream that nobody reads. Otherwise a caller that stops reading would hold its config, and the provider's
/// connection, for as long as it likes.
fn ended_unread<M: Send + 'static>(pieces: Pieces<M>, deadline: Instant) -> Pieces<M> {
    let pieces = Arc::new(Mutex::new(Some(pieces)));
    let watched = Arc::downgrade(&pieces);
    let over = CancellationToken::new();
    tokio::spawn(over.clone().run_until_cancelled_owned(async move {
        sleep_until(deadline + UNREAD).await;
        let unread = watched.upgrade().and_then(|pieces| pieces.lock().take());
        // What they held is given back as when a caller goes away.
        drop(unread);
    }));
    let (over, mut told) = (over.drop_guard(), false);
    let taken = stream::poll_fn(move |cx| {
        let _until_dropped = &over;
        if let Some(pieces) = pieces.lock().as_mut() {
            return pieces.poll_next_unpin(cx);
        }
        if std::mem::replace(&mut told, true) {
            return Poll::Ready(None);
        }
        let failure = Failure::new(ErrorClass::Timeout, "the answer was not read in time");
        let error = CallError::Upstream { failure, route: Route::default(), retry_after: None };
        Poll::Ready(Some(Err(status::from_call(error))))
    });
    taken.boxed()
}
