//! What the engine asks of a store of state, and what it is told.

use super::{Inspection, Lines, Outlook, Stand};
use crate::balance::{Cooldown, ErrorClass, Gone, LeaseId, Member, Roster, Time};
use async_trait::async_trait;
use std::{fmt, sync::Arc, time::Duration};
use uuid::Uuid;

/// State of a pool that nobody has called for this long is forgotten: it is deleted, or as good as new.
pub(super) const STATE_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The shared state of all pools.
///
/// An [`acquire`](Self::acquire) is one atomic step, so a caller that comes after a reported failure cannot be given the
/// member that failed.
///
/// A store always answers. When a store that is shared cannot be reached, the answers come from what this replica knows.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// Writes the failure of the attempt before, where there is one, then picks a member and counts it in flight.
    async fn acquire(&self, ask: &Acquire<'_>) -> Answer;

    /// Writes a failure that no `acquire` follows. Returns when every later `acquire` sees it.
    async fn fail(&self, attempt: &FailedAttempt<'_>, cooldown: &Cooldown);

    /// Notes that the call under `lease` served. Off the caller's path.
    fn succeed(&self, lease: &Lease);

    /// Takes the in-flight count down, hands a trial without verdict on, and settles the tokens reserved with those
    /// `used`, where they are known. Off the caller's path; call it once a lease, whatever the outcome.
    fn release(&self, lease: &Lease, used: Option<u64>);

    /// Moves the end of a [`Acquire::hold`] lease to `ttl` from now; false where it is over already.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> bool;

    /// Ends a [`Acquire::hold`] lease and writes what became of its call, in one step; false where it is over already,
    /// so that an outcome counts once.
    async fn end(&self, lease: &Lease, used: Option<u64>, outcome: Outcome<'_>) -> bool;

    /// All that is known of a pool's members, in their order. Changes nothing.
    async fn inspect(&self, pool: &Roster) -> Inspection;

    /// Lets an operator or a health check change a member's cooldown.
    async fn override_cooldown(&self, pool: &Roster, member: &Member, change: Override);

    /// Whether this replica is the one to check the pool's members now; no other is for `ttl`.
    async fn claim_check(&self, pool: &Roster, ttl: Duration) -> bool;

    /// Forgets what is no more. Calls of it that end later bring nothing back.
    async fn forget(&self, gone: &Gone);

    /// Returns when everything noted so far is written.
    async fn flush(&self) {}

    /// The lines of callers that wait on this replica.
    fn lines(&self) -> &Arc<Lines>;

    /// Tells that nobody waits for that pool on this replica any more. Off the caller's path.
    fn leave(&self, _pool: &Roster) {}

    /// Whether this replica decides alone now, since the shared state cannot be reached. What was true of one pick is
    /// in its [`Answer`].
    fn degraded(&self) -> bool {
        false
    }

    /// Why it cannot be reached, while it cannot. Holds no secret.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Whether this replica can reach none of the addresses that it has tried lately.
    fn is_cut_off(&self) -> bool {
        false
    }
}

/// What [`StateStore::acquire`] is asked.
#[derive(Debug, Clone, Copy)]
pub struct Acquire<'a> {
    /// The pool to pick from.
    pub pool: &'a Arc<Roster>,
    /// Indices into `pool.members` that this call has tried.
    pub tried: &'a [usize],
    /// The attempt before, where it failed.
    pub failed: Option<(&'a Lease, &'a Cooldown)>,
    /// The id of the lease to be held.
    pub lease: LeaseId,
    /// How long a trial may take before another is let through.
    pub trial_ttl: Duration,
    /// Tokens to reserve where the member has a limit.
    pub tokens: u64,
    /// For a caller that calls the provider itself: the lease ends by itself. Otherwise it lives as long as this replica.
    pub hold: Option<Hold>,
    /// Whether the call can go to no other pool. Then it may join a trial, or be one of the pool's last resort.
    pub is_last: bool,
    /// Where the caller stands among those who wait.
    pub stand: Stand,
}

/// How a lease that ends by itself is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// It ends after this long.
    pub ttl: Duration,
    /// So many of these leases a pool may have at once.
    pub most: u32,
}

/// What [`StateStore::acquire`] answers.
#[derive(Debug)]
pub struct Answer {
    /// Who serves.
    pub acquired: Acquired,
    /// Whether this replica decided alone, since the shared state cannot be reached.
    pub degraded: bool,
    /// What it means for the line where the caller was not served.
    pub outlook: Outlook,
}

/// Who serves.
#[derive(Debug)]
pub enum Acquired {
    /// This member serves.
    Granted {
        /// Its index in the pool.
        index: usize,
        /// To be released when the call is over.
        lease: Lease,
    },
    /// None is eligible, but a trial is on its way: ask again soon.
    TrialRunning,
    /// None is eligible.
    Exhausted {
        /// The first to come back: in how long, and what it waits for. `None` where one could serve another call. One who
        /// waits is told of those it has not tried.
        first_back: Option<(Duration, ErrorClass)>,
    },
    /// The pool has as many leases that end by themselves as it may have: [`Hold::most`].
    TooManyLeases {
        /// In how long the first of them ends.
        first_ends: Duration,
    },
}

/// One call's hold on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own")]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// The tenant's row id.
    pub tenant: Uuid,
    /// The pool's row id.
    pub pool: Uuid,
    /// The member held.
    pub member: Member,
    /// When it was granted, on the store's clock.
    pub began: Time,
    /// Whether the call tries whether a cooldown may end: as the trial, beside it, or as a last resort.
    pub trial: bool,
    /// Whether it is one of the pool's last resort.
    pub last_resort: bool,
    /// Whether success has something to clear: a trial or a row of failures.
    pub marked: bool,
    /// Tokens reserved.
    pub tokens: u64,
    /// Whether callers may wait for what it holds.
    pub awaited: bool,
}

impl Lease {
    /// Whether those who wait are told when it is given back: a trial is awaited under every policy.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        self.awaited || self.trial
    }
}

/// An attempt that failed, as far as the state store asks.
#[derive(Debug, Clone, Copy)]
pub struct FailedAttempt<'a> {
    /// The tenant's row id.
    pub tenant: Uuid,
    /// The pool's row id.
    pub pool: Uuid,
    /// The member that was tried.
    pub member: &'a Member,
    /// When it began, on the store's clock.
    pub began: Time,
    /// The lease of the trial that it was.
    pub trial: Option<LeaseId>,
}

impl Lease {
    /// What the store asks of it when its call fails.
    #[must_use]
    pub fn attempt(&self) -> FailedAttempt<'_> {
        let Self { tenant, pool, ref member, began, .. } = *self;
        FailedAttempt { tenant, pool, member, began, trial: self.trial.then_some(self.id) }
    }
}

/// What became of a call under a [`Acquire::hold`] lease.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// It was served.
    Served,
    /// It failed, and the failure may cool the member.
    Failed(&'a Cooldown),
    /// Nothing that says anything about the member.
    Unknown,
}

/// What an operator or a health check does to a cooldown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Override {
    /// An operator sets it, whatever it was.
    Set {
        /// For how long.
        duration: Duration,
        /// Why.
        class: ErrorClass,
    },
    /// An operator clears it, the credential's as well; failures of calls begun before no longer count.
    Clear,
    /// A health check has succeeded: ends the cooldowns that [`ErrorClass::health_check_ends`].
    Recover,
}

impl fmt::Debug for dyn StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateStore")
    }
}
