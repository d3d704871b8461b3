//! The driver of Cohere's API, version 2: chat, embeddings, reranking.
//!
//! Invariant: the credential goes out in a header marked sensitive, and nowhere else. When the server is gone, an
//! attempt fails with `CONNECTION` or `TIMEOUT`.

use super::{
    ChatReply, ChatRequest, ChatStream, CredentialField, Driver, EmbeddingReply, EmbeddingRequest, KindSpec,
    ModelType, RerankReply, RerankRequest, Target, UpstreamClient,
    client::{self, join, without_version},
    redact::Redactor,
    stream::answered,
};
use crate::balance::Failure;
use crate::wire::{
    cohere::{answer, request, stream},
    rerank,
};
use async_trait::async_trait;
use http::{HeaderMap, header};
use serde_json::Value;
use url::Url;

/// What may stand at the end of a base that is copied from an endpoint.
const VERSIONS: &[&str] = &["v1", "v2"];

/// Cohere itself, and what serves its API at another address. The version is part of each path: one of them has
/// another than the rest.
pub(super) const COHERE: KindSpec = KindSpec {
    name: "cohere",
    display_name: "Cohere",
    model_types: &[ModelType::Llm, ModelType::TextEmbedding, ModelType::Rerank],
    default_base_url: Some("https://api.cohere.com"),
    credential_fields: &[CredentialField::api_key(true, "A trial or production key.")],
};

/// Speaks Cohere's API.
pub(super) struct Cohere {
    client: UpstreamClient,
}

impl Cohere {
    pub(super) fn new(client: UpstreamClient) -> Self {
        Self { client }
    }

    async fn post(
        &self,
        target: &Target,
        path: &str,
        body: &Value,
        redactor: &Redactor,
    ) -> Result<client::Response, Failure> {
        let url = join(&without_version(&target.base_url, VERSIONS), &["v2", path]);
        self.client.post(url, headers(target)?, body, redactor).await
    }
}

#[async_trait]
impl Driver for Cohere {
    fn spec(&self) -> &'static KindSpec {
        &COHERE
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<ChatReply, Failure> {
        let redactor = Redactor::new(target);
        let body = request::chat(&target.model, request, false)?;
        let response = self.post(target, "chat", &body, &redactor).await?;
        answer::message(&self.client.read(response).await?, &redactor)
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let redactor = Redactor::new(target);
        let body = request::chat(&target.model, request, true)?;
        let response = self.post(target, "chat", &body, &redactor).await?;
        answered(&self.client, response, redactor, stream::Events::default()).await
    }

    async fn embed(&self, target: &Target, request: &EmbeddingRequest) -> Result<EmbeddingReply, Failure> {
        let redactor = Redactor::new(target);
        let body = request::embeddings(&target.model, request);
        let response = self.post(target, "embed", &body, &redactor).await?;
        answer::embeddings(&self.client.read(response).await?, request.texts.len(), &redactor)
    }

    async fn rerank(&self, target: &Target, request: &RerankRequest) -> Result<RerankReply, Failure> {
        let redactor = Redactor::new(target);
        let response = self.post(target, "rerank", &rerank::body(&target.model, request), &redactor).await?;
        answer::rerank(&self.client.read(response).await?, request, &redactor)
    }

    /// The API reference, "Embed": at most 96 texts a call.
    fn embedding_batch(&self, _target: &Target) -> usize {
        96
    }

    fn authorize(&self, target: &Target, _url: &mut Url) -> Result<HeaderMap, Failure> {
        headers(target)
    }

    /// By a list of one model: it costs no tokens. Version 2 has no such call ("List Models").
    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let redactor = Redactor::new(target);
        let mut url = join(&without_version(&target.base_url, VERSIONS), &["v1", "models"]);
        url.query_pairs_mut().append_pair("page_size", "1");
        let response = self.client.get(url, headers(target)?, &redactor).await?;
        answer::models(&self.client.read(response).await?)
    }
}

/// The credential as a header (API reference, "Authentication").
fn headers(target: &Target) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    client::put_field(&mut headers, header::AUTHORIZATION, target, "api_key", "Bearer ")?;
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ErrorClass;

    #[test]
    fn the_credential_becomes_a_sensitive_header() {
        let target = |key: &str| Target {
            base_url: "http://h/".parse().unwrap(),
            model: "m".into(),
            fields: [("api_key".to_owned(), key.into())].into(),
        };
        let sent = headers(&target(" k\n")).unwrap();
        assert_eq!(sent["authorization"], "Bearer k");
        assert!(sent["authorization"].is_sensitive());
        let failure = headers(&target("se\ncret")).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Authentication);
        assert!(!failure.message.contains("cret"), "{}", failure.message);
    }
}
