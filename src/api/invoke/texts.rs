//! Calls that take texts and answer once: embeddings, reranking, moderation.

use super::service::InvokeApi;
use crate::{
    api::{from_pb, pb, status, to_pb},
    provider::{ModelType, estimate_text},
    wire::{EmbeddingRequest, RerankRequest},
};
use tonic::{Request, Status};

/// More texts than any provider takes in one request.
const MAX_TEXTS: usize = 10_000;

impl InvokeApi {
    pub(super) async fn embedded(
        &self,
        request: Request<pb::InvokeTextEmbeddingRequest>,
    ) -> Result<pb::InvokeTextEmbeddingResponse, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, mut request) = request.into_parts();
        let (key, options) = (request.key.take(), request.options.take());
        let embedding = embedding_in(request, options.as_ref())?;
        let tokens = tokens(&embedding.texts);
        let call =
            self.call(&metadata, &caller, key, ModelType::TextEmbedding, options.as_ref(), tokens).await?;
        let served = self.engine.embed(&call, embedding).await.map_err(status::from_call)?;
        Ok(pb::InvokeTextEmbeddingResponse {
            embeddings: served.reply.vectors.into_iter().map(|values| pb::Embedding { values }).collect(),
            usage: Some(to_pb::usage(served.reply.usage, served.latency, None)),
            route: Some(to_pb::route(served.route)),
        })
    }

    pub(super) async fn reranked(
        &self,
        request: Request<pb::InvokeRerankRequest>,
    ) -> Result<pb::InvokeRerankResponse, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, mut request) = request.into_parts();
        let (key, options) = (request.key.take(), request.options.take());
        let threshold = request.score_threshold;
        let rerank = rerank_in(request)?;
        let tokens = tokens(&rerank.documents) + estimate_text(rerank.query.len());
        let call = self.call(&metadata, &caller, key, ModelType::Rerank, options.as_ref(), tokens).await?;
        let served = self.engine.rerank(&call, &rerank).await.map_err(status::from_call)?;
        let fits = |score: f64| threshold.is_none_or(|threshold| score >= threshold);
        let results = served.reply.results.into_iter().filter(|ranked| fits(ranked.score));
        let results = results.map(|ranked| pb::RerankResult {
            index: i32::try_from(ranked.index).unwrap_or(i32::MAX),
            score: ranked.score,
            text: rerank.documents.get(ranked.index).cloned().unwrap_or_default(),
        });
        Ok(pb::InvokeRerankResponse {
            results: results.collect(),
            usage: Some(to_pb::usage(served.reply.usage, served.latency, None)),
            route: Some(to_pb::route(served.route)),
        })
    }

    pub(super) async fn moderated(
        &self,
        request: Request<pb::InvokeModerationRequest>,
    ) -> Result<pb::InvokeModerationResponse, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        check_text(&request)?;
        let options = request.options.as_ref();
        let tokens = estimate_text(request.text.len());
        let call = self.call(&metadata, &caller, request.key, ModelType::Moderation, options, tokens).await?;
        let served = self.engine.moderate(&call, &request.text).await.map_err(status::from_call)?;
        let categories = served.reply.categories.into_iter().map(|category| pb::ModerationCategory {
            name: category.name,
            flagged: category.flagged,
            score: category.score,
        });
        Ok(pb::InvokeModerationResponse {
            flagged: served.reply.flagged,
            categories: categories.collect(),
            route: Some(to_pb::route(served.route)),
        })
    }
}

pub(super) fn embedding_in(
    request: pb::InvokeTextEmbeddingRequest,
    options: Option<&pb::CallOptions>,
) -> Result<EmbeddingRequest, Status> {
    check_texts(&request.texts, "texts")?;
    Ok(EmbeddingRequest {
        texts: request.texts,
        input_type: request.input_type,
        dimensions: count(request.dimensions, "dimensions")?,
        user: options.map(|options| options.user.clone()).unwrap_or_default(),
    })
}

pub(super) fn rerank_in(request: pb::InvokeRerankRequest) -> Result<RerankRequest, Status> {
    if request.query.is_empty() {
        return Err(status::invalid("query", "must not be empty"));
    }
    check_texts(&request.documents, "documents")?;
    if request.score_threshold.is_some_and(f64::is_nan) {
        return Err(status::invalid("score_threshold", "is not a number"));
    }
    Ok(RerankRequest {
        query: request.query,
        documents: request.documents,
        top_n: count(request.top_n, "top_n")?,
    })
}

pub(super) fn check_text(request: &pb::InvokeModerationRequest) -> Result<(), Status> {
    if request.text.is_empty() {
        return Err(status::invalid("text", "must not be empty"));
    }
    Ok(())
}

pub(super) fn check_number(texts: &[String], field: &str) -> Result<(), Status> {
    if texts.is_empty() || texts.len() > MAX_TEXTS {
        return Err(status::invalid(field, format!("must hold 1 to {MAX_TEXTS} texts")));
    }
    Ok(())
}

fn check_texts(texts: &[String], field: &str) -> Result<(), Status> {
    check_number(texts, field)?;
    match texts.iter().position(String::is_empty) {
        Some(empty) => Err(status::invalid(format!("{field}[{empty}]"), "must not be empty")),
        None => Ok(()),
    }
}

fn count(value: i32, field: &str) -> Result<u32, Status> {
    u32::try_from(value).map_err(|_| status::invalid(field, "must not be negative"))
}

fn tokens(texts: &[String]) -> u64 {
    texts.iter().map(|text| estimate_text(text.len())).sum()
}
