//! The driver of everything that speaks OpenAI's API: OpenAI itself, and servers made to be compatible with it.
//!
//! The kinds are one driver with a small table of what differs (their [`KindSpec`]s, and [`SENDS_INPUT_TYPE`]).
//! Invariant: the credential goes out in headers marked sensitive, and nowhere else. When the server is gone, an
//! attempt fails with `CONNECTION` or `TIMEOUT`.

pub(super) mod body;
pub(super) mod judge;
pub(super) mod reply;
pub(super) mod speech;

use super::{
    ChatReply, ChatRequest, ChatStream, CredentialField, Driver, EmbeddingReply, EmbeddingRequest, KindSpec,
    ModelType, ModerationReply, RerankReply, RerankRequest, SpeechReply, SpeechRequest, Target,
    UpstreamClient, client, client::join, redact::Redactor, stream,
};
use crate::balance::Failure;
use async_trait::async_trait;
use futures::{StreamExt, stream as streams};
use http::{HeaderMap, HeaderName, Method, header};
use serde_json::{Value, json};
use url::Url;

const MODEL_TYPES: &[ModelType] =
    &[ModelType::Llm, ModelType::TextEmbedding, ModelType::SpeechToText, ModelType::Moderation];
/// vLLM, Jina and others serve `/rerank` beside OpenAI's API; OpenAI has none.
const COMPATIBLE_MODEL_TYPES: &[ModelType] = &[
    ModelType::Llm,
    ModelType::TextEmbedding,
    ModelType::Rerank,
    ModelType::SpeechToText,
    ModelType::Moderation,
];

const ORGANIZATION: CredentialField = CredentialField {
    name: "organization",
    label: "Organization",
    secret: false,
    required: false,
    default_value: "",
    options: &[],
    max_length: 256,
    help: "Sent as OpenAI-Organization, for keys that belong to several.",
};

/// OpenAI itself.
pub(super) const OPENAI: KindSpec = KindSpec {
    name: "openai",
    display_name: "OpenAI",
    model_types: MODEL_TYPES,
    default_base_url: Some("https://api.openai.com/v1"),
    credential_fields: &[CredentialField::api_key(true, "Begins with sk-."), ORGANIZATION],
};

/// Any server with the same API: vLLM, Ollama, most gateways.
pub(super) const OPENAI_COMPATIBLE: KindSpec = KindSpec {
    name: "openai_compatible",
    display_name: "OpenAI-compatible",
    model_types: COMPATIBLE_MODEL_TYPES,
    default_base_url: None,
    credential_fields: &[
        CredentialField::api_key(false, "Leave it out where the server asks for none."),
        ORGANIZATION,
    ],
};

/// The kinds whose embeddings take `input_type`. OpenAI refuses fields that it does not know.
const SENDS_INPUT_TYPE: &[&str] = &[OPENAI_COMPATIBLE.name];

/// Speaks OpenAI's API for one kind.
pub(super) struct OpenAi {
    client: UpstreamClient,
    spec: &'static KindSpec,
}

impl OpenAi {
    pub(super) fn new(client: UpstreamClient, spec: &'static KindSpec) -> Self {
        Self { client, spec }
    }

    async fn post(
        &self,
        target: &Target,
        path: &[&str],
        body: &Value,
        redactor: &Redactor,
    ) -> Result<reqwest::Response, Failure> {
        let body = body.to_string().into_bytes();
        self.client
            .send(Method::POST, join(&target.base_url, path), headers(target)?, Some(body), redactor)
            .await
    }
}

#[async_trait]
impl Driver for OpenAi {
    fn spec(&self) -> &'static KindSpec {
        self.spec
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<ChatReply, Failure> {
        let redactor = Redactor::new(target);
        let body = body::chat(&target.model, request, false)?;
        let response = self.post(target, &["chat", "completions"], &body, &redactor).await?;
        reply::completion(&client::read(response).await?, &redactor)
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let redactor = Redactor::new(target);
        let body = body::chat(&target.model, request, true)?;
        let response = self.post(target, &["chat", "completions"], &body, &redactor).await?;
        if stream::is_json(&response) {
            // No stream: an error, or a server that answers as a whole whatever is asked.
            let events = reply::whole(&client::read(response).await?, &redactor)?;
            return Ok(streams::iter(events.into_iter().map(Ok)).boxed());
        }
        let chunks = response.bytes_stream().map(|chunk| chunk.map_err(client::failure));
        Ok(stream::chat_events(chunks, redactor, reply::Chunks))
    }

    async fn embed(&self, target: &Target, request: &EmbeddingRequest) -> Result<EmbeddingReply, Failure> {
        let redactor = Redactor::new(target);
        let body = body::embeddings(&target.model, request, SENDS_INPUT_TYPE.contains(&self.spec.name));
        let response = self.post(target, &["embeddings"], &body, &redactor).await?;
        reply::embeddings(&client::read(response).await?, request.texts.len(), &redactor)
    }

    async fn moderate(&self, target: &Target, text: &str) -> Result<ModerationReply, Failure> {
        let redactor = Redactor::new(target);
        let body = json!({ "model": target.model, "input": text });
        let response = self.post(target, &["moderations"], &body, &redactor).await?;
        judge::moderation(&client::read(response).await?, &redactor)
    }

    async fn rerank(&self, target: &Target, request: &RerankRequest) -> Result<RerankReply, Failure> {
        let redactor = Redactor::new(target);
        let response =
            self.post(target, &["rerank"], &judge::rerank_body(&target.model, request), &redactor).await?;
        judge::rerank(&client::read(response).await?, request, &redactor)
    }

    async fn transcribe(&self, target: &Target, request: &SpeechRequest) -> Result<SpeechReply, Failure> {
        let redactor = Redactor::new(target);
        let url = join(&target.base_url, &["audio", "transcriptions"]);
        let form = speech::form(&target.model, request)?;
        let response = self.client.send_form(url, headers(target)?, form, &redactor).await?;
        speech::reply(&client::read(response).await?, &redactor)
    }

    fn authorize(&self, target: &Target, _url: &mut Url) -> Result<HeaderMap, Failure> {
        headers(target)
    }

    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let redactor = Redactor::new(target);
        let url = join(&target.base_url, &["models"]);
        let response = self.client.send(Method::GET, url, headers(target)?, None, &redactor).await?;
        reply::models(&client::read(response).await?, &redactor)
    }
}

/// The credential as headers.
fn headers(target: &Target) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    client::put_field(&mut headers, header::AUTHORIZATION, target, "api_key", "Bearer ")?;
    let organization = HeaderName::from_static("openai-organization");
    client::put_field(&mut headers, organization, target, ORGANIZATION.name, "")?;
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ErrorClass;
    use http::HeaderValue;

    #[test]
    fn credentials_become_sensitive_headers() {
        let target = |fields: &[(&str, &str)]| Target {
            base_url: "http://h/".parse().unwrap(),
            model: "m".into(),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect(),
        };
        let sent = headers(&target(&[("api_key", " k\n"), ("organization", "org-1")])).unwrap();
        assert_eq!(sent["authorization"], "Bearer k");
        assert_eq!(sent["openai-organization"], "org-1");
        assert!(sent.values().all(HeaderValue::is_sensitive));
        assert!(headers(&target(&[])).unwrap().is_empty());
        assert!(headers(&target(&[("api_key", "")])).unwrap().is_empty());
        let failure = headers(&target(&[("api_key", "se\ncret")])).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Authentication);
        assert!(!failure.message.contains("cret"), "{}", failure.message);
    }
}
