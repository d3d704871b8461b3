//! Calls that take texts and answer once: embeddings, reranking, moderation.

use super::{chat, service::InvokeApi};
use crate::{
    api::{from_pb, json, pb, room::keeping, status, to_pb},
    provider::{ModelType, estimate_inputs, estimate_text},
    wire::{
        EmbeddingInputs, EmbeddingRequest, Judgement, ModerationInputs, ModerationRequest, Part,
        RerankRequest,
    },
};
use tonic::{Request, Response, Status};

/// More texts than any provider takes in one request.
const MAX_TEXTS: usize = 10_000;
/// The most texts of one moderation.
const MAX_JUDGED: usize = 1000;

/// Keys of these requests that Rota writes itself, for whatever provider.
const RESERVED: &[&str] =
    &["model", "input", "inputs", "texts", "content", "requests", "query", "documents", "encoding_format"];

impl InvokeApi {
    pub(super) async fn embedded(
        &self,
        request: Request<pb::InvokeTextEmbeddingRequest>,
    ) -> Result<Response<pb::InvokeTextEmbeddingResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, mut request) = request.into_parts();
        let (key, options) = (request.key.take(), request.options.take());
        let embedding = embedding_in(request, options.as_ref())?;
        let tokens = estimate_inputs(&embedding.inputs);
        let call =
            self.call(&metadata, &caller, key, ModelType::TextEmbedding, options.as_ref(), tokens).await?;
        let served = self.engine.embed(&call, embedding).await.map_err(status::from_call)?;
        let response = pb::InvokeTextEmbeddingResponse {
            embeddings: served.reply.vectors.into_iter().map(|values| pb::Embedding { values }).collect(),
            usage: Some(to_pb::usage(served.reply.usage, served.latency, None)),
            route: Some(to_pb::route(served.route)),
        };
        Ok(keeping(response, served.room))
    }

    pub(super) async fn reranked(
        &self,
        request: Request<pb::InvokeRerankRequest>,
    ) -> Result<Response<pb::InvokeRerankResponse>, Status> {
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
        let response = pb::InvokeRerankResponse {
            results: results.collect(),
            usage: Some(to_pb::usage(served.reply.usage, served.latency, None)),
            route: Some(to_pb::route(served.route)),
        };
        Ok(keeping(response, served.room))
    }

    pub(super) async fn moderated(
        &self,
        request: Request<pb::InvokeModerationRequest>,
    ) -> Result<Response<pb::InvokeModerationResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, mut request) = request.into_parts();
        let (key, options) = (request.key.take(), request.options.take());
        let moderation = moderation_in(request)?;
        let tokens = match &moderation.inputs {
            ModerationInputs::Texts(texts) => tokens(texts),
            ModerationInputs::Parts(parts) => estimate_inputs(&EmbeddingInputs::Parts(parts.clone())),
        };
        let call =
            self.call(&metadata, &caller, key, ModelType::Moderation, options.as_ref(), tokens).await?;
        let served = self.engine.moderate(&call, &moderation).await.map_err(status::from_call)?;
        let results: Vec<_> = served.reply.results.into_iter().map(judgement_out).collect();
        let response = pb::InvokeModerationResponse {
            flagged: results.iter().any(|result| result.flagged),
            categories: results.first().map(|result| result.categories.clone()).unwrap_or_default(),
            route: Some(to_pb::route(served.route)),
            results,
        };
        Ok(keeping(response, served.room))
    }
}

pub(super) fn embedding_in(
    request: pb::InvokeTextEmbeddingRequest,
    options: Option<&pb::CallOptions>,
) -> Result<EmbeddingRequest, Status> {
    let kinds = request.extra_json_kinds;
    let given = [!request.texts.is_empty(), !request.token_arrays.is_empty(), !request.contents.is_empty()];
    let inputs = match given {
        [_, false, false] => {
            check_texts(&request.texts, "texts")?;
            EmbeddingInputs::Texts(request.texts)
        }
        [false, true, false] => {
            check_number(request.token_arrays.len(), "token_arrays")?;
            EmbeddingInputs::Tokens(request.token_arrays.into_iter().map(|array| array.tokens).collect())
        }
        [false, false, true] => {
            check_number(request.contents.len(), "contents")?;
            EmbeddingInputs::Parts(parts_in(request.contents, &kinds, "contents")?)
        }
        _ => return Err(status::invalid("texts", "stands alone, as do `token_arrays` and `contents`")),
    };
    Ok(EmbeddingRequest {
        inputs,
        input_type: request.input_type,
        dimensions: count(request.dimensions, "dimensions")?,
        encoding: request.encoding,
        user: options.map(|options| options.user.clone()).unwrap_or_default(),
        parameters: json::object(&request.parameters_json, "parameters_json", RESERVED)?,
        extra: json::extra(&request.extra_json, kinds, &[], "extra_json", RESERVED)?,
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
        parameters: json::object(&request.parameters_json, "parameters_json", RESERVED)?,
        extra: json::extra(&request.extra_json, request.extra_json_kinds, &[], "extra_json", RESERVED)?,
    })
}

pub(super) fn moderation_in(request: pb::InvokeModerationRequest) -> Result<ModerationRequest, Status> {
    let kinds = request.extra_json_kinds;
    let given = [!request.text.is_empty(), !request.texts.is_empty(), !request.parts.is_empty()];
    let inputs = match given {
        [true, false, false] => ModerationInputs::Texts(vec![request.text]),
        [false, true, false] => {
            if request.texts.len() > MAX_JUDGED {
                return Err(status::invalid("texts", format!("must hold 1 to {MAX_JUDGED} texts")));
            }
            check_texts(&request.texts, "texts")?;
            ModerationInputs::Texts(request.texts)
        }
        [false, false, true] => ModerationInputs::Parts(parts_in(request.parts, &kinds, "parts")?),
        [false, false, false] => return Err(status::invalid("text", "must not be empty")),
        _ => return Err(status::invalid("text", "stands alone, as do `texts` and `parts`")),
    };
    Ok(ModerationRequest {
        inputs,
        parameters: json::object(&request.parameters_json, "parameters_json", RESERVED)?,
        extra: json::extra(&request.extra_json, kinds, &[], "extra_json", RESERVED)?,
    })
}

fn parts_in(parts: Vec<pb::Part>, kinds: &[String], field: &str) -> Result<Vec<Part>, Status> {
    let parts = parts.into_iter().enumerate();
    parts.map(|(index, part)| chat::part_in(part, kinds, &|| format!("{field}[{index}]"))).collect()
}

fn judgement_out(judgement: Judgement) -> pb::ModerationResult {
    let categories = judgement.categories.into_iter().map(|category| pb::ModerationCategory {
        name: category.name,
        flagged: category.flagged,
        score: category.score,
    });
    pb::ModerationResult { flagged: judgement.flagged, categories: categories.collect() }
}

pub(super) fn check_number(count: usize, field: &str) -> Result<(), Status> {
    if count == 0 || count > MAX_TEXTS {
        return Err(status::invalid(field, format!("must hold 1 to {MAX_TEXTS} texts")));
    }
    Ok(())
}

fn check_texts(texts: &[String], field: &str) -> Result<(), Status> {
    check_number(texts.len(), field)?;
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
