//! Streamed answers as the contract's messages.

use super::{convert, pb, status};
use crate::invoke::{StreamEvent, Streamed};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

/// The pieces of a streamed answer as messages, of which `message` makes one; the first gets the route. Nothing is read
/// ahead: a slow reader slows the provider. Cancelling `stop` ends it.
pub(super) fn pieces<E: StreamEvent, M: Send + 'static>(
    answer: Streamed<E>,
    stop: CancellationToken,
    message: impl Fn(E, &Streamed<E>, Option<pb::Route>) -> M + Copy + Send + 'static,
) -> super::Pieces<M> {
    let route = Some(convert::route(answer.route()));
    let pieces = stream::unfold(Some((answer, route)), move |state| {
        let stop = stop.clone();
        async move {
            let (mut answer, mut route) = state?;
            let piece = tokio::select! {
                piece = answer.next() => piece?,
                () = stop.cancelled() => return Some((Err(status::draining()), None)),
            };
            match piece {
                Ok(event) => Some((Ok(message(event, &answer, route.take())), Some((answer, route)))),
                Err(error) => Some((Err(status::from_call(error)), None)),
            }
        }
    });
    pieces.boxed()
}
