//! Calls whose answer is streamed. They move on until the first content. After it, a chat goes on only where its policy or
//! its caller says so.

use super::{
    attempt::Attempt,
    call::{Call, CallMode},
    engine::Engine,
    error::CallError,
    heard::Heard,
    opened::Opened,
    reply::StreamEvent,
    resume::{ResumableChat, Resume, Resumed},
    route::Route,
    trail::Trail,
    walk::{ProviderRequest, Success},
};
use crate::{
    balance::{ErrorClass, Failure, OnBreak},
    provider::{Driver, Target},
    wire::{ChatEvent, ChatRequest, SpokenRequest},
};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use std::{mem, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

impl Engine {
    /// One streamed chat completion. Returns at the first content; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat_stream(
        self: &Arc<Self>,
        mut call: Call,
        request: Box<ChatRequest>,
    ) -> Result<Streamed<ChatEvent>, CallError> {
        call.size = self.size(&call, &request).await;
        let open = async |driver: &dyn Driver, target: &Target| {
            Opened::at_content(driver.chat_stream(target, &request).await?).await
        };
        let (mut streamed, trail) =
            self.streaming(&call, &|driver, target| Box::pin(open(driver, target))).await?;
        if call.on_break != OnBreak::Fail {
            let (engine, heard) = (self.clone(), Heard::default());
            streamed.resume = Some(Box::new(ResumableChat { engine, call, request, trail, heard }));
        }
        Ok(streamed)
    }

    /// Reads a text aloud. Returns at the first audio; until then a failure moves on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn speak(&self, call: &Call, request: &SpokenRequest) -> Result<Streamed<Bytes>, CallError> {
        let open = async |driver: &dyn Driver, target: &Target| {
            Opened::at_content(driver.speak(target, request).await?).await
        };
        let streamed = self.streaming(call, &|driver, target| Box::pin(open(driver, target))).await;
        streamed.map(|(streamed, _)| streamed)
    }

    /// A call whose answer is streamed, and how far it has come.
    pub(super) async fn streaming<'a, E: StreamEvent>(
        &'a self,
        call: &'a Call,
        request: &'a ProviderRequest<'a, Opened<E>>,
    ) -> Result<(Streamed<E>, Trail), CallError> {
        let Success { reply, attempt, route, trail } = self.run(call, CallMode::Streaming, request).await?;
        let idle = attempt.stream_idle();
        Ok((Streamed::new(reply, Some(attempt), route, idle, call), trail))
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
    /// Goes on after a break, where that may be.
    pub(super) resume: Option<Box<dyn Resume<E>>>,
    /// What the caller is still to be told beside the next piece.
    news: Option<News>,
    over: bool,
}

/// What a caller is told when another config serves.
#[derive(Debug, Clone)]
pub struct News {
    /// The way the call has taken to it.
    pub route: Route,
    /// Whether what came before is void.
    pub restarted: bool,
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
            idle,
            began: call.began,
            deadline: call.deadline,
            first_token: call.began.elapsed(),
            resume: None,
            news: Some(News { route: route.clone(), restarted: false }),
            route,
            over: false,
        }
    }

    /// What the caller has not been told yet of the config that serves.
    pub fn news(&mut self) -> Option<News> {
        self.news.take()
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
        loop {
            if let Some(event) = self.first.take() {
                let is_hidden = event.is_hidden();
                let event = self.noted(event);
                if is_hidden {
                    continue;
                }
                return Some(Ok(event));
            }
            // A sign of life renews the limit on silence, and is nobody's business otherwise.
            let end = (Instant::now() + self.idle).min(self.deadline);
            let failure = match timeout_at(end, self.rest.next()).await {
                Ok(Some(Ok(event))) if event.is_silent() => continue,
                Ok(Some(Ok(event))) => {
                    self.first = Some(event);
                    continue;
                }
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
            // Apart, so that what happens once in a while takes no room in every piece.
            if let Err(error) = Box::pin(self.after_break(failure)).await {
                self.over = true;
                return Some(Err(error));
            }
        }
    }

    fn noted(&mut self, event: E) -> E {
        if let Some(attempt) = &mut self.attempt {
            attempt.note(&event);
        }
        if let Some(resume) = &mut self.resume {
            resume.hear(&event);
        }
        event
    }

    /// Writes the failure, and goes on where that may be.
    async fn after_break(&mut self, failure: Failure) -> Result<(), CallError> {
        // The provider learns at once that nobody listens any more.
        self.rest = stream::empty().boxed();
        let mut route = mem::take(&mut self.route);
        let (mut cooldown, mut cut_short) = (None, false);
        if let Some(mut attempt) = self.attempt.take() {
            cut_short = attempt.is_cut_short();
            cooldown = attempt.failed(&failure, true);
            attempt.write_failure().await;
        }
        route.failed_midstream(&failure, cooldown);
        if let Some(resume) = self.resume.take()
            && !cut_short
        {
            match resume.resume(failure.clone(), route).await {
                Ok(resumed) => {
                    self.go_on(resumed);
                    return Ok(());
                }
                Err(tried) => route = tried,
            }
        }
        let retry_after = failure.retry_after;
        Err(CallError::Upstream { failure, route, retry_after })
    }

    fn go_on(&mut self, resumed: Resumed<E>) {
        let Resumed { opened, attempt, route, anew, again } = resumed;
        (self.first, self.rest) = (opened.first, opened.rest);
        self.idle = attempt.stream_idle();
        self.attempt = Some(attempt);
        self.news = Some(News { route: route.clone(), restarted: anew });
        self.route = route;
        self.resume = Some(again);
        if anew {
            self.first_token = self.began.elapsed();
        }
    }
}
