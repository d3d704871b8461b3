//! Streamed answers as the contract's messages.

use crate::{
    api::status,
    balance::{ErrorClass, Failure},
    gate::{Patience, Refusal, ended_unread},
    invoke::{CallError, News, Route, StreamEvent, Streamed},
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages of a streamed answer.
pub(super) type Pieces<M> = BoxStream<'static, Result<M, Status>>;

/// An answer that somebody reads ends by itself at its deadline. An answer that is still open this much later has no reader.
const UNREAD: Duration = Duration::from_secs(1);

/// Turns the pieces of a streamed answer into messages. `message` makes each; the first gets the news of the
/// config that serves, and so does the first of each config that takes over. Nothing is read ahead, so a slow reader slows the provider until the call's deadline. Cancelling `stop` ends the stream.
pub(super) fn pieces<E: StreamEvent, M: Send + 'static>(
    answer: Streamed<E>,
    stop: CancellationToken,
    message: impl Fn(E, &Streamed<E>, Option<News>) -> M + Copy + Send + 'static,
) -> Pieces<M> {
    let deadline = answer.deadline();
    // In a box, since each piece would move it.
    let pieces = stream::unfold(Some(Box::new(answer)), move |state| {
        let stop = stop.clone();
        async move {
            let mut answer = state?;
            let piece = tokio::select! {
                piece = answer.next() => piece?,
                () = stop.cancelled() => return Some((Err(status::from_refusal(Refusal::Draining)), None)),
            };
            match piece {
                Ok(event) => {
                    let news = answer.news();
                    Some((Ok(message(event, &answer, news)), Some(answer)))
                }
                Err(error) => Some((Err(status::from_call(error)), None)),
            }
        }
    });
    let late = || {
        let failure = Failure::new(ErrorClass::Timeout, "the answer was not read in time");
        Err(status::from_call(CallError::Upstream { failure, route: Route::default(), retry_after: None }))
    };
    ended_unread(pieces.boxed(), Patience::Until(deadline + UNREAD), late)
}
