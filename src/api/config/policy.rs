//! A model's balancing policy.

use super::{mask::Mask, service::ConfigApi};
use crate::{
    api::{from_pb, pb, status, to_pb},
    balance::Strategy,
    catalog::{Caller, Millis, ModelKey, PolicySettings},
};
use prost_types::Duration;
use tonic::Status;

const FIELDS: &[&str] = &[
    "strategy",
    "max_attempts",
    "attempt_timeout",
    "first_token_timeout",
    "stream_idle_timeout",
    "connect_timeout",
    "total_timeout",
    "cooldowns",
    "cooldowns.rate_limited",
    "cooldowns.quota_exhausted",
    "cooldowns.authentication",
    "cooldowns.connection",
    "cooldowns.timeout",
    "cooldowns.server_error",
    "cooldowns.model_unavailable",
    "cooldowns.max",
    "when_exhausted",
    "active_health_check",
    "on_break",
    "wait_for_retry_after",
    "last_resort",
];

impl ConfigApi {
    pub(super) async fn update_balancing_policy(
        &self,
        caller: &Caller,
        request: pb::UpdateBalancingPolicyRequest,
    ) -> Result<pb::UpdateBalancingPolicyResponse, Status> {
        let (key, change) = change_in(request, caller)?;
        let (policy, revision) = self
            .catalog
            .by(caller)
            .update_policy(&key, |settings| change.apply(settings))
            .await
            .map_err(status::from_catalog)?;
        Ok(pb::UpdateBalancingPolicyResponse { policy: Some(out(&policy)), revision })
    }
}

pub(super) fn change_in(
    request: pb::UpdateBalancingPolicyRequest,
    caller: &Caller,
) -> Result<(ModelKey, Change), Status> {
    let key = from_pb::key(caller, request.key, "key")?;
    let policy = request.policy.ok_or_else(|| status::invalid("policy", "is required"))?;
    let mask = Mask::read(request.update_mask, FIELDS)?;
    Ok((key, Change::read(&policy, &mask)?))
}

/// The new value of each field that is to change.
#[expect(
    clippy::option_option,
    reason = "outside: whether to change it; inside: the value, none for the default"
)]
pub(super) struct Change {
    strategy: Option<Option<String>>,
    max_attempts: Option<u32>,
    timeouts: [Option<Option<Millis>>; 5],
    cooldowns: [Option<Option<Millis>>; 8],
    wait: Option<bool>,
    health_check: Option<Option<(Millis, Millis)>>,
    on_break: Option<Option<String>>,
    wait_for_retry_after: Option<Option<Millis>>,
    last_resort: Option<Option<bool>>,
}

impl Change {
    fn read(policy: &pb::BalancingPolicy, mask: &Mask) -> Result<Self, Status> {
        let strategy = match pb::Strategy::try_from(policy.strategy) {
            Ok(pb::Strategy::Unspecified) => None,
            Ok(pb::Strategy::RoundRobin) => Some(Strategy::RoundRobin),
            Ok(pb::Strategy::WeightedRoundRobin) => Some(Strategy::WeightedRoundRobin),
            Ok(pb::Strategy::LeastConnections) => Some(Strategy::LeastConnections),
            Err(_) => return Err(status::invalid("policy.strategy", "is not a strategy")),
        };
        let wait = match pb::WhenExhausted::try_from(policy.when_exhausted) {
            Ok(pb::WhenExhausted::Unspecified | pb::WhenExhausted::Fail) => false,
            Ok(pb::WhenExhausted::Wait) => true,
            Err(_) => return Err(status::invalid("policy.when_exhausted", "is FAIL or WAIT")),
        };
        let on_break = from_pb::on_break(policy.on_break, "policy.on_break")?;
        let time = |field: &str, value: Option<Duration>| -> Result<_, Status> {
            let present = value.is_some();
            let value = value.map(|value| millis(value, &format!("policy.{field}"))).transpose()?;
            Ok(mask.pick(field, present, value))
        };
        let given = policy.cooldowns.is_some();
        let cooldowns = policy.cooldowns.unwrap_or_default();
        let cooldown = |field: &str, value: Option<Duration>| -> Result<_, Status> {
            let present = value.is_some();
            let value = value.map(|value| millis(value, &format!("policy.cooldowns.{field}"))).transpose()?;
            // Naming the whole names each.
            let whole = mask.pick("cooldowns", false, value);
            Ok(whole.or_else(|| mask.pick(&format!("cooldowns.{field}"), given && present, value)))
        };
        let check = policy.active_health_check;
        let present = check.is_some();
        let check = check
            .map(|check| -> Result<_, Status> {
                let field = |name| format!("policy.active_health_check.{name}");
                let interval = millis(check.interval.unwrap_or_default(), &field("interval"))?;
                Ok((interval, millis(check.timeout.unwrap_or_default(), &field("timeout"))?))
            })
            .transpose()?;
        Ok(Self {
            strategy: mask.pick(
                "strategy",
                strategy.is_some(),
                strategy.map(|strategy| strategy.name().to_owned()),
            ),
            max_attempts: mask.pick("max_attempts", policy.max_attempts != 0, policy.max_attempts),
            timeouts: [
                time("attempt_timeout", policy.attempt_timeout)?,
                time("first_token_timeout", policy.first_token_timeout)?,
                time("stream_idle_timeout", policy.stream_idle_timeout)?,
                time("connect_timeout", policy.connect_timeout)?,
                time("total_timeout", policy.total_timeout)?,
            ],
            cooldowns: [
                cooldown("rate_limited", cooldowns.rate_limited)?,
                cooldown("quota_exhausted", cooldowns.quota_exhausted)?,
                cooldown("authentication", cooldowns.authentication)?,
                cooldown("connection", cooldowns.connection)?,
                cooldown("timeout", cooldowns.timeout)?,
                cooldown("server_error", cooldowns.server_error)?,
                cooldown("model_unavailable", cooldowns.model_unavailable)?,
                cooldown("max", cooldowns.max)?,
            ],
            wait: mask.pick("when_exhausted", policy.when_exhausted != 0, wait),
            health_check: mask.pick("active_health_check", present, check),
            on_break: mask.pick(
                "on_break",
                on_break.is_some(),
                on_break.map(|on_break| on_break.name().to_owned()),
            ),
            wait_for_retry_after: time("wait_for_retry_after", policy.wait_for_retry_after)?,
            last_resort: mask.pick("last_resort", policy.last_resort.is_some(), policy.last_resort),
        })
    }

    fn apply(self, settings: &mut PolicySettings) {
        fn put<T>(change: Option<T>, place: &mut T) {
            if let Some(value) = change {
                *place = value;
            }
        }
        let cooldowns = &mut settings.cooldowns;
        put(self.strategy, &mut settings.strategy);
        put(self.max_attempts, &mut settings.max_attempts);
        let timeouts = [
            &mut settings.attempt_timeout,
            &mut settings.first_token_timeout,
            &mut settings.stream_idle_timeout,
            &mut settings.connect_timeout,
            &mut settings.total_timeout,
        ];
        for (change, place) in self.timeouts.into_iter().zip(timeouts) {
            put(change, place);
        }
        let places = [
            &mut cooldowns.rate_limited,
            &mut cooldowns.quota_exhausted,
            &mut cooldowns.authentication,
            &mut cooldowns.connection,
            &mut cooldowns.timeout,
            &mut cooldowns.server_error,
            &mut cooldowns.model_unavailable,
            &mut cooldowns.max,
        ];
        for (change, place) in self.cooldowns.into_iter().zip(places) {
            put(change, place);
        }
        put(self.wait, &mut settings.wait_when_exhausted);
        put(self.health_check, &mut settings.health_check);
        put(self.on_break, &mut settings.on_break);
        put(self.wait_for_retry_after, &mut settings.wait_for_retry_after);
        put(self.last_resort, &mut settings.last_resort);
    }
}

/// Rounds up to whole milliseconds, since only zero means off.
fn millis(duration: Duration, field: &str) -> Result<Millis, Status> {
    let time = from_pb::duration(duration, field)?;
    u64::try_from(time.as_nanos().div_ceil(1_000_000))
        .map(Millis)
        .map_err(|_| status::invalid(field, "is too long"))
}

/// Tells callers what is set.
pub(super) fn out(settings: &PolicySettings) -> pb::BalancingPolicy {
    let time = |value: Option<Millis>| value.map(|value| to_pb::duration(value.into()));
    let cooldowns = &settings.cooldowns;
    let strategy = match settings.strategy.as_deref().and_then(Strategy::from_name).unwrap_or_default() {
        Strategy::RoundRobin => pb::Strategy::RoundRobin,
        Strategy::WeightedRoundRobin => pb::Strategy::WeightedRoundRobin,
        Strategy::LeastConnections => pb::Strategy::LeastConnections,
    };
    let when_exhausted =
        if settings.wait_when_exhausted { pb::WhenExhausted::Wait } else { pb::WhenExhausted::Fail };
    pb::BalancingPolicy {
        strategy: strategy.into(),
        max_attempts: settings.max_attempts,
        attempt_timeout: time(settings.attempt_timeout),
        first_token_timeout: time(settings.first_token_timeout),
        stream_idle_timeout: time(settings.stream_idle_timeout),
        connect_timeout: time(settings.connect_timeout),
        total_timeout: time(settings.total_timeout),
        cooldowns: Some(pb::Cooldowns {
            rate_limited: time(cooldowns.rate_limited),
            quota_exhausted: time(cooldowns.quota_exhausted),
            authentication: time(cooldowns.authentication),
            connection: time(cooldowns.connection),
            timeout: time(cooldowns.timeout),
            server_error: time(cooldowns.server_error),
            model_unavailable: time(cooldowns.model_unavailable),
            max: time(cooldowns.max),
        }),
        when_exhausted: when_exhausted.into(),
        active_health_check: settings.health_check.map(|(interval, timeout)| pb::ActiveHealthCheck {
            interval: time(Some(interval)),
            timeout: time(Some(timeout)),
        }),
        on_break: to_pb::on_break(settings.on_break()),
        wait_for_retry_after: time(settings.wait_for_retry_after),
        last_resort: Some(settings.last_resort.unwrap_or(true)),
    }
}
