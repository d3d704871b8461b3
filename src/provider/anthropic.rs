//! The driver of Anthropic's Messages API.
//!
//! Invariant: the credential goes out in headers marked sensitive, and nowhere else. When the server is gone, an
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
        ChatReply, ChatRequest, Endpoint, Protocol, StreamReader,
        anthropic::{answer, request, stream::Events},
        openai::answer::models,
    },
};
use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Request};
use std::{borrow::Cow, sync::Arc};
use url::Url;

pub(super) use errors::ERRORS;

/// The path of the API's one generation.
const API: &str = "v1";

/// The version whose format this is (<https://docs.claude.com/en/api/versioning>).
const VERSION: &str = "2023-06-01";

/// Anthropic itself, and what serves its API at another address.
pub(super) static ANTHROPIC: KindSpec = KindSpec {
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
    telemetry_name: "anthropic",
    // Gateways that serve this API give OpenAI's codes as well.
    errors: &[ERRORS, openai::errors::ERRORS],
};

/// The credential's fields that go out as headers (<https://docs.claude.com/en/api/overview>, "Authentication";
/// <https://docs.claude.com/en/api/beta-headers>).
const HEADERS: [(HeaderName, &str); 3] = [
    (HeaderName::from_static("x-api-key"), "api_key"),
    (ANTHROPIC_VERSION, "anthropic_version"),
    (ANTHROPIC_BETA, "anthropic_beta"),
];
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// Makes the driver.
pub(super) fn driver(client: UpstreamClient) -> Arc<dyn Driver> {
    Arc::new(Anthropic { client })
}

/// Speaks Anthropic's Messages API.
struct Anthropic {
    client: UpstreamClient,
}

impl Anthropic {
    fn call<'c>(&'c self, target: &'c Target) -> Call<'c> {
        Call::new(&self.client, self, target)
    }
}

fn url(target: &Target, path: &[&str]) -> Url {
    join(&with_version(&target.base_url, API), path)
}

#[async_trait]
impl Driver for Anthropic {
    fn spec(&self) -> &'static KindSpec {
        &ANTHROPIC
    }

    async fn chat(&self, target: &Target, request: &ChatRequest) -> Result<Whole<Box<ChatReply>>, Failure> {
        let call = self.call(target);
        let body = request::chat(target.recipient(self.spec()), request, false)?;
        let response = call.post(url(target, &["messages"]), &body).await?;
        call.chat(response, answer::message, Events::default()).await
    }

    async fn chat_stream(&self, target: &Target, request: &ChatRequest) -> Result<ChatStream, Failure> {
        let call = self.call(target);
        let body = request::chat(target.recipient(self.spec()), request, true)?;
        let response = call.post(url(target, &["messages"]), &body).await?;
        Ok(call.stream(response, StreamReader::of_events(Events::default())))
    }

    async fn count_tokens(&self, target: &Target, request: &ChatRequest) -> Result<Option<u32>, Failure> {
        let call = self.call(target);
        let body = request::count(target.recipient(self.spec()), request)?;
        let response = call.post(url(target, &["messages", "count_tokens"]), &body).await?;
        call.read(response, answer::count).await.map(Some)
    }

    fn protocol(&self) -> Option<Protocol> {
        Some(Protocol::Anthropic)
    }

    fn relays<'t>(&self, target: &'t Target, endpoint: Endpoint, _body: &[u8]) -> Option<RelayTo<'t>> {
        let path: &[&str] = match endpoint {
            Endpoint::Messages => &["messages"],
            Endpoint::MessagesCountTokens => &["messages", "count_tokens"],
            _ => return None,
        };
        Some(RelayTo { url: url(target, path), model: Cow::Borrowed(&target.model) })
    }

    /// The caller's own version stays where the credential has none, and its beta features are added to the credential's.
    fn sign(&self, target: &Target, request: &mut Request<Payload>) -> Result<(), Failure> {
        let headers = request.headers_mut();
        headers.entry(ANTHROPIC_VERSION).or_insert(HeaderValue::from_static(VERSION));
        let asked = headers.remove(ANTHROPIC_BETA);
        for (name, field) in HEADERS {
            client::put_field(headers, name, target, field, "")?;
        }
        if let Some(asked) = asked {
            let own = headers.get(ANTHROPIC_BETA).map(HeaderValue::as_bytes).unwrap_or_default();
            let both = [own, if own.is_empty() { b"" } else { b"," }, asked.as_bytes()].concat();
            headers.insert(ANTHROPIC_BETA, HeaderValue::from_bytes(&both).unwrap_or(asked));
        }
        Ok(())
    }

    /// By the list of models: it costs no tokens.
    async fn validate(&self, target: &Target) -> Result<(), Failure> {
        let call = self.call(target);
        let response = call.get(url(target, &["models"])).await?;
        call.read(response, models).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ErrorClass;
    use crate::provider::fixtures::signed;

    #[test]
    fn credentials_become_headers() {
        let sent = signed(driver, &[("api_key", " k\n"), ("anthropic_beta", "a,b")]).unwrap();
        assert_eq!(
            (&sent["x-api-key"], &sent["anthropic-version"]),
            (&"k".parse().unwrap(), &VERSION.parse().unwrap())
        );
        assert_eq!(sent["anthropic-beta"], "a,b");
        assert!(sent["x-api-key"].is_sensitive());
        let sent = signed(driver, &[("api_key", "k"), ("anthropic_version", "2099-01-01")]).unwrap();
        assert_eq!(sent["anthropic-version"], "2099-01-01");
        assert!(!sent.contains_key("anthropic-beta"));
        let failure = signed(driver, &[("api_key", "se\ncret")]).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Authentication);
        assert!(!failure.message.contains("cret"), "{}", failure.message);
    }
}
