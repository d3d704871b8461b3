//! Streams: they may move on until the first content, never after.

use super::{Call, CallError, Route, attempts::Won, held::Held, route::Trail};
use crate::{
    balance::{ErrorClass, Failure},
    catalog::Pool,
    provider::{ChatEvent, ChatRequest, ChatStream, Driver, Target},
};
use futures::StreamExt;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A stream whose first content has come.
pub(super) struct Opened {
    first: ChatEvent,
    rest: ChatStream,
}

impl Opened {
    /// Opens the stream and reads to its first content. Whatever goes wrong until then is the attempt's failure.
    pub(super) async fn open(
        driver: &dyn Driver,
        target: &Target,
        request: &ChatRequest,
    ) -> Result<Self, Failure> {
        let mut rest = driver.chat_stream(target, request).await?;
        loop {
            match rest.next().await {
                Some(Ok(event)) if event.is_content() => return Ok(Self { first: event, rest }),
                Some(Ok(_)) => {}
                Some(Err(failure)) => return Err(failure),
                None => {
                    return Err(Failure::new(ErrorClass::Connection, "the stream ended without content"));
                }
            }
        }
    }
}

/// A streamed answer from its first content on. Dropping it ends the upstream request.
pub struct LlmStream {
    first: Option<ChatEvent>,
    rest: ChatStream,
    held: Option<Held>,
    trail: Option<Trail>,
    pool: Arc<Pool>,
    began: Instant,
    deadline: Instant,
    first_token: Duration,
    over: bool,
}

/// One piece of a streamed answer.
#[derive(Debug)]
pub struct Piece {
    /// What is new.
    pub event: ChatEvent,
    /// With the first piece: the way the call took.
    pub route: Option<Route>,
}

impl LlmStream {
    pub(super) fn new(won: Won<Opened>, call: &Call) -> Self {
        Self {
            first: Some(won.reply.first),
            rest: won.reply.rest,
            held: won.held,
            trail: Some(won.trail),
            pool: won.pool,
            began: call.began,
            deadline: call.deadline,
            first_token: call.began.elapsed(),
            over: false,
        }
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

    /// The next piece; `None` when the answer is complete.
    ///
    /// # Errors
    /// When the stream breaks. The member has been cooled then, and no further piece comes.
    pub async fn next(&mut self) -> Option<Result<Piece, CallError>> {
        if self.over {
            return None;
        }
        if let Some(event) = self.first.take() {
            let route = self.trail.as_ref().map(Trail::so_far);
            return Some(Ok(Piece { event, route }));
        }
        let end = (Instant::now() + self.pool.policy.timeouts.stream_idle).min(self.deadline);
        let failure = match timeout_at(end, self.rest.next()).await {
            Ok(Some(Ok(event))) => {
                if let (Some(held), Some(usage)) = (&mut self.held, &event.usage) {
                    held.used(usage.total.into());
                }
                return Some(Ok(Piece { event, route: None }));
            }
            Ok(None) => {
                self.over = true;
                self.held = None;
                return None;
            }
            Ok(Some(Err(failure))) => failure,
            Err(_) => Failure::new(ErrorClass::Timeout, "the stream stalled"),
        };
        self.over = true;
        let cut_short = Instant::now() >= self.deadline;
        Some(Err(self.break_off(failure, cut_short).await))
    }

    async fn break_off(&mut self, failure: Failure, cut_short: bool) -> CallError {
        let cooldown = match &self.held {
            Some(_) if !cut_short => self.pool.policy.cooldowns.decide(&failure, rand::random()),
            _ => None,
        };
        let mut trail = self.trail.take();
        if let Some(trail) = &mut trail {
            trail.broke(&failure, cooldown.as_ref());
        }
        if let (Some(mut held), Some(cooldown)) = (self.held.take(), cooldown) {
            held.fail_with(cooldown);
            held.write_failure().await;
        }
        tracing::debug!(
            tenant = self.pool.key.tenant,
            provider = self.pool.key.provider,
            model = self.pool.key.model,
            class = failure.class.name(),
            "stream broke off"
        );
        let route = trail.map(Trail::into_route).unwrap_or_default();
        CallError::Upstream { failure, route, retry_after: None }
    }
}
