//! Policies and limits: stored, compiled into what serves, and held within their bounds.

use std::time::Duration;

use rota::{
    balance::{HealthCheck, Limits, OnBreak, Policy, Strategy, WhenExhausted},
    catalog::{ConfigFrom, Error, Millis, ModelKey, NewConfig, PolicySettings, ResourceKind},
};

use super::{Bed, KEY, OTHER_KEY, again, inherit, inline, violated};

#[tokio::test]
async fn a_policy_is_stored_and_compiled_and_counts_as_a_change_of_the_set() {
    let (bed, key) = Bed::with_model().await;
    assert_eq!(bed.catalog.pool(&key).unwrap().policy, Policy::default());
    let before = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap().revision;
    let (set, revision) = bed
        .writer()
        .update_policy(&key, |policy| {
            policy.strategy = Some(Strategy::LeastConnections.name().to_owned());
            policy.max_attempts = 3;
            policy.first_token_timeout = Some(Millis(1_500));
            policy.cooldowns.rate_limited = Some(Millis(2_000));
            policy.cooldowns.timeout = Some(Millis(0));
            policy.wait_when_exhausted = true;
            policy.health_check = Some((Millis(1_000), Millis(1)));
            policy.on_break = Some(OnBreak::Restart.name().to_owned());
            policy.wait_for_retry_after = Some(Millis(5_000));
            policy.last_resort = Some(false);
        })
        .await
        .unwrap();
    assert_eq!(revision, before + 1);
    // Another change leaves alone what it does not touch.
    let (set_again, revision_again) =
        bed.writer().update_policy(&key, |policy| policy.max_attempts = 4).await.unwrap();
    assert_eq!(
        (set_again.clone(), revision_again),
        (PolicySettings { max_attempts: 4, ..set }, revision + 1)
    );

    for catalog in [&bed.catalog, &bed.replica().await] {
        let pool = catalog.pool(&key).unwrap();
        let policy = &pool.policy;
        assert_eq!(pool.roster.strategy, Strategy::LeastConnections);
        assert_eq!((policy.max_attempts, policy.when_exhausted), (4, WhenExhausted::Wait));
        assert_eq!(policy.timeouts.first_token, Duration::from_millis(1_500));
        assert_eq!(policy.timeouts.attempt, Policy::default().timeouts.attempt, "absent: the default");
        assert_eq!(policy.cooldowns.rate_limited, Some(Duration::from_secs(2)));
        assert_eq!(policy.cooldowns.timeout, Some(Duration::ZERO), "off, which is not absent");
        assert_eq!(policy.cooldowns.connection, None);
        let check = HealthCheck { interval: Duration::from_secs(1), timeout: Duration::from_millis(1) };
        assert_eq!(policy.health_check, Some(check));
        assert_eq!((policy.on_break, policy.last_resort), (OnBreak::Restart, false));
        assert_eq!(policy.wait_for_retry_after, Some(Duration::from_secs(5)));
        let listed = catalog.configs(&key, ConfigFrom::Any).await.unwrap();
        assert_eq!((listed.policy, listed.revision), (set_again.clone(), revision_again));
        assert_eq!(catalog.get_model(&key).await.unwrap().policy, set_again);
    }
    // Saving a set keeps it.
    bed.save(&key, vec![inline("a", KEY)]).await.unwrap();
    assert_eq!(bed.catalog.get_model(&key).await.unwrap().policy, set_again);
}

#[tokio::test]
async fn a_policy_out_of_bounds_changes_nothing() {
    type Change = fn(&mut PolicySettings);
    const HOUR: u64 = 3600 * 1000;
    const DAY: u64 = 24 * HOUR;
    let (bed, key) = Bed::with_model().await;
    let before = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap().revision;
    let table: [(Change, &[&str]); 12] = [
        (|policy| policy.strategy = Some("fastest".to_owned()), &["strategy"]),
        (|policy| policy.attempt_timeout = Some(Millis(0)), &["attempt_timeout"]),
        (|policy| policy.first_token_timeout = Some(Millis(HOUR + 1)), &["first_token_timeout"]),
        (|policy| policy.connect_timeout = Some(Millis(60_001)), &["connect_timeout"]),
        (|policy| policy.stream_idle_timeout = Some(Millis(0)), &["stream_idle_timeout"]),
        (|policy| policy.cooldowns.max = Some(Millis(DAY + 1)), &["cooldowns.max"]),
        (|policy| policy.health_check = Some((Millis(999), Millis(1))), &["active_health_check.interval"]),
        (|policy| policy.health_check = Some((Millis(1_000), Millis(0))), &["active_health_check.timeout"]),
        (
            |policy| policy.health_check = Some((Millis(1_000), Millis(30_001))),
            &["active_health_check.timeout"],
        ),
        (|policy| policy.max_attempts = u32::MAX, &["max_attempts"]),
        (|policy| policy.wait_for_retry_after = Some(Millis(HOUR + 1)), &["wait_for_retry_after"]),
        (
            |policy| {
                policy.attempt_timeout = Some(Millis(0));
                policy.cooldowns.connection = Some(Millis(u64::MAX));
            },
            &["attempt_timeout", "cooldowns.connection"],
        ),
    ];
    for (change, fields) in table {
        let fields: Vec<String> = fields.iter().map(|field| format!("policy.{field}")).collect();
        assert_eq!(violated(bed.writer().update_policy(&key, change).await), fields);
    }
    assert_eq!(bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap().revision, before);
    let most = |policy: &mut PolicySettings| {
        policy.attempt_timeout = Some(Millis(HOUR));
        policy.cooldowns.rate_limited = Some(Millis(DAY));
    };
    bed.writer().update_policy(&key, most).await.unwrap();
    let missing = ModelKey { model: "other".to_owned(), ..key };
    let refused = bed.writer().update_policy(&missing, most).await;
    assert!(matches!(refused, Err(Error::NotFound(ResourceKind::Model, _))));
}

#[tokio::test]
async fn a_stored_time_that_is_longer_than_it_may_be_is_the_longest() {
    let (bed, key) = Bed::with_model().await;
    let earlier = r#"{"attempt_timeout":86400000,"connect_timeout":86400000,"health_check":[1000,86400000]}"#;
    assert_eq!(bed.sql().await.run(&format!("UPDATE models SET policy = '{earlier}'")).await, 1);
    let (settings, _) = bed.writer().update_policy(&key, |policy| policy.max_attempts = 3).await.unwrap();
    assert_eq!(settings.attempt_timeout, Some(Millis(3600 * 1000)));
    let policy = bed.catalog.pool(&key).unwrap().policy.clone();
    assert_eq!(policy.timeouts.connect, Some(Duration::from_secs(60)));
    let check = HealthCheck { interval: Duration::from_secs(1), timeout: Duration::from_secs(30) };
    assert_eq!(policy.health_check, Some(check));
}

#[tokio::test]
async fn limits_and_weights_reach_what_serves_within_their_bounds() {
    const MOST: u32 = 1_000_000_000;
    let (bed, key) = Bed::with_model().await;
    let limits = Limits { requests_per_minute: 3, tokens_per_minute: MOST, max_concurrency: 2 };
    let rows = vec![NewConfig { limits, weight: Some(10_000), ..inline("a", KEY) }, inline("b", OTHER_KEY)];
    let set = bed.save(&key, rows).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    for catalog in [&bed.catalog, &bed.replica().await] {
        let members = catalog.pool(&key).unwrap().roster.members.clone();
        assert_eq!((members[0].limits, members[0].weight), (limits, 10_000));
        assert_eq!((members[1].limits, members[1].weight), (Limits::default(), 1));
    }
    // They are no part of the member's record: changing them leaves its cooldown alone.
    let changed = NewConfig { limits: Limits::default(), weight: Some(2), ..again(&set.configs[0]) };
    let saved = bed.save(&key, vec![changed, again(&set.configs[1])]).await.unwrap();
    assert_eq!(saved.configs[0].member.key, set.configs[0].member.key);
    assert!(saved.configs[0].member.limits.is_none());

    let over =
        Limits { requests_per_minute: MOST + 1, tokens_per_minute: MOST + 1, max_concurrency: MOST + 1 };
    let of = |index: usize, field: &str| format!("configs[{index}].{field}");
    let refused = bed.save(
        &key,
        vec![
            inline("a", KEY),
            NewConfig { limits: over, weight: Some(10_001), ..inline("b", KEY) },
            NewConfig { limits, ..inherit(true) },
        ],
    );
    assert_eq!(
        violated(refused.await),
        [
            of(1, "weight"),
            of(1, "limits.requests_per_minute"),
            of(1, "limits.tokens_per_minute"),
            of(1, "limits.max_concurrency"),
            of(2, "limits"),
        ]
    );
}
