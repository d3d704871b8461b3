//! A model's balancing policy: what a tenant has set, how it is stored, and the policy that follows from it.

use crate::balance::{Cooldowns, HealthCheck, OnBreak, Policy, Strategy, Timeouts, WhenExhausted};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// What a tenant has set; what is absent has its default. Durations are stored in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicySettings {
    /// A [`Strategy::name`].
    pub strategy: Option<String>,
    /// 0: each usable config once.
    pub max_attempts: u32,
    /// One attempt, of a call that is not streamed.
    pub attempt_timeout: Option<Millis>,
    /// Until the first content of a stream.
    pub first_token_timeout: Option<Millis>,
    /// Between two events of a stream.
    pub stream_idle_timeout: Option<Millis>,
    /// A new connection to the provider.
    pub connect_timeout: Option<Millis>,
    /// The whole call.
    pub total_timeout: Option<Millis>,
    /// By class; zero is off.
    pub cooldowns: CooldownSettings,
    /// Wait instead of failing when nothing may serve.
    pub wait_when_exhausted: bool,
    /// The interval and the timeout of active health checks.
    pub health_check: Option<(Millis, Millis)>,
    /// An [`OnBreak::name`].
    pub on_break: Option<String>,
    /// The longest wait that a provider may ask for before another model is tried; zero is off.
    pub wait_for_retry_after: Option<Millis>,
    /// Absent: on.
    pub last_resort: Option<bool>,
    /// What a later version has set beside these. It is kept as it is.
    #[serde(skip)]
    pub later: Map<String, Value>,
}

/// The longest time that an attempt, a wait or a call can be given.
pub(in crate::catalog) const MOST_TIME: Millis = Millis(3600 * 1000);
/// The longest time that a connection can be given.
pub(in crate::catalog) const MOST_CONNECT: Millis = Millis(60 * 1000);
/// The longest time that a health check can be given: it holds a slot that others wait for.
pub(in crate::catalog) const MOST_PROBE: Millis = Millis(30 * 1000);

/// How long each class cools, where it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each is the class of its name; see `Cooldowns`")]
pub struct CooldownSettings {
    pub rate_limited: Option<Millis>,
    pub quota_exhausted: Option<Millis>,
    pub authentication: Option<Millis>,
    pub connection: Option<Millis>,
    pub timeout: Option<Millis>,
    pub server_error: Option<Millis>,
    pub model_unavailable: Option<Millis>,
    pub max: Option<Millis>,
}

/// A time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Self {
        Self::from_millis(millis.0)
    }
}

impl PolicySettings {
    /// What a row holds. What cannot be read, as after a downgrade, has its default. A time of an earlier version that is
    /// longer than it can be set now is the longest.
    pub(in crate::catalog) fn read(json: &str) -> Self {
        if json.is_empty() {
            return Self::default();
        }
        let mut settings = Self::parse(json).unwrap_or_else(|error| {
            tracing::error!(%error, "a balancing policy cannot be read; its defaults hold");
            Self::default()
        });
        for (_, time, most) in settings.times() {
            *time = time.map(|set| set.min(most));
        }
        if let Some((_, timeout)) = &mut settings.health_check {
            *timeout = (*timeout).min(MOST_PROBE);
        }
        settings
    }

    /// The times but for those of cooldowns and health checks: the field's name, what is set, and the longest.
    pub(in crate::catalog) fn times(&mut self) -> [(&'static str, &mut Option<Millis>, Millis); 6] {
        [
            ("attempt_timeout", &mut self.attempt_timeout, MOST_TIME),
            ("first_token_timeout", &mut self.first_token_timeout, MOST_TIME),
            ("stream_idle_timeout", &mut self.stream_idle_timeout, MOST_TIME),
            ("connect_timeout", &mut self.connect_timeout, MOST_CONNECT),
            ("total_timeout", &mut self.total_timeout, MOST_TIME),
            ("wait_for_retry_after", &mut self.wait_for_retry_after, MOST_TIME),
        ]
    }

    fn parse(json: &str) -> serde_json::Result<Self> {
        let mut later: Map<String, Value> = serde_json::from_str(json)?;
        let settings = serde_json::from_value(Value::Object(later.clone()))?;
        for known in Self::default().fields()?.keys() {
            later.remove(known);
        }
        Ok(Self { later, ..settings })
    }

    /// What a row is to hold.
    ///
    /// # Errors
    /// None that is known: all of it is JSON.
    pub(in crate::catalog) fn write(&self) -> serde_json::Result<String> {
        let mut fields = self.fields()?;
        fields.extend(self.later.clone());
        serde_json::to_string(&fields)
    }

    /// Those of this version.
    fn fields(&self) -> serde_json::Result<Map<String, Value>> {
        serde_json::to_value(self).map(|value| match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        })
    }

    /// How the pool chooses.
    pub(in crate::catalog) fn strategy(&self) -> Strategy {
        self.strategy.as_deref().and_then(Strategy::from_name).unwrap_or_default()
    }

    /// What a stream does when it breaks after its first content.
    #[must_use]
    pub fn on_break(&self) -> OnBreak {
        self.on_break.as_deref().and_then(OnBreak::from_name).unwrap_or_default()
    }

    /// What holds.
    pub(in crate::catalog) fn policy(&self) -> Policy {
        let usual = Timeouts::default();
        let or = |time: Option<Millis>, usual| time.map_or(usual, Into::into);
        let cooldowns = &self.cooldowns;
        let set = |time: Option<Millis>| time.map(Duration::from);
        Policy {
            max_attempts: self.max_attempts,
            timeouts: Timeouts {
                attempt: or(self.attempt_timeout, usual.attempt),
                first_token: or(self.first_token_timeout, usual.first_token),
                stream_idle: or(self.stream_idle_timeout, usual.stream_idle),
                connect: set(self.connect_timeout),
                total: set(self.total_timeout),
            },
            cooldowns: Cooldowns {
                rate_limited: set(cooldowns.rate_limited),
                quota_exhausted: set(cooldowns.quota_exhausted),
                authentication: set(cooldowns.authentication),
                connection: set(cooldowns.connection),
                timeout: set(cooldowns.timeout),
                server_error: set(cooldowns.server_error),
                model_unavailable: set(cooldowns.model_unavailable),
                max: set(cooldowns.max),
            },
            when_exhausted: if self.wait_when_exhausted { WhenExhausted::Wait } else { WhenExhausted::Fail },
            health_check: self.health_check.map(|(interval, timeout)| HealthCheck {
                interval: interval.into(),
                timeout: timeout.into(),
            }),
            on_break: self.on_break(),
            wait_for_retry_after: set(self.wait_for_retry_after).filter(|wait| !wait.is_zero()),
            last_resort: self.last_resort.unwrap_or(true),
        }
    }
}
