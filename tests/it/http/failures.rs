//! Failures as over gRPC, through OpenAI's SDK.

use std::time::Duration;

use rota::{
    api::pb::{BalancingPolicy, ErrorClass, OnBreak},
    scripted::{Script, Upstream},
};
use serde_json::{Value, json};

use crate::support::{
    rota::Rota,
    sdk::{Sdk, calls, question, served_by},
    world::Scene,
};

fn time(duration: Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration::try_from(duration).unwrap())
}

async fn sdk() -> Sdk {
    Sdk::python("sdk_openai.py").await
}

/// Calls until the first config has been asked; every call must be served.
async fn until_the_first_is_asked(
    sdk: &mut Sdk,
    scene: &Scene,
    upstream: &Upstream,
    fields: &Value,
) -> Value {
    for _ in 0..8 {
        let answer = sdk.ask(&question(Rota::shared().await, scene, fields.clone()).await).await;
        if upstream.hits(&scene.keys[0]) > 0 {
            return answer;
        }
        assert!(served_by(scene, &answer).is_some(), "{answer}");
    }
    panic!("the first config has no turn")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_keys_fails_and_no_call_does() {
    let mut sdk = sdk().await;
    for stream in [false, true] {
        let upstream = Upstream::discreet().await.unwrap();
        let scene = Scene::set(Rota::shared().await, &upstream, 4).await;
        upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
        let mut served = [0; 4];
        for _ in 0..12 {
            let asked = question(Rota::shared().await, &scene, json!({"stream": stream})).await;
            let answer = sdk.ask(&asked).await;
            served[served_by(&scene, &answer).unwrap_or_else(|| panic!("{answer}"))] += 1;
        }
        assert_eq!(upstream.hits(&scene.keys[0]), 1);
        assert!(served[0] == 0 && served[1..].iter().all(|count| (3..=5).contains(count)), "{served:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_key_fails_once_and_the_call_is_served() {
    let mut sdk = sdk().await;
    for script in [Script::fail(500), Script::Close] {
        let upstream = Upstream::discreet().await.unwrap();
        let mut scene = Scene::tenant(Rota::shared().await).await;
        scene.add_model(&upstream.base_url()).await;
        scene.keys = vec![format!("key-{}", scene.tenant)];
        let key = scene.keys[0].clone();
        scene.add_credential("only", &key).await;
        upstream.script(&key, Script::sequence([script, Script::Answer]));
        let answer = sdk.ask(&question(Rota::shared().await, &scene, json!({"retries": 0})).await).await;
        assert_eq!(served_by(&scene, &answer), Some(0), "{answer}");
        assert_eq!(answer["headers"]["x-rota-attempts"], "2", "{answer}");
        assert_eq!(upstream.hits(&key), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_before_content_is_served_elsewhere() {
    let mut sdk = sdk().await;
    for script in [Script::BreakAfter(0), Script::EndAfter(0), Script::NotTheProtocol] {
        let upstream = Upstream::discreet().await.unwrap();
        let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
        upstream.script(&scene.keys[0], script);
        let asked = json!({"stream": true});
        let answer = until_the_first_is_asked(&mut sdk, &scene, &upstream, &asked).await;
        assert_eq!(served_by(&scene, &answer), Some(1), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_after_content_is_an_error_and_never_a_whole_answer() {
    let mut sdk = sdk().await;
    for script in [Script::BreakAfter(1), Script::EndAfter(1)] {
        let upstream = Upstream::discreet().await.unwrap();
        let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
        upstream.script(&scene.keys[0], script.clone());
        let asked = json!({"api": "chunks"});
        let answer = until_the_first_is_asked(&mut sdk, &scene, &upstream, &asked).await;
        assert_eq!(answer["pieces"], json!(["served "]), "{script:?}: {answer}");
        assert_eq!(answer["error"]["class"], "APIError", "{script:?}: {answer}");
        assert!(answer.get("finish").is_none(), "{answer}");
        let cooling = scene.configs_now().await;
        assert!(
            cooling[0].in_cooldown && cooling[0].cooldown_reason() == ErrorClass::Connection,
            "{cooling:?}"
        );
        // The next call is served.
        let answer = sdk.ask(&question(Rota::shared().await, &scene, asked).await).await;
        assert_eq!(served_by(&scene, &answer), Some(1), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_ends_in_time() {
    let mut sdk = sdk().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let policy =
        BalancingPolicy { stream_idle_timeout: time(Duration::from_secs(1)), ..BalancingPolicy::default() };
    scene.set_policy(policy).await;
    upstream.script(&scene.keys[0], Script::StallAfter(1));
    let answer = until_the_first_is_asked(&mut sdk, &scene, &upstream, &json!({"api": "chunks"})).await;
    assert_eq!(
        (&answer["pieces"], &answer["error"]["class"]),
        (&json!(["served "]), &json!("APIError")),
        "{answer}"
    );
    let took = answer["took"].as_f64().unwrap();
    assert!((0.9..8.0).contains(&took), "{answer}");
    assert!(scene.configs_now().await[0].in_cooldown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_token_that_takes_too_long_is_fetched_elsewhere() {
    let mut sdk = sdk().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let policy =
        BalancingPolicy { first_token_timeout: time(Duration::from_secs(1)), ..BalancingPolicy::default() };
    scene.set_policy(policy).await;
    upstream.script(&scene.keys[0], Script::Answer.after(Duration::from_secs(30)));
    let answer = until_the_first_is_asked(&mut sdk, &scene, &upstream, &json!({"stream": true})).await;
    assert_eq!(served_by(&scene, &answer), Some(1), "{answer}");
    assert!((0.9..10.0).contains(&answer["took"].as_f64().unwrap()), "{answer}");
}

/// Over HTTP nothing can be taken back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_never_begun_anew() {
    let mut sdk = sdk().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let policy = BalancingPolicy { on_break: OnBreak::Restart.into(), ..BalancingPolicy::default() };
    scene.set_policy(policy).await;
    upstream.script(&scene.keys[0], Script::BreakAfter(2));
    let answer = until_the_first_is_asked(&mut sdk, &scene, &upstream, &json!({"api": "chunks"})).await;
    assert_eq!(answer["pieces"], json!(["served ", "by "]), "{answer}");
    assert_eq!(answer["error"]["class"], "APIError", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_arrive_one_by_one() {
    let mut sdk = sdk().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let pause = Duration::from_millis(400);
    for key in &scene.keys {
        upstream.script(key, Script::Slow(pause));
    }
    let answer = sdk.ask(&question(Rota::shared().await, &scene, json!({"stream": true})).await).await;
    assert!(served_by(&scene, &answer).is_some(), "{answer}");
    let times: Vec<f64> =
        answer["times"].as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] > pause.as_secs_f64() / 2.0), "{times:?}");
    // Two more pauses follow: nothing is held back until the end.
    assert!(answer["took"].as_f64().unwrap() - times[2] > pause.as_secs_f64() / 2.0, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calls_own_headers_bound_it() {
    let mut sdk = sdk().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 3).await;
    for key in &scene.keys {
        upstream.script(key, Script::fail(503));
    }
    let asked = json!({"headers": {"x-rota-max-attempts": "1"}});
    let answer = sdk.ask(&question(Rota::shared().await, &scene, asked).await).await;
    assert_eq!((&answer["error"]["status"], calls(&scene, &upstream)), (&json!(503), 1), "{answer}");

    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::Hang);
    }
    let asked = json!({"headers": {"x-rota-timeout": "1s"}});
    let answer = sdk.ask(&question(Rota::shared().await, &scene, asked).await).await;
    assert_eq!(answer["error"]["status"], 504, "{answer}");
    assert!(answer["took"].as_f64().unwrap() < 10.0, "{answer}");
    let asked = json!({"headers": {"x-rota-timeout": "soon"}});
    let answer = sdk.ask(&question(Rota::shared().await, &scene, asked).await).await;
    assert_eq!(
        (&answer["error"]["status"], &answer["error"]["param"]),
        (&json!(400), &json!("x-rota-timeout")),
        "{answer}"
    );
}
