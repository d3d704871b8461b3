//! What counts the connections there are.

use crate::{
    balance::Full,
    provider::shares::{Share, Shares},
};
use std::sync::{Arc, Weak};
use uuid::Uuid;

/// Whom the end of a connection is told.
pub(super) trait Closes: Send + Sync {
    /// One has ended.
    fn closed(self: Arc<Self>);
}

/// A connection that is open or being made: one of the tenant's, of the host's, and of all.
pub(super) struct Open {
    share: Share,
    host: Weak<dyn Closes>,
}

impl Open {
    pub(super) fn new(of: &Arc<Shares>, tenant: Uuid, host: Weak<dyn Closes>) -> Result<Self, Full> {
        Ok(Self { share: of.take(tenant, 1)?, host })
    }

    /// The tenant that has it, or had it last.
    pub(super) fn tenant(&self) -> Uuid {
        self.share.tenant()
    }

    /// Another tenant takes it over.
    pub(super) fn pass_to(&mut self, tenant: Uuid) -> Result<(), Full> {
        self.share.pass_to(tenant)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(host) = self.host.upgrade() {
            host.closed();
        }
    }
}
