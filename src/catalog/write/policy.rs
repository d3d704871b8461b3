//! Changes of a model's balancing policy.

use crate::{
    balance::Strategy,
    catalog::{
        names::{self, Check},
        stored::{Located, Reload, locate},
        types::{Error, MOST_PROBE, Millis, ModelKey, PolicySettings},
        write::{
            audit::{self, Event},
            writer::Writer,
        },
    },
};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

/// The longest cooldown, and the longest pause between two health checks of a member.
const MOST: Millis = Millis(24 * 3600 * 1000);
/// The shortest pause between two health checks of a member.
const LEAST_INTERVAL: Millis = Millis(1000);
/// More attempts than a pool and its fallbacks have members.
const MOST_ATTEMPTS: u32 = 10_000;

impl Writer {
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
        let write = self.begin().await?;
        let Located { tenant, model, .. } = locate(&write.tx, &key).await?;
        let mut settings = PolicySettings::read(&model.policy);
        let event = Event::new("UpdateBalancingPolicy", &key.tenant, audit::model(&key));
        let event = event.before(&settings);
        change(&mut settings);
        check(&mut settings)?;
        let revision = model.lb_revision + 1;
        let mut update = model.into_active_model();
        update.policy = Set(settings.write().map_err(|_| Error::Internal)?);
        update.lb_revision = Set(revision);
        let model = update.update(&write.tx).await?;
        write.commit(Some(tenant.id), Reload::Model(model.id), event.after(&settings)).await?;
        Ok((settings, revision))
    }
}

/// Refuses what is out of bounds. Violations are under `policy`.
fn check(settings: &mut PolicySettings) -> Result<(), Error> {
    let mut check = Check::default();
    if settings.strategy.as_deref().is_some_and(|name| Strategy::from_name(name).is_none()) {
        check.add("strategy", "is not a strategy");
    }
    if settings.max_attempts > MOST_ATTEMPTS {
        check.add("max_attempts", format!("is at most {MOST_ATTEMPTS}"));
    }
    for (field, time, most) in settings.times() {
        let zero = field == "wait_for_retry_after";
        match *time {
            Some(time) if time > most => check.add(field, format!("is at most {} s", most.0 / 1000)),
            Some(Millis(0)) if !zero => check.add(field, "must be above 0"),
            _ => {}
        }
    }
    let cooldowns = &settings.cooldowns;
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
        if time.is_some_and(|time| time > MOST) {
            check.add(format!("cooldowns.{field}"), "is at most 24 h");
        }
    }
    if let Some((interval, timeout)) = settings.health_check {
        if interval < LEAST_INTERVAL || interval > MOST {
            check.add("active_health_check.interval", "is from 1 s to 24 h");
        }
        if timeout.0 == 0 || timeout > MOST_PROBE {
            check.add("active_health_check.timeout", "is above 0 and at most 30 s");
        }
    }
    check.finish().map_err(|error| error.under("policy"))
}
