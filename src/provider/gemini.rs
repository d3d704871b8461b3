//! The driver of Google's Gemini API.
//!
//! Invariant: the credential goes out in a header marked sensitive, and nowhere else. When the server is gone, an
//! attempt fails with `CONNECTION` or `TIMEOUT`.

use super::{
    ChatReply, ChatRequest, ChatStream, CredentialField, Driver, EmbeddingReply, EmbeddingRequest, KindSpec,
    ModelType, Target, UpstreamClient,
    client::{self, join, with_version},
    redact::Redactor,
    stream::answered,
};
use crate::balance::Failure;
use crate::wire::gemini::{answer, request, stream};
use async_trait::async_trait;
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use url::Url;

/// The generation of the API that this is.
const API: &str = "v1beta";

/// Google's, and what serves its API at another address.
pub(super) const GEMINI: KindSpec = KindSpec {
    name: "gemini",
    display_name: "Google Gemini",
    model_types: &[ModelType::Llm, ModelType::TextEmbedding],
    default_base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
    credential_fields: &[CredentialField::api_key(true, "From Google AI Studio.")],
};

/// Speaks Google's Gemini API.
pub(super) struct Gemini {
    client: UpstreamClient,
}

impl Gemini {
    pub(super) fn new(client: UpstreamClient) -> Self {
        Self { client }
    }

    async fn post(
        &self,
        target: &Target,
        method: &str,
        body: &Value,
        redactor: &Redactor,
    ) -> Result<client::Response, Failure> {
        let (collection, name) = resource(&target.model);
        let mut url = join(&with_version(&target.base_url, API), &[collection, &format!("{name}:{method}")]);
        if method == STREAM {
            // Else it comes as one JSON array.
            url.set_query(Some("alt=sse"));
        }
        self.client.post(url, headers(target)?, body, redactor).await
    }
}

const STREAM: &str = "streamGenerateContent";

#[async_trait]
impl Driver for Gemini {
    fn spec(&self) -> &'static KindSpec {
        &GEMINI
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<ChatReply, Failure> {
        let redactor = Redactor::new(target);
        let body = request::chat(resource(&target.model).1, request)?;
        let response = self.post(target, "generateContent", &body, &redactor).await?;
        answer::message(&self.client.read(response).await?, &redactor)
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let redactor = Redactor::new(target);
        let body = request::chat(resource(&target.model).1, request)?;
        let response = self.post(target, STREAM, &body, &redactor).await?;
        answered(&self.client, response, redactor, stream::Chunks::default()).await
    }

    async fn embed(&self, target: &Target, request: &EmbeddingRequest) -> Result<EmbeddingReply, Failure> {
        let redactor = Redactor::new(target);
        let body = request::embeddings(&full_name(target), request);
        let response = self.post(target, "batchEmbedContents", &body, &redactor).await?;
        answer::embeddings(&self.client.read(response).await?, request.texts.len(), &redactor)
    }

    /// By `:countTokens`, as a whole request: so it counts tools and system messages too.
    async fn count_tokens(&self, target: &Target, request: &ChatRequest) -> Result<Option<u32>, Failure> {
        let redactor = Redactor::new(target);
        let mut body = request::chat(resource(&target.model).1, request)?;
        if let Some(body) = body.as_object_mut() {
            body.insert("model".into(), full_name(target).into());
        }
        let body = json!({ "generateContentRequest": body });
        let response = self.post(target, "countTokens", &body, &redactor).await?;
        answer::count(&self.client.read(response).await?, &redactor).map(Some)
    }

    /// More are refused ("at most 100 requests can be in one batch").
    fn embedding_batch(&self, _target: &Target) -> usize {
        100
    }

    fn authorize(&self, target: &Target, _url: &mut Url) -> Result<HeaderMap, Failure> {
        headers(target)
    }

    /// By the list of models: it costs no tokens.
    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let redactor = Redactor::new(target);
        let mut url = join(&with_version(&target.base_url, API), &["models"]);
        url.set_query(Some("pageSize=1"));
        let response = self.client.get(url, headers(target)?, &redactor).await?;
        answer::models(&self.client.read(response).await?, &redactor)
    }
}

/// The collection and the name in it: a model may be given with or without its collection.
fn resource(model: &str) -> (&'static str, &str) {
    match model.split_once('/') {
        Some(("models", name)) => ("models", name),
        Some(("tunedModels", name)) => ("tunedModels", name),
        _ => ("models", model),
    }
}

/// The name as the bodies want it, such as `models/gemini-embedding-001`.
fn full_name(target: &Target) -> String {
    let (collection, name) = resource(&target.model);
    format!("{collection}/{name}")
}

/// The credential as a header ("Using Gemini API keys").
fn headers(target: &Target) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let name = HeaderName::from_static("x-goog-api-key");
    client::put_field(&mut headers, name, target, "api_key", "")?;
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ErrorClass;

    fn target(key: &str) -> Target {
        Target {
            base_url: "http://h/v1beta".parse().unwrap(),
            model: "m".into(),
            fields: [("api_key".to_owned(), key.into())].into(),
        }
    }

    #[test]
    fn the_key_is_a_sensitive_header_and_nothing_else() {
        let sent = headers(&target(" k\n")).unwrap();
        assert_eq!((sent.len(), &sent["x-goog-api-key"]), (1, &"k".parse().unwrap()));
        assert!(sent["x-goog-api-key"].is_sensitive());
        let failure = headers(&target("se\ncret")).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Authentication);
        assert!(!failure.message.contains("cret"), "{}", failure.message);
    }

    #[test]
    fn a_model_keeps_to_its_place_in_the_path() {
        let table = [
            ("gemini-x", "/v1beta/models/gemini-x:generateContent"),
            ("models/gemini-x", "/v1beta/models/gemini-x:generateContent"),
            ("tunedModels/mine", "/v1beta/tunedModels/mine:generateContent"),
            ("../files/x?key=1#f", "/v1beta/models/..%2Ffiles%2Fx%3Fkey=1%23f:generateContent"),
            ("models/..", "/v1beta/models/..:generateContent"),
            ("a%2Fb", "/v1beta/models/a%252Fb:generateContent"),
        ];
        for (model, path) in table {
            let (collection, name) = resource(model);
            let url = join(&target("k").base_url, &[collection, &format!("{name}:generateContent")]);
            assert_eq!((url.path(), url.query()), (path, None));
        }
    }
}
