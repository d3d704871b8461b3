//! A lease that gives itself back when it is dropped, whatever became of the call: answered, failed, cancelled, panicked.

use crate::{
    balance::{Cooldown, MemberKey},
    state::{Lease, StateStore},
};
use std::sync::Arc;
use tokio::{runtime::Handle, time::Instant};

#[derive(Debug)]
pub(super) struct LeaseGuard {
    state: Arc<dyn StateStore>,
    lease: Lease,
    began: Instant,
    failure: Option<Cooldown>,
    /// Tokens that the call has used, where the provider has told.
    used: Option<u64>,
}

impl LeaseGuard {
    pub(super) fn new(state: Arc<dyn StateStore>, lease: Lease) -> Self {
        Self { state, lease, began: Instant::now(), failure: None, used: None }
    }

    /// The member that it holds.
    pub(super) fn member(&self) -> &MemberKey {
        &self.lease.member.key
    }

    /// The call was served. This is written off the caller's path.
    pub(super) fn succeed(&mut self) {
        self.state.succeed(&self.lease);
        // The trial has its verdict: releasing the lease must not hand it on.
        self.lease.trial = false;
    }

    /// Sets how many tokens the call has used, to settle what was reserved.
    pub(super) fn use_tokens(&mut self, tokens: u64) {
        self.used = Some(tokens);
    }

    /// Keeps a failure until the next `acquire` carries it to the store, or until [`write_failure`](Self::write_failure).
    pub(super) fn fail_with(&mut self, cooldown: Cooldown) {
        self.failure = Some(cooldown);
    }

    /// Takes back a failure that has not been written.
    pub(super) fn forgive(&mut self) {
        self.failure = None;
    }

    /// The failure that the next `acquire` has to carry.
    pub(super) fn failure(&self) -> Option<(&Lease, &Cooldown)> {
        self.failure.as_ref().map(|cooldown| (&self.lease, cooldown))
    }

    /// Writes a failure that nobody waits for.
    pub(super) fn fail_apart(&self, cooldown: Cooldown) {
        // There is none when the process ends.
        let Ok(runtime) = Handle::try_current() else { return };
        let (state, lease) = (self.state.clone(), self.lease.clone());
        runtime.spawn(async move { state.fail(&lease.attempt(), &cooldown).await });
    }

    /// Writes the failure when no `acquire` follows.
    pub(super) async fn write_failure(&mut self) {
        if let Some(cooldown) = self.failure.take() {
            self.state.fail(&self.lease.attempt(), &cooldown).await;
        }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if self.lease.awaited {
            self.state.lines().held(self.lease.pool, self.began.elapsed());
        }
        self.state.release(&self.lease, self.used);
    }
}
