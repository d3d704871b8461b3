//! InvokeService: calls that are balanced.

mod chat;
mod explain;
mod forward;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod lease;
mod pieces;
mod speech;
mod texts;
mod tokens;

use super::{
    config::caller,
    convert,
    pb::{self, invoke_service_server::InvokeService},
    status,
};
use crate::{
    catalog::{Caller, Catalog},
    invoke::{Call, CallOptions, Engine},
    provider::{ChatRequest, ModelType},
};
use futures::stream::BoxStream;
use pieces::pieces;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait, metadata::MetadataMap};

/// The engine stops this much before the client's deadline, so that the client gets the reason instead of its own
/// timeout: 2 %, and never less than this.
const LEAST_MARGIN: Duration = Duration::from_millis(10);
const MARGIN_SHARE: u32 = 50;

/// See the module's documentation.
#[derive(Clone)]
pub struct InvokeApi {
    catalog: Catalog,
    engine: Arc<Engine>,
    default_deadline: Duration,
    stop: CancellationToken,
}

impl InvokeApi {
    /// Serves that catalog's models. A call without a deadline gets `default_deadline`; streams end when `stop` is
    /// cancelled.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        engine: Arc<Engine>,
        default_deadline: Duration,
        stop: CancellationToken,
    ) -> Self {
        Self { catalog, engine, default_deadline, stop }
    }

    async fn call(
        &self,
        metadata: &MetadataMap,
        caller: &Caller,
        key: Option<pb::ModelKey>,
        model_type: ModelType,
        options: Option<&pb::CallOptions>,
        tokens: u64,
    ) -> Result<Call, Status> {
        let began = Instant::now();
        let given = client_timeout(metadata).unwrap_or(self.default_deadline);
        let margin = (given / MARGIN_SHARE).max(LEAST_MARGIN);
        let key = key.unwrap_or_default();
        let (tenant, max_attempts) = call_in(caller, &key, model_type, options)?;
        if let Some(notes) = options.and_then(|options| options.metadata.as_ref()) {
            tracing::debug!(tenant, ?notes, "the caller's notes");
        }
        let pool = self
            .catalog
            .resolve(&tenant, &key.provider, model_type, &key.model)
            .await
            .map_err(|error| status::from_catalog(error.under("key")))?;
        let options = CallOptions {
            began,
            deadline: began + given.saturating_sub(margin),
            max_attempts,
            fallback: !options.is_some_and(|options| options.disable_fallback),
            tokens,
        };
        Ok(self.engine.call(pool, options))
    }

    /// A chat call, whole or streamed: both requests have the same fields.
    async fn chat(
        &self,
        request: Request<impl Into<pb::InvokeLlmRequest>>,
    ) -> Result<(Call, ChatRequest), Status> {
        let caller = caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        let pb::InvokeLlmRequest { key, options, messages, parameters, tools, stop } = request.into();
        let options = options.as_ref();
        let chat = chat::request_in(messages, parameters, tools, stop, options)?;
        let call = self.call(&metadata, &caller, key, ModelType::Llm, options, chat::tokens(&chat)).await?;
        Ok((call, chat))
    }
}

/// Messages of a streamed answer.
type Pieces<M> = BoxStream<'static, Result<M, Status>>;

#[async_trait]
impl InvokeService for InvokeApi {
    type StreamLlmStream = Pieces<pb::StreamLlmResponse>;
    type InvokeTtsStream = Pieces<pb::InvokeTtsResponse>;
    type ForwardStream = Pieces<pb::ForwardResponse>;

    async fn invoke_llm(
        &self,
        request: Request<pb::InvokeLlmRequest>,
    ) -> Result<Response<pb::InvokeLlmResponse>, Status> {
        let (call, chat) = self.chat(request).await?;
        let served = self.engine.chat(&call, &chat).await.map_err(status::from_call)?;
        let reply = served.reply;
        Ok(Response::new(pb::InvokeLlmResponse {
            message: Some(chat::message_out(reply.message)),
            finish_reason: reply.finish_reason,
            usage: Some(convert::usage(reply.usage, served.latency, None)),
            model: reply.model,
            system_fingerprint: reply.system_fingerprint,
            route: Some(convert::route(served.route)),
        }))
    }

    async fn stream_llm(
        &self,
        request: Request<pb::StreamLlmRequest>,
    ) -> Result<Response<Self::StreamLlmStream>, Status> {
        let (call, chat) = self.chat(request).await?;
        let stream = self.engine.chat_stream(&call, &chat).await.map_err(status::from_call)?;
        Ok(Response::new(pieces(stream, self.stop.clone(), chat::event_out)))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let caller = caller(&request)?;
        self.explained(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn acquire(
        &self,
        request: Request<pb::AcquireRequest>,
    ) -> Result<Response<pb::AcquireResponse>, Status> {
        let caller = caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        self.acquired(&metadata, &caller, request).await.map(Response::new)
    }

    async fn renew_lease(
        &self,
        request: Request<pb::RenewLeaseRequest>,
    ) -> Result<Response<pb::RenewLeaseResponse>, Status> {
        let caller = caller(&request)?;
        self.renewed(&caller, request.get_ref()).await.map(Response::new)
    }

    async fn release(
        &self,
        request: Request<pb::ReleaseRequest>,
    ) -> Result<Response<pb::ReleaseResponse>, Status> {
        let caller = caller(&request)?;
        self.released(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn invoke_text_embedding(
        &self,
        request: Request<pb::InvokeTextEmbeddingRequest>,
    ) -> Result<Response<pb::InvokeTextEmbeddingResponse>, Status> {
        self.embedded(request).await.map(Response::new)
    }

    async fn invoke_rerank(
        &self,
        request: Request<pb::InvokeRerankRequest>,
    ) -> Result<Response<pb::InvokeRerankResponse>, Status> {
        self.reranked(request).await.map(Response::new)
    }

    async fn invoke_speech_to_text(
        &self,
        request: Request<pb::InvokeSpeechToTextRequest>,
    ) -> Result<Response<pb::InvokeSpeechToTextResponse>, Status> {
        self.transcribed(request).await.map(Response::new)
    }

    async fn invoke_tts(
        &self,
        request: Request<pb::InvokeTtsRequest>,
    ) -> Result<Response<Self::InvokeTtsStream>, Status> {
        self.spoken(request).await.map(Response::new)
    }

    async fn list_tts_voices(
        &self,
        request: Request<pb::ListTtsVoicesRequest>,
    ) -> Result<Response<pb::ListTtsVoicesResponse>, Status> {
        self.voices(request).await.map(Response::new)
    }

    async fn count_tokens(
        &self,
        request: Request<pb::CountTokensRequest>,
    ) -> Result<Response<pb::CountTokensResponse>, Status> {
        self.counted(request).await.map(Response::new)
    }

    async fn forward(
        &self,
        request: Request<pb::ForwardRequest>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        self.forwarded(request).await.map(Response::new)
    }

    async fn invoke_moderation(
        &self,
        request: Request<pb::InvokeModerationRequest>,
    ) -> Result<Response<pb::InvokeModerationResponse>, Status> {
        self.moderated(request).await.map(Response::new)
    }
}

/// What every call says beside its input: the tenant, and the most attempts.
fn call_in(
    caller: &Caller,
    key: &pb::ModelKey,
    model_type: ModelType,
    options: Option<&pb::CallOptions>,
) -> Result<(String, usize), Status> {
    let named = convert::optional_model_type(key.model_type, "key.model_type")?;
    if named.is_some_and(|named| named != model_type) {
        return Err(status::invalid("key.model_type", "is not what this RPC calls; it may be left out"));
    }
    let tenant = convert::tenant(caller, &key.tenant_id, "key.tenant_id")?;
    let max_attempts = options.map_or(0, |options| options.max_attempts);
    let max_attempts = usize::try_from(max_attempts)
        .map_err(|_| status::invalid("options.max_attempts", "must not be negative"))?;
    Ok((tenant, max_attempts))
}

/// The client's deadline, from the `grpc-timeout` header: at most 8 digits and a unit.
///
/// See the [gRPC over HTTP/2 protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
fn client_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        client_timeout(&metadata)
    }

    #[test]
    fn timeouts_of_the_protocol_are_read() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for malformed in ["S", "5", "5x", "-1S", "123456789S", "5 S"] {
            assert_eq!(timeout(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn no_timeout_is_none() {
        assert_eq!(client_timeout(&MetadataMap::new()), None);
    }
}
