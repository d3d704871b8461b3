//! A call, as the engine walks with it.

use crate::{
    balance::{OnBreak, Timeouts},
    catalog::Pool,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// One call to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The model and its fallbacks, in the order they are tried, as they were configured when the call came.
    pub(super) chain: Vec<Arc<Pool>>,
    /// When the call came.
    pub(super) began: Instant,
    /// When the answer must be on its way, whatever it is.
    pub(super) deadline: Instant,
    /// How many attempts may be made; 0: one at each usable config.
    pub(super) max_attempts: usize,
    /// About how many tokens it will use. They are reserved where a member has a limit.
    pub(super) tokens: u64,
    /// Whether a provider may do its work twice. If not, only an attempt that has certainly done none is followed by another.
    pub(super) repeatable: bool,
    /// How many tokens a model must hold, where a model of the chain says how many it does.
    pub(super) size: Option<u64>,
    /// What its stream does when it breaks after the first content.
    pub(super) on_break: OnBreak,
}

/// How to make a call.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// When the call came.
    pub began: Instant,
    /// When the answer must be on its way.
    pub deadline: Instant,
    /// How many attempts may be made; 0: as many as the model's policy allows.
    pub max_attempts: usize,
    /// Whether the model's fallbacks may serve.
    pub fallback: bool,
    /// About how many tokens it will use.
    pub tokens: u64,
    /// What its stream does when it breaks after the first content; none: as the model's policy says.
    pub on_break: Option<OnBreak>,
}

/// How a call's answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CallMode {
    /// All at once.
    Unary,
    /// In pieces. The call is served when the first content comes.
    Streaming,
    /// As it was asked for. The call is served when the head of the answer comes.
    Forward,
}

impl CallMode {
    /// How long one attempt may take until the call is served.
    pub(super) fn limit(self, timeouts: &Timeouts) -> Duration {
        match self {
            Self::Unary | Self::Forward => timeouts.attempt,
            Self::Streaming => timeouts.first_token,
        }
    }
}

/// An answer leaves this much before the time that its caller gives: 2 % of it, and at least this long. So the caller gets
/// the reason instead of its own timeout.
const LEAST_MARGIN: Duration = Duration::from_millis(10);
const MARGIN_SHARE: u32 = 50;

/// How long a call may take whose caller waits for that long.
#[must_use]
pub fn time_within(given: Duration) -> Duration {
    given.saturating_sub((given / MARGIN_SHARE).max(LEAST_MARGIN))
}

impl Call {
    /// When its answer must be on its way.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How much time is left until the deadline.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
