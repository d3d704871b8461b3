//! The driver of Anthropic's Messages API.
//!
//! Invariant: the credential goes out in headers marked sensitive, and nowhere else. When the server is gone, an
//! attempt fails with `CONNECTION` or `TIMEOUT`.

use super::{
    ChatReply, ChatRequest, ChatStream, CredentialField, Driver, KindSpec, ModelType, Target, UpstreamClient,
    client::{self, join, with_version},
    redact::Redactor,
    stream::answered,
};
use crate::balance::Failure;
use crate::wire::{
    anthropic::{answer, request, stream},
    openai,
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

/// The path of the API's one generation.
const API: &str = "v1";

/// The version whose wire format this is (Anthropic's API reference, "Versions").
const VERSION: &str = "2023-06-01";

/// Anthropic itself, and what serves its API at another address.
pub(super) const ANTHROPIC: KindSpec = KindSpec {
    name: "anthropic",
    display_name: "Anthropic",
    model_types: &[ModelType::Llm],
    default_base_url: Some("https://api.anthropic.com/v1"),
    credential_fields: &[
        CredentialField::api_key(true, "Begins with sk-ant-."),
        CredentialField {
            name: "anthropic_version",
            label: "API version",
            secret: false,
            required: false,
            default_value: VERSION,
            options: &[],
            max_length: 64,
            help: "Sent as anthropic-version.",
        },
        CredentialField {
            name: "anthropic_beta",
            label: "Beta features",
            secret: false,
            required: false,
            default_value: "",
            options: &[],
            max_length: 1024,
            help: "Sent as anthropic-beta: names of beta features, separated by commas.",
        },
    ],
};

/// The fields of a message that counting takes; it refuses others.
const COUNTED: &[&str] = &["model", "messages", "system", "tools", "tool_choice", "thinking"];

/// Speaks Anthropic's Messages API.
pub(super) struct Anthropic {
    client: UpstreamClient,
}

impl Anthropic {
    pub(super) fn new(client: UpstreamClient) -> Self {
        Self { client }
    }

    async fn post(
        &self,
        target: &Target,
        path: &[&str],
        body: &Value,
        redactor: &Redactor,
    ) -> Result<client::Response, Failure> {
        let url = join(&with_version(&target.base_url, API), path);
        self.client.post(url, headers(target)?, body, redactor).await
    }
}

#[async_trait]
impl Driver for Anthropic {
    fn spec(&self) -> &'static KindSpec {
        &ANTHROPIC
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<ChatReply, Failure> {
        let redactor = Redactor::new(target);
        let body = request::chat(&target.model, request, false)?;
        let response = self.post(target, &["messages"], &body, &redactor).await?;
        answer::message(&self.client.read(response).await?, &redactor)
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let redactor = Redactor::new(target);
        let body = request::chat(&target.model, request, true)?;
        let response = self.post(target, &["messages"], &body, &redactor).await?;
        answered(&self.client, response, redactor, stream::Events::default()).await
    }

    /// By `POST /messages/count_tokens`, which knows a part of the fields of a message (Anthropic's API reference,
    /// "Count tokens in a Message").
    async fn count_tokens(&self, target: &Target, request: &ChatRequest) -> Result<Option<u32>, Failure> {
        let redactor = Redactor::new(target);
        let mut body = request::chat(&target.model, request, false)?;
        if let Some(body) = body.as_object_mut() {
            body.retain(|name, _| COUNTED.contains(&name.as_str()));
        }
        let response = self.post(target, &["messages", "count_tokens"], &body, &redactor).await?;
        answer::count(&self.client.read(response).await?, &redactor).map(Some)
    }

    fn authorize(&self, target: &Target, _url: &mut Url) -> Result<HeaderMap, Failure> {
        headers(target)
    }

    /// By the list of models: it costs no tokens.
    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let redactor = Redactor::new(target);
        let url = join(&with_version(&target.base_url, API), &["models"]);
        let response = self.client.get(url, headers(target)?, &redactor).await?;
        openai::answer::models(&self.client.read(response).await?, &redactor)
    }
}

/// The credential as headers (Anthropic's API reference, "Authentication" and "Beta headers").
fn headers(target: &Target) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let names = [
        ("x-api-key", "api_key"),
        ("anthropic-version", "anthropic_version"),
        ("anthropic-beta", "anthropic_beta"),
    ];
    for (name, field) in names {
        client::put_field(&mut headers, HeaderName::from_static(name), target, field, "")?;
    }
    headers.entry("anthropic-version").or_insert(HeaderValue::from_static(VERSION));
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ErrorClass;

    #[test]
    fn credentials_become_headers() {
        let target = |fields: &[(&str, &str)]| Target {
            base_url: "http://h/".parse().unwrap(),
            model: "m".into(),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect(),
        };
        let sent = headers(&target(&[("api_key", " k\n"), ("anthropic_beta", "a,b")])).unwrap();
        assert_eq!(
            (&sent["x-api-key"], &sent["anthropic-version"]),
            (&"k".parse().unwrap(), &VERSION.parse().unwrap())
        );
        assert_eq!(sent["anthropic-beta"], "a,b");
        assert!(sent["x-api-key"].is_sensitive());
        let sent = headers(&target(&[("api_key", "k"), ("anthropic_version", "2099-01-01")])).unwrap();
        assert_eq!(sent["anthropic-version"], "2099-01-01");
        assert!(!sent.contains_key("anthropic-beta"));
        let failure = headers(&target(&[("api_key", "se\ncret")])).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Authentication);
        assert!(!failure.message.contains("cret"), "{}", failure.message);
    }
}
