//! Calls whose answer comes all at once.

use super::{
    call::{Call, CallMode},
    engine::Engine,
    error::CallError,
    reply::Reply,
    route::Route,
    walk::{ProviderRequest, Success},
};
use crate::{
    provider::{Room, Whole},
    wire::{
        ChatReply, ChatRequest, ModerationReply, ModerationRequest, RerankReply, RerankRequest, SpeechReply,
        SpeechRequest,
    },
};
use std::time::Duration;

/// A call that was served.
#[derive(Debug)]
pub struct Served<T> {
    /// The provider's answer.
    pub reply: T,
    /// The room that the answer takes, until this is dropped.
    pub room: Room,
    /// The way it took.
    pub route: Route,
    /// From the call's arrival until now.
    pub latency: Duration,
}

impl<T> Served<T> {
    /// The same with something else made of the answer.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Served<U> {
        let Self { reply, room, route, latency } = self;
        Served { reply: make(reply), room, route, latency }
    }
}

impl Engine {
    /// One chat completion.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn chat(
        &self,
        mut call: Call,
        request: &ChatRequest,
    ) -> Result<Served<Box<ChatReply>>, CallError> {
        call.size = self.size(&call, request).await;
        self.unary(&call, &move |driver, target| driver.chat(target, request)).await
    }

    /// Judges texts or media.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn moderate(
        &self,
        call: &Call,
        request: &ModerationRequest,
    ) -> Result<Served<ModerationReply>, CallError> {
        self.unary(call, &move |driver, target| driver.moderate(target, request)).await
    }

    /// Writes a recording down.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn transcribe(
        &self,
        call: &Call,
        request: &SpeechRequest,
    ) -> Result<Served<SpeechReply>, CallError> {
        self.unary(call, &move |driver, target| driver.transcribe(target, request)).await
    }

    /// Puts documents in order.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn rerank(
        &self,
        call: &Call,
        request: &RerankRequest,
    ) -> Result<Served<RerankReply>, CallError> {
        self.unary(call, &move |driver, target| driver.rerank(target, request)).await
    }

    /// A call whose answer comes all at once.
    pub(super) async fn unary<'a, T: Reply>(
        &'a self,
        call: &'a Call,
        request: &'a ProviderRequest<'a, Whole<T>>,
    ) -> Result<Served<T>, CallError> {
        let Success { reply, mut attempt, route, .. } = self.run(call, CallMode::Unary, request).await?;
        let Whole { reply, room } = reply;
        attempt.note(&reply);
        attempt.finish();
        Ok(Served { reply, room, route, latency: call.began.elapsed() })
    }
}
