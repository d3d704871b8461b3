//! A stream that a provider has begun.

use super::reply::StreamEvent;
use crate::balance::{ErrorClass, Failure};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

/// So many bytes are kept before the first content: an event may repeat all of the request.
const MOST_BEFORE: usize = 32 << 20;
/// So many events are.
const MOST_EVENTS: usize = 4096;

/// A stream that may be handed to the caller.
pub(super) struct Opened<E> {
    pub(super) first: Option<E>,
    pub(super) rest: BoxStream<'static, Result<E, Failure>>,
}

impl<E: StreamEvent> Opened<E> {
    /// Reads to the first content. Whatever goes wrong until then is the attempt's failure.
    pub(super) async fn at_content(
        mut rest: BoxStream<'static, Result<E, Failure>>,
    ) -> Result<Self, Failure> {
        loop {
            match rest.next().await {
                Some(Ok(event)) if event.is_content() => return Ok(Self { first: Some(event), rest }),
                Some(Ok(_)) => {}
                Some(Err(failure)) => return Err(failure),
                None => {
                    return Err(Failure::new(ErrorClass::Connection, "the stream ended without content"));
                }
            }
        }
    }

    /// The same, and keeps what came before the first content.
    pub(super) async fn with_all(mut rest: BoxStream<'static, Result<E, Failure>>) -> Result<Self, Failure> {
        let (mut before, mut size) = (Vec::new(), 0);
        loop {
            match rest.next().await {
                Some(Ok(event)) if event.is_silent() => continue,
                Some(Ok(event)) => {
                    size += event.size();
                    let is_content = event.is_content();
                    before.push(event);
                    if is_content {
                        break;
                    }
                }
                Some(Err(failure)) => return Err(failure),
                None => {
                    return Err(Failure::new(ErrorClass::Connection, "the stream ended without content"));
                }
            }
            if size > MOST_BEFORE || before.len() > MOST_EVENTS {
                let message = "the stream says too much before its first content";
                return Err(Failure::new(ErrorClass::ServerError, message));
            }
        }
        let is_alone = before.len() == 1;
        let mut before = before.into_iter();
        let first = before.next();
        let rest = if is_alone { rest } else { stream::iter(before.map(Ok)).chain(rest).boxed() };
        Ok(Self { first, rest })
    }

    /// A stream that serves whatever comes.
    pub(super) fn at_once(rest: BoxStream<'static, Result<E, Failure>>) -> Self {
        Self { first: None, rest }
    }
}
