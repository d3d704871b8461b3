//! The table of the kinds of provider that this build can talk to: a row a kind, with what makes its driver. A kind that has
//! no row does not exist, and none can have a row without a driver.

use super::{
    Driver, ForwardRequest, Forwarded, KindSpec, RelayBody, RelayTo, RelayedFrames, RelayedWhole, Target,
    UpstreamClient, Whole, anthropic, cohere,
    forward::forward,
    gemini,
    openai::{self, kinds},
    relay,
};
use crate::balance::Failure;
use std::sync::Arc;

/// One kind.
struct Row {
    spec: &'static KindSpec,
    /// Makes the driver, over that client.
    driver: fn(UpstreamClient) -> Arc<dyn Driver>,
}

/// Every kind, in the order they are listed.
static KINDS: &[Row] = &[
    Row { spec: &kinds::OPENAI.spec, driver: |client| openai::driver(client, &kinds::OPENAI) },
    Row {
        spec: &kinds::OPENAI_COMPATIBLE.spec,
        driver: |client| openai::driver(client, &kinds::OPENAI_COMPATIBLE),
    },
    Row { spec: &kinds::AZURE_OPENAI.spec, driver: |client| openai::driver(client, &kinds::AZURE_OPENAI) },
    Row { spec: &anthropic::ANTHROPIC, driver: anthropic::driver },
    Row { spec: &gemini::GEMINI, driver: gemini::driver },
    Row { spec: &cohere::COHERE, driver: cohere::driver },
];

/// Every kind this build can talk to.
pub fn kinds() -> impl Iterator<Item = &'static KindSpec> {
    KINDS.iter().map(|row| row.spec)
}

/// The kind of that name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static KindSpec> {
    kinds().find(|kind| kind.name == name)
}

/// A driver a kind, over one client.
#[derive(Clone)]
pub struct Registry {
    client: UpstreamClient,
    drivers: Vec<Arc<dyn Driver>>,
}

impl Registry {
    /// The drivers of all [`kinds()`].
    #[must_use]
    pub fn new(client: UpstreamClient) -> Self {
        let drivers = KINDS.iter().map(|row| (row.driver)(client.clone())).collect();
        Self { client, drivers }
    }

    /// One attempt at a request that no driver knows.
    ///
    /// # Errors
    /// When another target should be asked, or no answer came.
    pub async fn forward(
        &self,
        driver: &dyn Driver,
        target: &Target,
        request: &ForwardRequest,
    ) -> Result<Forwarded, Failure> {
        forward(&self.client, driver, target, request).await
    }

    /// One attempt at a request that the target takes as it is, with an answer that comes whole.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn relay(
        &self,
        driver: &dyn Driver,
        target: &Target,
        to: RelayTo<'_>,
        request: RelayBody<'_>,
    ) -> Result<Whole<RelayedWhole>, Failure> {
        relay::whole(&self.client, driver, target, to, request).await
    }

    /// The same, with an answer that is streamed; returns when the provider has accepted the request.
    ///
    /// # Errors
    /// Where it has not.
    pub async fn relay_frames(
        &self,
        driver: &dyn Driver,
        target: &Target,
        to: RelayTo<'_>,
        request: RelayBody<'_>,
    ) -> Result<RelayedFrames, Failure> {
        relay::frames(&self.client, driver, target, to, request).await
    }

    /// The driver of that kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&dyn Driver> {
        self.drivers.iter().map(AsRef::as_ref).find(|driver| driver.spec().name == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        provider::{Networks, Switches, UpstreamOptions, fixtures},
        wire::Endpoint,
    };

    /// Where a target of that kind takes a request, and under which name of the model.
    fn relays(
        kind: &str,
        base_url: &str,
        switches: Switches,
        endpoint: Endpoint,
        body: &str,
    ) -> Option<(String, String)> {
        let client = UpstreamClient::new(&UpstreamOptions::new(Networks::Private)).unwrap();
        let target = Target { base_url: base_url.parse().unwrap(), switches, ..fixtures::target() };
        let registry = Registry::new(client);
        let to = registry.get(kind).unwrap().relays(&target, endpoint, body.as_bytes())?;
        Some((to.url.to_string(), to.model.into_owned()))
    }

    #[test]
    fn each_kind_takes_its_own_protocol() {
        use Endpoint::{
            ChatCompletions, GenerateContent, Images, Messages, MessagesCountTokens, Rerank, Responses,
            StreamGenerateContent, Translations,
        };
        let table = [
            ("openai", "https://h/v1", ChatCompletions, Some(("https://h/v1/chat/completions", "m"))),
            ("openai", "https://h/v1", Responses, Some(("https://h/v1/responses", "m"))),
            ("openai", "https://h/v1", Images, Some(("https://h/v1/images/generations", "m"))),
            ("openai", "https://h/v1", Messages, None),
            ("openai_compatible", "https://h/v1", Responses, None),
            ("openai_compatible", "https://h/v1", Rerank, Some(("https://h/v1/rerank", "m"))),
            (
                "azure_openai",
                "https://h",
                Translations,
                Some(("https://h/openai/deployments/m/audio/translations", "m")),
            ),
            ("anthropic", "https://h", Messages, Some(("https://h/v1/messages", "m"))),
            (
                "anthropic",
                "https://h",
                MessagesCountTokens,
                Some(("https://h/v1/messages/count_tokens", "m")),
            ),
            ("anthropic", "https://h", ChatCompletions, None),
            (
                "gemini",
                "https://h",
                GenerateContent,
                Some(("https://h/v1beta/models/m:generateContent", "models/m")),
            ),
            (
                "gemini",
                "https://h",
                StreamGenerateContent,
                Some(("https://h/v1beta/models/m:streamGenerateContent?alt=sse", "models/m")),
            ),
            ("cohere", "https://h", Rerank, None),
            ("cohere", "https://h", ChatCompletions, None),
        ];
        for (kind, base_url, endpoint, expected) in table {
            let relayed = relays(kind, base_url, Switches::NONE, endpoint, "{}");
            let expected = expected.map(|(url, model)| (url.to_owned(), model.to_owned()));
            assert_eq!(relayed, expected, "{kind} {endpoint:?}");
        }
    }

    #[test]
    fn what_a_switch_refuses_is_not_taken_as_it_is() {
        let none = Switches::NONE;
        let table = [
            ("openai", Switches { no_developer_role: true, ..none }, r#"{"role":"developer"}"#, false),
            (
                "openai",
                Switches { no_developer_role: true, ..none },
                r#"{"content":"a \"developer\""}"#,
                true,
            ),
            ("openai", none, r#"{"role":"developer"}"#, true),
            ("openai_compatible", none, r#"{"role":"developer"}"#, false),
            (
                "openai",
                Switches { no_max_completion_tokens: true, ..none },
                r#"{"max_completion_tokens":1}"#,
                false,
            ),
            (
                "openai",
                Switches { no_parallel_tool_calls: true, ..none },
                r#"{"parallel_tool_calls":true}"#,
                false,
            ),
            ("openai", Switches { no_stream_options: true, ..none }, r#"{"stream_options":null}"#, false),
            ("openai", Switches { think_tags: true, ..none }, "{}", true),
        ];
        for (kind, switches, body, taken) in table {
            let relayed = relays(kind, "https://h/v1", switches, Endpoint::ChatCompletions, body);
            assert_eq!(relayed.is_some(), taken, "{kind} {body}");
        }
        for (kind, responses) in [("openai", false), ("openai_compatible", true)] {
            let switches = Switches { responses: Some(responses), ..none };
            let relayed = relays(kind, "https://h/v1", switches, Endpoint::Responses, "{}");
            assert_eq!(relayed.is_some(), responses, "{kind}");
        }
        let refused = Switches { no_developer_role: true, ..none };
        let body = r#"{"input":"developer"}"#;
        assert!(relays("openai", "https://h/v1", refused, Endpoint::Embeddings, body).is_some());
    }
}
