//! InvokeService's part of the fuzz target `requests`.

use super::{chat, lease, service::call_in, speech, texts};
use crate::{
    api::{from_pb, pb},
    catalog::Caller,
    provider::{self, ModelType},
};
use prost::{DecodeError, Message};
use tonic::Status;

/// Reads a request as its RPC does, up to the point where a catalog is needed.
pub(in crate::api) fn read(
    kind: u8,
    bytes: &[u8],
    caller: &Caller,
) -> Result<Result<(), Status>, DecodeError> {
    Ok(match kind {
        0 => conversation(pb::InvokeLlmRequest::decode(bytes)?, caller),
        1 => conversation(pb::StreamLlmRequest::decode(bytes)?.into(), caller),
        2 => {
            let mut request = pb::InvokeTextEmbeddingRequest::decode(bytes)?;
            let (key, options) = (request.key.take(), request.options.take());
            let embedding = texts::embedding_in(request, options.as_ref());
            embedding.and(call(caller, key, ModelType::TextEmbedding, options))
        }
        3 => {
            let mut request = pb::InvokeRerankRequest::decode(bytes)?;
            let (key, options) = (request.key.take(), request.options.take());
            texts::rerank_in(request).and(call(caller, key, ModelType::Rerank, options))
        }
        4 => {
            let request = pb::InvokeModerationRequest::decode(bytes)?;
            let (key, options) = (request.key.clone(), request.options.clone());
            texts::moderation_in(request).and(call(caller, key, ModelType::Moderation, options))
        }
        5 => {
            let mut request = pb::InvokeSpeechToTextRequest::decode(bytes)?;
            let (key, options) = (request.key.take(), request.options.take());
            speech::speech_in(request).and(call(caller, key, ModelType::SpeechToText, options))
        }
        6 => {
            let request = pb::AcquireRequest::decode(bytes)?;
            lease::acquire_in(&request).and_then(|kind| call(caller, request.key, kind, request.options))
        }
        7 => lease::report(pb::ReleaseRequest::decode(bytes)?.outcome).map(drop),
        _ => from_pb::key(caller, pb::ExplainRequest::decode(bytes)?.key, "key").map(drop),
    })
}

/// Hands a conversation that could be read on to the drivers.
fn conversation(request: pb::InvokeLlmRequest, caller: &Caller) -> Result<(), Status> {
    let mut request = request;
    let (key, options) = (request.key.take(), request.options.take());
    let chat = chat::request_in(request, options.as_ref())?;
    chat::tokens(&chat);
    provider::fuzzing::bodies(&chat);
    call(caller, key, ModelType::Llm, options)
}

fn call(
    caller: &Caller,
    key: Option<pb::ModelKey>,
    model_type: ModelType,
    options: Option<pb::CallOptions>,
) -> Result<(), Status> {
    call_in(caller, &key.unwrap_or_default(), model_type, options.as_ref()).map(drop)
}
