//! The RPCs of InvokeService.

use super::{
    chat,
    pieces::{Pieces, pieces},
    service::InvokeApi,
};
use crate::api::{
    from_pb,
    pb::{self, invoke_service_server::InvokeService},
    room::keeping,
    status, to_pb,
};
use tonic::{Request, Response, Status, async_trait};

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
        let served = self.engine.chat(call, &chat).await.map_err(status::from_call)?;
        let usage = served.reply.usage.unwrap_or_default();
        let mut response = chat::reply_out(served.reply);
        response.usage = Some(to_pb::usage(usage, served.latency, None));
        response.route = Some(to_pb::route(served.route));
        Ok(keeping(response, served.room))
    }

    async fn stream_llm(
        &self,
        request: Request<pb::StreamLlmRequest>,
    ) -> Result<Response<Self::StreamLlmStream>, Status> {
        let (call, chat) = self.chat(request).await?;
        let stream = self.engine.chat_stream(call, chat).await.map_err(status::from_call)?;
        Ok(Response::new(pieces(stream, self.stop.clone(), chat::event_out)))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        self.explained(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn acquire(
        &self,
        request: Request<pb::AcquireRequest>,
    ) -> Result<Response<pb::AcquireResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        self.acquired(&metadata, &caller, request).await.map(Response::new)
    }

    async fn renew_lease(
        &self,
        request: Request<pb::RenewLeaseRequest>,
    ) -> Result<Response<pb::RenewLeaseResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        self.renewed(&caller, request.get_ref()).await.map(Response::new)
    }

    async fn release(
        &self,
        request: Request<pb::ReleaseRequest>,
    ) -> Result<Response<pb::ReleaseResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        self.released(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn invoke_text_embedding(
        &self,
        request: Request<pb::InvokeTextEmbeddingRequest>,
    ) -> Result<Response<pb::InvokeTextEmbeddingResponse>, Status> {
        self.embedded(request).await
    }

    async fn invoke_rerank(
        &self,
        request: Request<pb::InvokeRerankRequest>,
    ) -> Result<Response<pb::InvokeRerankResponse>, Status> {
        self.reranked(request).await
    }

    async fn invoke_speech_to_text(
        &self,
        request: Request<pb::InvokeSpeechToTextRequest>,
    ) -> Result<Response<pb::InvokeSpeechToTextResponse>, Status> {
        self.transcribed(request).await
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
        self.moderated(request).await
    }
}
