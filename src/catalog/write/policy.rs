//! A model's balancing policy: what a tenant has set, how it is stored, and what then holds.

use crate::balance::{Cooldowns, HealthCheck, Policy, Strategy, Timeouts, WhenExhausted};
use crate::catalog::{
    Catalog, Error, ModelKey,
    names::{self, Check},
    stored::database::{Located, Scope, locate},
    write::audit::Event,
    write::models,
};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};
use serde::{Deserialize, Serialize};
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
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Self {
        Self::from_millis(millis.0)
    }
}

/// The longest time that can be set.
const MOST: Millis = Millis(24 * 3600 * 1000);
/// The shortest pause between two health checks of a member.
const LEAST_INTERVAL: Millis = Millis(1000);
/// More attempts than a pool and its fallbacks have members.
const MOST_ATTEMPTS: u32 = 10_000;

impl PolicySettings {
    /// What a row holds. What cannot be read, as after a downgrade, has its default.
    pub(in crate::catalog) fn read(json: &str) -> Self {
        if json.is_empty() {
            return Self::default();
        }
        serde_json::from_str(json).unwrap_or_else(|error| {
            tracing::error!(%error, "a balancing policy cannot be read; its defaults hold");
            Self::default()
        })
    }

    fn check(&self) -> Result<(), Error> {
        let mut check = Check::default();
        if self.strategy.as_deref().is_some_and(|name| Strategy::from_name(name).is_none()) {
            check.add("strategy", "is not a strategy");
        }
        if self.max_attempts > MOST_ATTEMPTS {
            check.add("max_attempts", format!("is at most {MOST_ATTEMPTS}"));
        }
        let timeouts = [
            ("attempt_timeout", self.attempt_timeout),
            ("first_token_timeout", self.first_token_timeout),
            ("stream_idle_timeout", self.stream_idle_timeout),
            ("connect_timeout", self.connect_timeout),
            ("total_timeout", self.total_timeout),
        ];
        for (field, time) in timeouts {
            if time.is_some_and(|time| time.0 == 0 || time.0 > MOST.0) {
                check.add(field, "is above 0 and at most 24 h");
            }
        }
        let cooldowns = &self.cooldowns;
        let cooldowns = [
            ("rate_limited", cooldowns.rate_limited),
            ("quota_exhausted", cooldowns.quota_exhausted),
            ("authentication", cooldowns.authentication),
            ("connection", cooldowns.connection),
            ("timeout", cooldowns.timeout),
            ("server_error", cooldowns.server_error),
            ("model_unavailable", cooldowns.model_unavailable),
            ("max", cooldowns.max),
        ];
        for (field, time) in cooldowns {
            if time.is_some_and(|time| time.0 > MOST.0) {
                check.add(format!("cooldowns.{field}"), "is at most 24 h");
            }
        }
        if let Some((interval, timeout)) = self.health_check {
            if interval.0 < LEAST_INTERVAL.0 || interval.0 > MOST.0 {
                check.add("active_health_check.interval", "is from 1 s to 24 h");
            }
            if timeout.0 == 0 || timeout.0 > MOST.0 {
                check.add("active_health_check.timeout", "is above 0 and at most 24 h");
            }
        }
        check.finish()
    }

    /// What holds.
    pub(in crate::catalog) fn policy(&self) -> Policy {
        let usual = Timeouts::default();
        let or = |time: Option<Millis>, usual| time.map_or(usual, Into::into);
        let cooldowns = &self.cooldowns;
        let set = |time: Option<Millis>| time.map(Duration::from);
        Policy {
            strategy: self.strategy.as_deref().and_then(Strategy::from_name).unwrap_or_default(),
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
        }
    }
}

impl Catalog {
    /// Changes a model's policy, and returns it with the new revision of its set.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`]. Then nothing has changed.
    pub async fn update_policy(
        &self,
        key: &ModelKey,
        change: impl FnOnce(&mut PolicySettings) + Send,
    ) -> Result<(PolicySettings, i64), Error> {
        let key = names::key(key)?;
        let write = self.write().await?;
        let Located { tenant, model, .. } = locate(&write.tx, &key).await?;
        let mut settings = PolicySettings::read(&model.policy);
        let event = Event::new("UpdateBalancingPolicy", &key.tenant, models::resource(&key));
        let event = event.before(&settings);
        change(&mut settings);
        settings.check().map_err(|error| error.under("policy"))?;
        let revision = model.lb_revision + 1;
        let mut update = model.into_active_model();
        update.policy = Set(serde_json::to_string(&settings).map_err(|_| Error::Internal)?);
        update.lb_revision = Set(revision);
        let model = update.update(&write.tx).await?;
        write.commit(Some(tenant.id), Scope::Model(model.id), event.after(&settings)).await?;
        Ok((settings, revision))
    }
}
