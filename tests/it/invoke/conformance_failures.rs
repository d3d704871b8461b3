//! Dify's cases of failing calls, by number: what the caller gets and who cools.

use std::time::Duration;

use rota::{
    api::pb::{Attempt, ErrorClass, LoadBalancingConfig},
    scripted::{Script, Upstream},
};
use tokio::time::Instant;
use tonic::{Code, Request};

use crate::support::{
    failure::{classes, error, retry_after, route, span, told},
    on_both_states,
    process::free_port,
    rota::Rota,
    world::{Scene, config},
};

on_both_states!(
    case_10_all_cooling_before_the_first_attempt_says_until_when,
    case_11_one_call_with_the_credentials_of_the_turn,
    case_12_a_rate_limit_cools_60_s_and_moves_on,
    case_13_a_refused_key_cools_10_s_and_moves_on,
    case_14_a_refused_connection_cools_10_s_and_moves_on,
    case_15_an_overloaded_provider_cools_briefly_and_moves_on,
    case_16_a_bad_request_is_told_and_cools_nobody,
    case_17_a_broken_connection_and_a_timeout_move_on,
    case_18_both_fail_and_the_last_error_is_told_with_every_attempt,
    case_19_while_all_cool_no_call_is_made,
    case_22_a_retry_after_is_honoured_and_bounded,
    case_24_slow_failures_are_tried_once_each_and_bounded_by_the_deadline,
    case_25_three_fast_failures_are_three_attempts,
);

const SERVED: ErrorClass = ErrorClass::Unspecified;

/// Two configs, the first of which does this.
async fn first_does(rota: &Rota, script: Script) -> (Upstream, Scene) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    upstream.script(&scene.keys[0], script);
    (upstream, scene)
}

/// One call, which the second config serves. What was tried.
async fn second_serves(scene: &Scene) -> Vec<Attempt> {
    let reply = scene.ask().await.unwrap();
    assert_eq!(reply.message.unwrap().content, format!("served by {}", scene.keys[1]));
    reply.route.unwrap().attempts
}

/// Why the config at `index` cools and how many seconds are left, rounded up.
async fn cooling(scene: &Scene, index: usize) -> Option<(ErrorClass, u64)> {
    let configs = scene.configs_now().await;
    let config = configs.iter().find(|config| config.id == scene.configs[index].id).unwrap();
    config.in_cooldown.then(|| (config.cooldown_reason(), span(config.ttl).as_secs_f64().ceil() as u64))
}

/// Fails unless the config at `index` cools for that class's default, jittered by up to a tenth.
async fn cools(scene: &Scene, index: usize, class: ErrorClass, seconds: u64) {
    let (reason, left) = cooling(scene, index).await.expect("it does not cool");
    assert_eq!(reason, class);
    // A busy machine may take a second until it asks.
    assert!((seconds - 1..=seconds + seconds / 10).contains(&left), "{left} s left of {seconds} s");
}

async fn case_10_all_cooling_before_the_first_attempt_says_until_when(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    // The keys die in another model: this one is called for the first time.
    let dying = scene.clone();
    let other = crate::balance::conformance::other_model(&mut scene, "other").await;
    for key in &dying.keys {
        upstream.script(key, Script::fail(401));
    }
    dying.ask().await.unwrap_err();
    let refused = other.ask().await.unwrap_err();
    assert_eq!(told(&refused), error(Code::Unavailable, "ALL_CONFIGS_COOLING_DOWN"));
    let left = retry_after(&refused);
    assert!(left > Duration::from_secs(8) && left <= Duration::from_secs(11), "{left:?}");
    assert_eq!(scene.hits(&upstream), [1, 1]);
}

async fn case_11_one_call_with_the_credentials_of_the_turn(rota: &Rota) {
    let (upstream, scene) = first_does(rota, Script::Answer).await;
    let reply = scene.ask().await.unwrap();
    assert_eq!(reply.message.unwrap().content, format!("served by {}", scene.keys[0]));
    assert_eq!(classes(&reply.route.unwrap().attempts), [SERVED]);
    assert_eq!(scene.hits(&upstream), [1, 0]);
}

async fn case_12_a_rate_limit_cools_60_s_and_moves_on(rota: &Rota) {
    let (_upstream, scene) = first_does(rota, Script::fail(429)).await;
    assert_eq!(classes(&second_serves(&scene).await), [ErrorClass::RateLimited, SERVED]);
    cools(&scene, 0, ErrorClass::RateLimited, 60).await;
    assert_eq!(cooling(&scene, 1).await, None);
}

async fn case_13_a_refused_key_cools_10_s_and_moves_on(rota: &Rota) {
    let (_upstream, scene) = first_does(rota, Script::fail(401)).await;
    assert_eq!(classes(&second_serves(&scene).await), [ErrorClass::Authentication, SERVED]);
    cools(&scene, 0, ErrorClass::Authentication, 10).await;
}

async fn case_14_a_refused_connection_cools_10_s_and_moves_on(rota: &Rota) {
    let (_upstream, mut scene) = first_does(rota, Script::Answer).await;
    let nobody = format!("http://127.0.0.1:{}/v1", free_port());
    let first = LoadBalancingConfig { base_url: nobody, ..config("nobody", &scene.keys[0]) };
    let second = config("somebody", &scene.keys[1]);
    scene.put_configs(vec![first, second]).await;
    assert_eq!(classes(&second_serves(&scene).await), [ErrorClass::Connection, SERVED]);
    cools(&scene, 0, ErrorClass::Connection, 10).await;
}

async fn case_15_an_overloaded_provider_cools_briefly_and_moves_on(rota: &Rota) {
    let (_upstream, scene) = first_does(rota, Script::fail(503)).await;
    assert_eq!(classes(&second_serves(&scene).await), [ErrorClass::ServerError, SERVED]);
    cools(&scene, 0, ErrorClass::ServerError, 10).await;
}

async fn case_16_a_bad_request_is_told_and_cools_nobody(rota: &Rota) {
    let (upstream, scene) = first_does(rota, Script::fail(400)).await;
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"));
    assert_eq!(scene.hits(&upstream), [1, 0]);
    assert_eq!((cooling(&scene, 0).await, cooling(&scene, 1).await), (None, None));
}

async fn case_17_a_broken_connection_and_a_timeout_move_on(rota: &Rota) {
    for (script, class) in [(Script::Close, ErrorClass::Connection), (Script::fail(504), ErrorClass::Timeout)]
    {
        let (_upstream, scene) = first_does(rota, script).await;
        assert_eq!(classes(&second_serves(&scene).await), [class, SERVED]);
        cools(&scene, 0, class, 10).await;
    }
}

async fn case_18_both_fail_and_the_last_error_is_told_with_every_attempt(rota: &Rota) {
    let (upstream, scene) = first_does(rota, Script::fail(429)).await;
    upstream.script(&scene.keys[1], Script::fail(401));
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::FailedPrecondition, "UPSTREAM_AUTHENTICATION"));
    let attempts = route(&failed).attempts;
    assert_eq!(classes(&attempts), [ErrorClass::RateLimited, ErrorClass::Authentication]);
    let tried: Vec<_> = attempts.iter().map(|attempt| attempt.config_name.as_str()).collect();
    assert_eq!(tried, ["config-0", "config-1"]);
    cools(&scene, 0, ErrorClass::RateLimited, 60).await;
    cools(&scene, 1, ErrorClass::Authentication, 10).await;
}

async fn case_19_while_all_cool_no_call_is_made(rota: &Rota) {
    let (upstream, scene) = first_does(rota, Script::fail(429)).await;
    upstream.script(&scene.keys[1], Script::fail_for(429, "20"));
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"));
    let refused = scene.ask().await.unwrap_err();
    assert_eq!(told(&refused), error(Code::ResourceExhausted, "ALL_CONFIGS_COOLING_DOWN"));
    let left = retry_after(&refused);
    assert!(
        left > Duration::from_secs(18) && left <= Duration::from_secs(20),
        "the sooner of both: {left:?}"
    );
    assert_eq!(scene.hits(&upstream), [1, 1]);
}

async fn case_22_a_retry_after_is_honoured_and_bounded(rota: &Rota) {
    for (asked, given) in [("5", 5), ("300", 300), ("86400", 3600)] {
        let (_upstream, scene) = first_does(rota, Script::fail_for(429, asked)).await;
        second_serves(&scene).await;
        let (_, left) = cooling(&scene, 0).await.unwrap();
        assert!((given - 1..=given).contains(&left), "{left} s left after Retry-After {asked}");
    }
}

async fn case_24_slow_failures_are_tried_once_each_and_bounded_by_the_deadline(rota: &Rota) {
    const SLOW: Duration = Duration::from_secs(2);
    let (upstream, scene) = first_does(rota, Script::Close.after(SLOW)).await;
    upstream.script(&scene.keys[1], Script::Close.after(SLOW));
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
    assert_eq!(classes(&route(&failed).attempts), [ErrorClass::Connection; 2]);
    assert_eq!(scene.hits(&upstream), [1, 1]);

    let (upstream, scene) = first_does(rota, Script::Close.after(SLOW)).await;
    upstream.script(&scene.keys[1], Script::Close.after(SLOW));
    let mut request = Request::new(scene.request());
    let deadline = SLOW + SLOW / 2;
    request.set_timeout(deadline);
    let began = Instant::now();
    let failed = scene.clients.invoke.clone().invoke_llm(request).await.unwrap_err();
    assert!(began.elapsed() < deadline, "{:?}", began.elapsed());
    assert_eq!(told(&failed), error(Code::DeadlineExceeded, "UPSTREAM_TIMEOUT"));
    assert_eq!(classes(&route(&failed).attempts), [ErrorClass::Connection, ErrorClass::Timeout]);
    assert_eq!(scene.hits(&upstream), [1, 1]);
}

async fn case_25_three_fast_failures_are_three_attempts(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 3).await;
    for (key, status) in scene.keys.iter().zip([429, 401, 503]) {
        upstream.script(key, Script::fail(status));
    }
    let failed = scene.ask().await.unwrap_err();
    assert_eq!(told(&failed), error(Code::Unavailable, "UPSTREAM_SERVER_ERROR"));
    let expected = [ErrorClass::RateLimited, ErrorClass::Authentication, ErrorClass::ServerError];
    assert_eq!(classes(&route(&failed).attempts), expected);
    assert_eq!(scene.hits(&upstream), [1, 1, 1]);
}
