//! Calls whose answer is streamed. They may move on until the first content, never after.

use super::{
    attempt::Attempt,
    call::{Call, CallMode},
    engine::Engine,
    error::CallError,
    reply::StreamEvent,
    route::Route,
    walk::{ProviderRequest, Success},
};
use crate::{
    balance::{ErrorClass, Failure},
    provider::{Driver, Target},
    wire::{ChatEvent, ChatRequest, SpokenRequest},
};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use std::{mem, time::Duration};
use tokio::time::{Instant, timeout_at};

impl Engine {
    /// One streamed chat completion. Returns at the first content; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat_stream(
        &self,
        call: &Call,
        request: &ChatRequest,
    ) -> Result<Streamed<ChatEvent>, CallError> {
        let open = async |driver: &dyn Driver, target: &Target| {
            Opened::at_content(driver.chat_stream(target, request).await?).await
        };
        self.streaming(call, &|driver, target| Box::pin(open(driver, target))).await
    }

    /// Reads a text aloud. Returns at the first audio; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn speak(&self, call: &Call, request: &SpokenRequest) -> Result<Streamed<Bytes>, CallError> {
        let open = async |driver: &dyn Driver, target: &Target| {
            Opened::at_content(driver.speak(target, request).await?).await
        };
        self.streaming(call, &|driver, target| Box::pin(open(driver, target))).await
    }

    /// A call whose answer is streamed.
    async fn streaming<'a, E: StreamEvent>(
        &'a self,
        call: &'a Call,
        request: &'a ProviderRequest<'a, Opened<E>>,
    ) -> Result<Streamed<E>, CallError> {
        let Success { reply, attempt, route } = self.run(call, CallMode::Streaming, request).await?;
        let idle = attempt.stream_idle();
        Ok(Streamed::new(reply, Some(attempt), route, idle, call))
    }
}

/// A stream that may be handed to the caller.
pub(super) struct Opened<E> {
    first: Option<E>,
    rest: BoxStream<'static, Result<E, Failure>>,
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

/// A streamed answer from its first content on. Dropping it ends the upstream request.
pub struct Streamed<E> {
    first: Option<E>,
    rest: BoxStream<'static, Result<E, Failure>>,
    /// None once it is over, and for an answer that has failed before it is passed on.
    attempt: Option<Attempt>,
    route: Route,
    /// How long the provider may pause between two pieces.
    idle: Duration,
    began: Instant,
    deadline: Instant,
    first_token: Duration,
    over: bool,
}

impl<E: StreamEvent> Streamed<E> {
    pub(super) fn new(
        opened: Opened<E>,
        attempt: Option<Attempt>,
        route: Route,
        idle: Duration,
        call: &Call,
    ) -> Self {
        Self {
            first: opened.first,
            rest: opened.rest,
            attempt,
            route,
            idle,
            began: call.began,
            deadline: call.deadline,
            first_token: call.began.elapsed(),
            over: false,
        }
    }

    /// The way the call took to the config that serves.
    #[must_use]
    pub fn route(&self) -> Route {
        self.route.clone()
    }

    /// From the call's arrival to its first content.
    #[must_use]
    pub fn time_to_first_token(&self) -> Duration {
        self.first_token
    }

    /// From the call's arrival until now.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.began.elapsed()
    }

    /// When it must be over.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The next piece; `None` when the answer is complete.
    ///
    /// # Errors
    /// [`CallError::Upstream`] when the stream breaks. The failure is written by then, and no further piece comes.
    pub async fn next(&mut self) -> Option<Result<E, CallError>> {
        if self.over {
            return None;
        }
        if let Some(event) = self.first.take() {
            return Some(Ok(self.noted(event)));
        }
        let failure = loop {
            // A sign of life renews the limit on silence, and is nobody's business otherwise.
            let end = (Instant::now() + self.idle).min(self.deadline);
            break match timeout_at(end, self.rest.next()).await {
                Ok(Some(Ok(event))) if event.is_silent() => continue,
                Ok(Some(Ok(event))) => return Some(Ok(self.noted(event))),
                Ok(None) => {
                    self.over = true;
                    if let Some(attempt) = self.attempt.take() {
                        attempt.finish();
                    }
                    return None;
                }
                Ok(Some(Err(failure))) => failure,
                Err(_) => Failure::new(ErrorClass::Timeout, "the stream stalled"),
            };
        };
        self.over = true;
        Some(Err(self.failed(failure).await))
    }

    fn noted(&mut self, event: E) -> E {
        if let Some(attempt) = &mut self.attempt {
            attempt.note(&event);
        }
        event
    }

    async fn failed(&mut self, failure: Failure) -> CallError {
        let mut route = mem::take(&mut self.route);
        let mut cooldown = None;
        if let Some(mut attempt) = self.attempt.take() {
            let cut_short = attempt.is_cut_short();
            cooldown = attempt.failed(&failure, cut_short);
            attempt.write_failure().await;
        }
        route.failed_midstream(&failure, cooldown);
        let retry_after = failure.retry_after;
        CallError::Upstream { failure, route, retry_after }
    }
}
