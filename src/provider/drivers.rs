//! Which kinds of provider this build can talk to. Invariant: every kind in [`kinds`] has a driver.

use super::{
    Driver, KindSpec, UpstreamClient,
    anthropic::{self, Anthropic},
    cohere::{self, Cohere},
    openai::{self, OpenAi},
};
use std::sync::Arc;

/// Every kind, in the order they are listed.
static KINDS: [KindSpec; 4] =
    [openai::OPENAI, openai::OPENAI_COMPATIBLE, anthropic::ANTHROPIC, cohere::COHERE];

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
pub struct Drivers(Vec<Arc<dyn Driver>>);

impl Drivers {
    /// The drivers of all [`kinds`].
    #[must_use]
    pub fn new(client: UpstreamClient) -> Self {
        let driver = |spec: &'static KindSpec| -> Arc<dyn Driver> {
            if spec.name == anthropic::ANTHROPIC.name {
                Arc::new(Anthropic::new(client.clone()))
            } else if spec.name == cohere::COHERE.name {
                Arc::new(Cohere::new(client.clone()))
            } else {
                Arc::new(OpenAi::new(client.clone(), spec))
            }
        };
        Self(KINDS.iter().map(driver).collect())
    }

    /// The driver of that kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&dyn Driver> {
        self.0.iter().map(AsRef::as_ref).find(|driver| driver.spec().name == kind)
    }
}
