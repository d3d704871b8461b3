//! The driver of Google's Gemini API.
//!
//! Invariant: the credential goes out in a header marked sensitive, and nowhere else. When the server is gone, an
//! attempt fails with `CONNECTION` or `TIMEOUT`.

mod errors;

use super::{
    ChatStream, CredentialField, Driver, KindSpec, ModelType, Payload, RelayTo, Target, UpstreamClient,
    Whole,
    address::{join, with_version},
    call::Call,
    client, openai,
};
use crate::{
    balance::Failure,
    wire::{
        ChatReply, ChatRequest, EmbeddingReply, EmbeddingRequest, Endpoint, Protocol, Recipient,
        StreamReader,
        gemini::{answer, request, stream::Chunks},
    },
};
use async_trait::async_trait;
use http::{HeaderName, Request};
use std::{borrow::Cow, sync::Arc};
use url::Url;

pub(super) use errors::ERRORS;

/// The generation of the API that this is.
const API: &str = "v1beta";

/// Google's, and what serves its API at another address.
pub(super) static GEMINI: KindSpec = KindSpec {
    name: "gemini",
    display_name: "Google Gemini",
    model_types: &[ModelType::Llm, ModelType::TextEmbedding],
    default_base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
    credential_fields: &[CredentialField::api_key(true, "From Google AI Studio.")],
    telemetry_name: "gcp.gemini",
    errors: &[ERRORS, openai::errors::ERRORS],
};

/// Makes the driver.
pub(super) fn driver(client: UpstreamClient) -> Arc<dyn Driver> {
    Arc::new(Gemini { client })
}

/// Speaks Google's Gemini API.
struct Gemini {
    client: UpstreamClient,
}

impl Gemini {
    fn call<'c>(&'c self, target: &'c Target) -> Call<'c> {
        Call::new(&self.client, self, target)
    }

    /// The model's name is the last part of it.
    fn recipient<'t>(&self, target: &'t Target) -> Recipient<'t> {
        Recipient { model: resource(&target.model).1, ..target.recipient(self.spec()) }
    }
}

/// The address of a method of the target's model.
fn url(target: &Target, method: &str) -> Url {
    let (collection, name) = resource(&target.model);
    join(&with_version(&target.base_url, API), &[collection, &format!("{name}:{method}")])
}

#[async_trait]
impl Driver for Gemini {
    fn spec(&self) -> &'static KindSpec {
        &GEMINI
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<Whole<Box<ChatReply>>, Failure> {
        let call = self.call(target);
        let body = request::chat(self.recipient(target), request)?;
        let response = call.post(url(target, "generateContent"), &body).await?;
        call.chat(response, answer::message, Chunks::default()).await
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let call = self.call(target);
        let body = request::chat(self.recipient(target), request)?;
        let mut url = url(target, "streamGenerateContent");
        // Else it comes as one JSON array.
        url.set_query(Some("alt=sse"));
        let response = call.post(url, &body).await?;
        Ok(call.stream(response, StreamReader::of_events(Chunks::default())))
    }

    async fn embed(
        &self,
        target: &Target,
        request: &EmbeddingRequest,
    ) -> Result<Whole<EmbeddingReply>, Failure> {
        let call = self.call(target);
        let body = request::embeddings(self.recipient(target), &full_name(target), request)?;
        let response = call.post(url(target, "batchEmbedContents"), &body).await?;
        call.whole(response, |body| answer::embeddings(body, request.inputs.len())).await
    }

    async fn count_tokens(&self, target: &Target, request: &ChatRequest) -> Result<Option<u32>, Failure> {
        let call = self.call(target);
        let body = request::count(self.recipient(target), &full_name(target), request)?;
        let response = call.post(url(target, "countTokens"), &body).await?;
        call.read(response, answer::count).await.map(Some)
    }

    /// More are refused ("at most 100 requests can be in one batch").
    fn embedding_batch(&self, _target: &Target) -> usize {
        100
    }

    fn protocol(&self) -> Option<Protocol> {
        Some(Protocol::Gemini)
    }

    fn relays<'t>(&self, target: &'t Target, endpoint: Endpoint, _body: &[u8]) -> Option<RelayTo<'t>> {
        let method = match endpoint {
            Endpoint::GenerateContent => "generateContent",
            Endpoint::StreamGenerateContent => "streamGenerateContent",
            Endpoint::CountTokens => "countTokens",
            Endpoint::EmbedContent => "embedContent",
            Endpoint::BatchEmbedContents => "batchEmbedContents",
            _ => return None,
        };
        let mut url = url(target, method);
        if endpoint == Endpoint::StreamGenerateContent {
            url.set_query(Some("alt=sse"));
        }
        Some(RelayTo { url, model: Cow::Owned(full_name(target)) })
    }

    /// By a header (<https://ai.google.dev/gemini-api/docs/api-key>).
    fn sign(&self, target: &Target, request: &mut Request<Payload>) -> Result<(), Failure> {
        let name = HeaderName::from_static("x-goog-api-key");
        client::put_field(request.headers_mut(), name, target, "api_key", "")
    }

    /// By the list of models: it costs no tokens.
    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let call = self.call(target);
        let mut url = join(&with_version(&target.base_url, API), &["models"]);
        url.set_query(Some("pageSize=1"));
        let response = call.get(url).await?;
        call.read(response, answer::models).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ErrorClass;
    use crate::provider::{Fields, fixtures::signed};

    #[test]
    fn the_key_is_a_sensitive_header_and_nothing_else() {
        let sent = signed(driver, &[("api_key", " k\n")]).unwrap();
        assert_eq!((sent.len(), &sent["x-goog-api-key"]), (1, &"k".parse().unwrap()));
        assert!(sent["x-goog-api-key"].is_sensitive());
        let failure = signed(driver, &[("api_key", "se\ncret")]).unwrap_err();
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
            let base_url = "http://h/v1beta".parse().unwrap();
            let target = Target {
                tenant: uuid::Uuid::nil(),
                base_url,
                model: model.to_owned(),
                fields: Fields::default(),
                switches: crate::wire::Switches::NONE,
                connect_timeout: None,
            };
            let url = url(&target, "generateContent");
            assert_eq!((url.path(), url.query()), (path, None));
        }
    }
}
