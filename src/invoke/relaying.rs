//! Calls in the words of a vendor's protocol: each attempt hands the request on as it came, where its provider speaks the
//! protocol and takes this very body, and has it translated everywhere else.

use super::{
    call::Call,
    count::ASK_TIMEOUT,
    engine::Engine,
    error::CallError,
    heard::Heard,
    opened::Opened,
    relay::{Piece, RelayRequest, Relayed, RelayedStream, WholeAnswer},
    resume::{ResumableChat, Resume, Resumed},
    route::Route,
    trail::Trail,
    unary::Served,
};
use crate::{
    balance::{Doubt, ErrorClass, Failure, OnBreak},
    catalog::Pool,
    provider::{Countable, Driver, RelayedFrames, Room, Target, Whole},
    wire::{ChatEvent, Endpoint, FieldError, Input, Output},
};
use futures::{StreamExt, future::BoxFuture};
use http::HeaderMap;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

impl Engine {
    /// Serves a request in the words of a protocol. A stream returns at its first content; until then a failure moves on.
    ///
    /// A break after the first content is a failure under [`OnBreak::Restart`] too: no protocol can say that what came is
    /// void.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn relay(
        self: &Arc<Self>,
        mut call: Call,
        request: Arc<RelayRequest>,
    ) -> Result<Relayed, CallError> {
        match request.endpoint {
            Endpoint::Images | Endpoint::Translations => self.keep_speakers(&mut call, &request)?,
            Endpoint::MessagesCountTokens | Endpoint::CountTokens => {
                return self
                    .relayed_count(&call, &request)
                    .await
                    .map(|served| Relayed::Whole(Box::new(served)));
            }
            _ => {}
        }
        call.size = self.relayed_size(&call, &request).await;
        if request.stream || request.endpoint == Endpoint::Speech {
            return self.relayed_stream(call, request).await.map(|stream| Relayed::Stream(Box::new(stream)));
        }
        self.relayed_whole(&call, &request).await.map(|served| Relayed::Whole(Box::new(served)))
    }

    /// Leaves out the models whose providers do not take the request as it is: it cannot be translated.
    fn keep_speakers(&self, call: &mut Call, request: &RelayRequest) -> Result<(), CallError> {
        let named = call.chain.first().ok_or(CallError::NoCredentials)?;
        if !named.enabled {
            return Err(CallError::Disabled);
        }
        let kind = named.kind.name;
        call.chain.retain(|pool| pool.members.is_empty() || self.speaks(pool, request));
        if call.chain.is_empty() { Err(CallError::Unsupported(kind)) } else { Ok(()) }
    }

    /// Whether a member of the pool takes the request as it is.
    fn speaks(&self, pool: &Pool, request: &RelayRequest) -> bool {
        let takes = |driver: &dyn Driver| {
            let mut members = pool.members.iter();
            members.any(|member| driver.relays(&member.target, request.endpoint, &request.body).is_some())
        };
        self.driver(pool).is_ok_and(takes)
    }

    /// How many tokens a model must hold, where a model of the chain says how many it does.
    async fn relayed_size(&self, call: &Call, request: &RelayRequest) -> Option<u64> {
        if call.chain.iter().all(|pool| pool.context_window.is_none()) {
            return None;
        }
        match request.input() {
            Ok(Input::Chat(chat)) => self.size(call, chat).await,
            _ => None,
        }
    }

    async fn relayed_whole(
        &self,
        call: &Call,
        request: &RelayRequest,
    ) -> Result<Served<WholeAnswer>, CallError> {
        // More texts than a provider takes at once go in several requests, where each of them is written here.
        if matches!(request.endpoint, Endpoint::Embeddings | Endpoint::BatchEmbedContents)
            && !call.chain.iter().any(|pool| self.speaks(pool, request))
            && let Input::Embeddings(texts) = request.input().map_err(unreadable)?
        {
            let served = self.embed(call, texts.clone()).await?;
            return Ok(served.map(|reply| WholeAnswer::Translated(Output::Embeddings(reply))));
        }
        let attempt = async |driver, target| self.relay_whole(driver, target, request).await;
        self.unary(call, &|driver, target| Box::pin(attempt(driver, target))).await
    }

    async fn relay_whole(
        &self,
        driver: &dyn Driver,
        target: &Target,
        request: &RelayRequest,
    ) -> Result<Whole<WholeAnswer>, Failure> {
        if let Some(to) = driver.relays(target, request.endpoint, &request.body) {
            let whole = self.drivers.relay(driver, target, to, request.as_it_is()).await?;
            return Ok(whole.map(WholeAnswer::from));
        }
        let translated = WholeAnswer::Translated;
        match request.input().map_err(unwritable)? {
            Input::Chat(chat) => {
                let whole = driver.chat(target, chat).await?;
                Ok(whole.map(|reply| translated(Output::Chat(reply))))
            }
            Input::Embeddings(texts) => {
                let most = driver.embedding_batch(target);
                if texts.inputs.len() > most {
                    return Err(unwritable(&FieldError::new("input", format!("has more than {most} texts"))));
                }
                let whole = driver.embed(target, texts).await?;
                Ok(whole.map(|reply| translated(Output::Embeddings(reply))))
            }
            Input::Rerank(documents) => {
                let whole = driver.rerank(target, documents).await?;
                Ok(whole.map(|reply| translated(Output::Rerank(reply))))
            }
            Input::Moderation(inputs) => {
                let whole = driver.moderate(target, inputs).await?;
                Ok(whole.map(|reply| translated(Output::Moderation(reply))))
            }
            Input::Transcription(recording) => {
                let whole = driver.transcribe(target, recording).await?;
                Ok(whole.map(|reply| translated(Output::Transcription(reply))))
            }
            Input::CountTokens(_) | Input::Speech(_) => {
                Err(unwritable(&FieldError::new("", "cannot be answered as a whole")))
            }
        }
    }

    async fn relayed_stream(
        self: &Arc<Self>,
        call: Call,
        request: Arc<RelayRequest>,
    ) -> Result<RelayedStream, CallError> {
        let head = Mutex::new(HeaderMap::new());
        let open = async |driver: &dyn Driver, target: &Target| {
            let (headers, opened) = self.open_relayed(driver, target, &request).await?;
            *head.lock() = headers;
            Ok(opened)
        };
        let (mut pieces, trail) =
            self.streaming(&call, &|driver, target| Box::pin(open(driver, target))).await?;
        if call.on_break == OnBreak::Continue {
            let (engine, heard, request) = (self.clone(), Heard::default(), request.clone());
            pieces.resume = Some(Box::new(ResumableRelay { engine, call, request, trail, heard }));
        }
        Ok(RelayedStream { headers: head.into_inner(), pieces })
    }

    async fn open_relayed(
        &self,
        driver: &dyn Driver,
        target: &Target,
        request: &RelayRequest,
    ) -> Result<(HeaderMap, Opened<Piece>), Failure> {
        if let Some(to) = driver.relays(target, request.endpoint, &request.body) {
            let answer = self.drivers.relay_frames(driver, target, to, request.as_it_is()).await?;
            let RelayedFrames { headers, pieces } = answer;
            let pieces = pieces.map(|piece| piece.map(Piece::from)).boxed();
            return Ok((headers, Opened::with_all(pieces).await?));
        }
        let opened = match request.input().map_err(unwritable)? {
            Input::Chat(chat) => {
                let events = driver.chat_stream(target, chat).await?;
                Opened::at_content(events.map(|event| event.map(Piece::Translated)).boxed()).await?
            }
            Input::Speech(text) => {
                let audio = driver.speak(target, text).await?;
                Opened::at_content(audio.map(|bytes| bytes.map(Piece::Bytes)).boxed()).await?
            }
            _ => return Err(unwritable(&FieldError::new("stream", "must be false with this model"))),
        };
        Ok((HeaderMap::new(), opened))
    }

    /// Counting takes no turn and cools nobody: some members that could serve are asked, and it is counted here where none of
    /// them says.
    async fn relayed_count(
        &self,
        call: &Call,
        request: &RelayRequest,
    ) -> Result<Served<WholeAnswer>, CallError> {
        let pool = call.chain.first().ok_or(CallError::NoCredentials)?;
        if !pool.enabled {
            return Err(CallError::Disabled);
        }
        let driver = self.driver(pool)?;
        let mut route =
            Route { provider: pool.key.provider.clone(), model: pool.key.model.clone(), ..Route::default() };
        let end = call.deadline.min(Instant::now() + pool.policy.timeouts.attempt.min(ASK_TIMEOUT));
        let latency = || call.began.elapsed();
        for index in self.eligible(pool).await {
            let Some(member) = pool.members.get(index) else { break };
            let Some(to) = driver.relays(&member.target, request.endpoint, &request.body) else { break };
            match timeout_at(end, self.drivers.relay(driver, &member.target, to, request.as_it_is())).await {
                Ok(Ok(Whole { reply, room })) => {
                    (route.config_id, route.config_name) = (member.id.to_string(), member.name.to_string());
                    route.upstream_model.clone_from(&member.target.model);
                    return Ok(Served { reply: reply.into(), room, route, latency: latency() });
                }
                Ok(Err(failure)) if failure.class == ErrorClass::BadRequest => {
                    return Err(CallError::Upstream { failure, route, retry_after: None });
                }
                Ok(Err(failure)) => {
                    tracing::debug!(class = failure.class.name(), "the provider did not count");
                }
                Err(_) => break,
            }
        }
        let (Input::CountTokens(chat) | Input::Chat(chat)) = request.input().map_err(unreadable)? else {
            return Err(CallError::Unsupported(pool.kind.name));
        };
        let count = self.count_tokens(call, Countable::Chat(chat.clone())).await?;
        let tokens = count.tokens.first().copied().unwrap_or_default();
        let reply = WholeAnswer::Translated(Output::Tokens(tokens.try_into().unwrap_or(u32::MAX)));
        Ok(Served { reply, room: Room::default(), route, latency: latency() })
    }
}

/// The request cannot be said to this kind of provider.
fn unwritable(error: &FieldError) -> Failure {
    let doubt = Doubt::Unwritable(error.field.clone());
    Failure { doubt, ..Failure::new(ErrorClass::BadRequest, error.why.clone()) }
}

fn unreadable(error: &FieldError) -> CallError {
    CallError::Unwritable { field: error.field.clone(), why: error.why.clone() }
}

/// A streamed chat that may go on from the text that came.
struct ResumableRelay {
    engine: Arc<Engine>,
    call: Call,
    request: Arc<RelayRequest>,
    trail: Trail,
    heard: Heard,
}

impl Resume<Piece> for ResumableRelay {
    fn hear(&mut self, piece: &Piece) {
        for event in piece.events() {
            self.heard.hear(event);
        }
    }

    fn resume(
        self: Box<Self>,
        failure: Failure,
        route: Route,
    ) -> BoxFuture<'static, Result<Resumed<Piece>, Route>> {
        Box::pin(async move {
            let Self { engine, call, request, trail, heard } = *self;
            let Ok(Input::Chat(chat)) = request.input() else { return Err(route) };
            let chat = ResumableChat { engine, call, request: chat.clone(), trail, heard };
            Box::new(chat).resume(failure, route).await.map(translated)
        })
    }
}

/// The same once it has gone on: the rest is written anew.
struct ResumableRest(Box<dyn Resume<ChatEvent>>);

impl Resume<Piece> for ResumableRest {
    fn hear(&mut self, piece: &Piece) {
        for event in piece.events() {
            self.0.hear(event);
        }
    }

    fn resume(
        self: Box<Self>,
        failure: Failure,
        route: Route,
    ) -> BoxFuture<'static, Result<Resumed<Piece>, Route>> {
        Box::pin(async move { self.0.resume(failure, route).await.map(translated) })
    }
}

fn translated(resumed: Resumed<ChatEvent>) -> Resumed<Piece> {
    let Resumed { opened, attempt, route, anew, again } = resumed;
    let opened = Opened {
        first: opened.first.map(Piece::Translated),
        rest: opened.rest.map(|event| event.map(Piece::Translated)).boxed(),
    };
    Resumed { opened, attempt, route, anew, again: Box::new(ResumableRest(again)) }
}
