//! A lease that gives itself back, whatever becomes of the call: answered, failed, cancelled or panicked.

use crate::{
    balance::Cooldown,
    state::{Lease, StateStore},
};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Held {
    state: Arc<dyn StateStore>,
    lease: Lease,
    failure: Option<Cooldown>,
    used: Option<u64>,
}

impl Held {
    pub(super) fn new(state: Arc<dyn StateStore>, lease: Lease) -> Self {
        Self { state, lease, failure: None, used: None }
    }

    pub(super) fn succeed(&mut self) {
        self.state.succeed(&self.lease);
        // It has had its verdict: nothing is left to hand on.
        self.lease.trial = false;
    }

    /// Notes the tokens that the call has used, for its member's limit.
    pub(super) fn used(&mut self, tokens: u64) {
        self.used = Some(tokens);
    }

    /// Notes a failure that the next `acquire` will carry.
    pub(super) fn fail_with(&mut self, cooldown: Cooldown) {
        self.failure = Some(cooldown);
    }

    pub(super) fn failure(&self) -> Option<(&Lease, &Cooldown)> {
        self.failure.as_ref().map(|cooldown| (&self.lease, cooldown))
    }

    /// Writes the noted failure where no `acquire` follows.
    pub(super) async fn write_failure(&mut self) {
        if let Some(cooldown) = self.failure.take() {
            self.state.fail(&self.lease, &cooldown).await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.release(&self.lease, self.used);
    }
}
