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
