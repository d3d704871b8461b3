//! A stream that a provider has begun.

use super::reply::StreamEvent;
use crate::balance::{ErrorClass, Failure};
use futures::{StreamExt, stream::BoxStream};

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

    /// A stream that serves whatever comes.
    pub(super) fn at_once(rest: BoxStream<'static, Result<E, Failure>>) -> Self {
        Self { first: None, rest }
    }
}
