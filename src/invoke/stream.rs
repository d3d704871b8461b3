//! Streams: they may move on until the first content, never after.

use super::{
    Call, CallError, Route,
    attempts::Won,
    held::Held,
    route::{Trail, asked_for},
};
use crate::{
    balance::{ErrorClass, Failure},
    catalog::Pool,
    provider::{ChatEvent, TokenUsage},
    telemetry::{AttemptSpan, Metrics, Model},
};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// One piece of a provider's streamed answer.
pub trait StreamEvent: Send + 'static {
    /// Whether it is content, which binds the stream to the config that serves it.
    fn is_content(&self) -> bool;

    /// What the whole answer has used, where this piece tells.
    fn usage(&self) -> Option<TokenUsage> {
        None
    }

    /// Why the answer ends, where this piece tells.
    fn finish_reason(&self) -> Option<&str> {
        None
    }
}

impl StreamEvent for ChatEvent {
    fn is_content(&self) -> bool {
        self.is_content()
    }

    fn usage(&self) -> Option<TokenUsage> {
        self.usage
    }

    fn finish_reason(&self) -> Option<&str> {
        Some(&self.finish_reason)
    }
}

impl StreamEvent for Bytes {
    fn is_content(&self) -> bool {
        !self.is_empty()
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
    held: Option<Held>,
    trail: Trail,
    pool: Arc<Pool>,
    began: Instant,
    deadline: Instant,
    first_token: Duration,
    /// The last that was told: some providers tell what was used so far with every piece.
    usage: Option<TokenUsage>,
    model: Model,
    metrics: Arc<Metrics>,
    span: AttemptSpan,
    over: bool,
}

impl<E: StreamEvent> Streamed<E> {
    pub(super) fn new(won: Won<Opened<E>>, call: &Call, metrics: Arc<Metrics>) -> Self {
        Self {
            first: won.reply.first,
            rest: won.reply.rest,
            held: won.held,
            trail: won.trail,
            pool: won.pool,
            began: call.began,
            deadline: call.deadline,
            first_token: call.began.elapsed(),
            usage: None,
            model: won.model,
            metrics,
            span: won.span,
            over: false,
        }
    }

    /// The way the call took to the config that serves.
    #[must_use]
    pub fn route(&self) -> Route {
        self.trail.so_far()
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
    /// When the stream breaks. The member has been cooled then, and no further piece comes.
    pub async fn next(&mut self) -> Option<Result<E, CallError>> {
        if self.over {
            return None;
        }
        if let Some(event) = self.first.take() {
            self.note(&event);
            return Some(Ok(event));
        }
        let end = (Instant::now() + self.pool.policy.timeouts.stream_idle).min(self.deadline);
        let failure = match timeout_at(end, self.rest.next()).await {
            Ok(Some(Ok(event))) => {
                self.note(&event);
                return Some(Ok(event));
            }
            Ok(None) => {
                self.over = true;
                self.held = None;
                std::mem::take(&mut self.span).served();
                return None;
            }
            Ok(Some(Err(failure))) => failure,
            Err(_) => Failure::new(ErrorClass::Timeout, "the stream stalled"),
        };
        self.over = true;
        let cut_short = Instant::now() >= self.deadline;
        Some(Err(self.break_off(failure, cut_short).await))
    }

    fn note(&mut self, event: &E) {
        if let Some(reason) = event.finish_reason() {
            self.span.finished(reason);
        }
        let Some(usage) = event.usage() else { return };
        if let Some(held) = &mut self.held {
            held.used(usage.total.into());
        }
        self.span.used(usage.prompt, usage.completion);
        self.usage = Some(usage);
    }

    async fn break_off(&mut self, failure: Failure, cut_short: bool) -> CallError {
        let cooldown = match &self.held {
            Some(_) if !cut_short => self.pool.policy.cooldowns.decide(&failure, rand::random()),
            _ => None,
        };
        self.trail.broke(&failure, cooldown.as_ref());
        if cooldown.is_some() {
            self.metrics.cooldown(&self.model, failure.class.name());
        }
        let asked = asked_for(cooldown.as_ref());
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
        std::mem::take(&mut self.span).failed(failure.class.name(), failure.http_status, asked);
        let route = std::mem::take(&mut self.trail).into_route();
        CallError::Upstream { failure, route, retry_after: None }
    }
}

impl<E> Drop for Streamed<E> {
    fn drop(&mut self) {
        if let Some(usage) = self.usage {
            self.metrics.tokens(&self.model, usage.prompt, usage.completion);
        }
    }
}
