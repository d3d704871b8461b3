//! How a model's calls are balanced: what a tenant may set.

use super::{Cooldown, Cooldowns, ErrorClass, Failure, Scope};
use std::time::Duration;

/// What holds for one model. The default is that of a model for which nothing was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// At most this many attempts a call, fallbacks included; 0: each usable config once.
    pub max_attempts: u32,
    /// How long the parts of a call may take.
    pub timeouts: Timeouts,
    /// How long each class cools.
    pub cooldowns: Cooldowns,
    /// What a call does when nothing may serve now.
    pub when_exhausted: WhenExhausted,
    /// Whether members that cool or idle are asked how they are.
    pub health_check: Option<HealthCheck>,
    /// What a stream does when it breaks after its first content.
    pub on_break: OnBreak,
    /// The longest wait that a provider may ask for and get from a call that has another model to go to.
    pub wait_for_retry_after: Option<Duration>,
    /// Whether some calls go through when every member cools without the provider's word.
    pub last_resort: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 0,
            timeouts: Timeouts::default(),
            cooldowns: Cooldowns::default(),
            when_exhausted: WhenExhausted::default(),
            health_check: None,
            on_break: OnBreak::default(),
            wait_for_retry_after: None,
            last_resort: true,
        }
    }
}

impl Policy {
    /// What `failure` asks for; `None` where it does not cool. `jitter` is a random number in `0.0..1.0`.
    #[must_use]
    pub fn cooldown(&self, failure: &Failure, jitter: f64) -> Option<Cooldown> {
        let cooldown = self.cooldowns.decide(failure, jitter)?;
        // A limit of 1 ms says nothing of the address.
        let is_own_limit = failure.class == ErrorClass::Timeout && self.timeouts.connect.is_some();
        let scope = match cooldown.scope {
            Scope::Address if is_own_limit => Scope::AddressOfPool,
            scope => scope,
        };
        Some(Cooldown { scope, ..cooldown })
    }
}

/// How long the parts of a call may take, all within the caller's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt, of a call that is not streamed.
    pub attempt: Duration,
    /// Until the first content of a stream.
    pub first_token: Duration,
    /// Between two events of a stream.
    pub stream_idle: Duration,
    /// A new connection to the provider, TLS included; none: as the service is set.
    pub connect: Option<Duration>,
    /// The whole call, every attempt included; none: the caller's deadline alone bounds it.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(300),
            first_token: Duration::from_secs(60),
            stream_idle: Duration::from_secs(60),
            connect: None,
            total: None,
        }
    }
}

/// What a call does when every member is cooling down or at its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenExhausted {
    /// It fails at once, with the time until the first is back.
    #[default]
    Fail,
    /// It waits for the first to be back, within its deadline.
    Wait,
}

/// What a stream does when it breaks after its first content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBreak {
    /// It ends with the error.
    #[default]
    Fail,
    /// Another member begins anew.
    Restart,
    /// Another member goes on from the text that came.
    Continue,
}

impl OnBreak {
    /// The name in stored policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Restart => "restart",
            Self::Continue => "continue",
        }
    }

    /// What is called so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fail, Self::Restart, Self::Continue].into_iter().find(|what| what.name() == name)
    }
}

/// How members are asked how they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// Between two checks of a member.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
}
