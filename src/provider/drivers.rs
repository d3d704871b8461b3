//! Which kinds of provider this build can talk to. Invariant: every kind in [`kinds`] has a driver.

use super::{
    Driver, ForwardRequest, Forwarded, KindSpec, Target, UpstreamClient,
    anthropic::{self, Anthropic},
    cohere::{self, Cohere},
    forward::forward,
    gemini::{self, Gemini},
    openai::{self, OpenAi},
};
use crate::balance::Failure;
use std::sync::Arc;

/// Every kind, in the order they are listed.
static KINDS: [KindSpec; 6] = [
    openai::OPENAI,
    openai::OPENAI_COMPATIBLE,
    openai::AZURE_OPENAI,
    anthropic::ANTHROPIC,
    gemini::GEMINI,
    cohere::COHERE,
];

/// Every kind this build can talk to.
#[must_use]
pub fn kinds() -> &'static [KindSpec] {
    &KINDS
}

/// The kind of that name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static KindSpec> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// A driver a kind, over one client.
#[derive(Clone)]
pub struct Drivers {
    client: UpstreamClient,
    drivers: Vec<Arc<dyn Driver>>,
}

impl Drivers {
    /// The drivers of all [`kinds`].
    #[must_use]
    pub fn new(client: UpstreamClient) -> Self {
        let driver = |spec: &'static KindSpec| -> Arc<dyn Driver> {
            if spec.name == anthropic::ANTHROPIC.name {
                Arc::new(Anthropic::new(client.clone()))
            } else if spec.name == cohere::COHERE.name {
                Arc::new(Cohere::new(client.clone()))
            } else if spec.name == gemini::GEMINI.name {
                Arc::new(Gemini::new(client.clone()))
            } else {
                Arc::new(OpenAi::new(client.clone(), spec))
            }
        };
        let drivers = KINDS.iter().map(driver).collect();
        Self { client, drivers }
    }

    /// One attempt at a request that no driver knows.
    ///
    /// # Errors
    /// Where another target should be asked, or no answer came.
    pub async fn forward(
        &self,
        driver: &dyn Driver,
        target: &Target,
        request: &ForwardRequest,
    ) -> Result<Forwarded, Failure> {
        forward(&self.client, driver, target, request).await
    }

    /// The driver of that kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&dyn Driver> {
        self.drivers.iter().map(AsRef::as_ref).find(|driver| driver.spec().name == kind)
    }
}
