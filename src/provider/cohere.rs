//! The driver of Cohere's API, version 2: chat, embeddings, reranking.
//!
//! Invariant: the credential goes out in a header marked sensitive, and nowhere else. When the server is gone, an
//! attempt fails with `CONNECTION` or `TIMEOUT`.

mod errors;

use super::{
    ChatStream, CredentialField, Driver, KindSpec, ModelType, Payload, Target, UpstreamClient, Whole,
    address::{join, without_version},
    call::Call,
    client, openai,
};
use crate::{
    balance::Failure,
    wire::{
        ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest, RerankReply, RerankRequest, StreamReader,
        cohere::{answer, request, stream::Events},
        rerank,
    },
};
use async_trait::async_trait;
use http::{Request, header};
use std::sync::Arc;
use url::Url;

pub(super) use errors::ERRORS;

/// What may stand at the end of a base that is copied from an endpoint.
const VERSIONS: &[&str] = &["v1", "v2"];

/// Cohere itself, and what serves its API at another address. The version is part of each path: one of them has
/// another than the rest.
pub(super) static COHERE: KindSpec = KindSpec {
    name: "cohere",
    display_name: "Cohere",
    model_types: &[ModelType::Llm, ModelType::TextEmbedding, ModelType::Rerank],
    default_base_url: Some("https://api.cohere.com"),
    credential_fields: &[CredentialField::api_key(true, "A trial or production key.")],
    telemetry_name: "cohere",
    errors: &[ERRORS, openai::errors::ERRORS],
};

/// Makes the driver.
pub(super) fn driver(client: UpstreamClient) -> Arc<dyn Driver> {
    Arc::new(Cohere { client })
}

/// Speaks Cohere's API.
struct Cohere {
    client: UpstreamClient,
}

impl Cohere {
    fn call<'c>(&'c self, target: &'c Target) -> Call<'c> {
        Call::new(&self.client, self, target)
    }
}

fn url(target: &Target, path: &[&str]) -> Url {
    join(&without_version(&target.base_url, VERSIONS), path)
}

#[async_trait]
impl Driver for Cohere {
    fn spec(&self) -> &'static KindSpec {
        &COHERE
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<Whole<Box<ChatReply>>, Failure> {
        let call = self.call(target);
        let body = request::chat(target.recipient(self.spec()), request, false)?;
        let response = call.post(url(target, &["v2", "chat"]), &body).await?;
        call.chat(response, answer::message, Events::default()).await
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let call = self.call(target);
        let body = request::chat(target.recipient(self.spec()), request, true)?;
        let response = call.post(url(target, &["v2", "chat"]), &body).await?;
        Ok(call.stream(response, StreamReader::of_events(Events::default())))
    }

    async fn embed(
        &self,
        target: &Target,
        request: &EmbeddingRequest,
    ) -> Result<Whole<EmbeddingReply>, Failure> {
        let call = self.call(target);
        let body = request::embeddings(target.recipient(self.spec()), request)?;
        let response = call.post(url(target, &["v2", "embed"]), &body).await?;
        call.whole(response, |body| answer::embeddings(body, request.inputs.len(), &request.encoding)).await
    }

    async fn rerank(&self, target: &Target, request: &RerankRequest) -> Result<Whole<RerankReply>, Failure> {
        let call = self.call(target);
        let body = rerank::body(target.recipient(self.spec()), request);
        let response = call.post(url(target, &["v2", "rerank"]), &body).await?;
        call.whole(response, |body| answer::rerank(body, request)).await
    }

    /// At most 96 texts a call (<https://docs.cohere.com/reference/embed>).
    fn embedding_batch(&self, _target: &Target) -> usize {
        96
    }

    fn sign(&self, target: &Target, request: &mut Request<Payload>) -> Result<(), Failure> {
        client::put_field(request.headers_mut(), header::AUTHORIZATION, target, "api_key", "Bearer ")
    }

    /// By a list of one model: it costs no tokens. Version 2 has no such call
    /// (<https://docs.cohere.com/reference/list-models>).
    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let call = self.call(target);
        let mut url = url(target, &["v1", "models"]);
        url.set_query(Some("page_size=1"));
        let response = call.get(url).await?;
        call.read(response, answer::models).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ErrorClass;
    use crate::provider::fixtures::signed;

    #[test]
    fn the_credential_becomes_a_sensitive_header() {
        let sent = signed(driver, &[("api_key", " k\n")]).unwrap();
        assert_eq!(sent["authorization"], "Bearer k");
        assert!(sent["authorization"].is_sensitive());
        let failure = signed(driver, &[("api_key", "se\ncret")]).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Authentication);
        assert!(!failure.message.contains("cret"), "{}", failure.message);
    }
}
