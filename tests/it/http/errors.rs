//! Every class of failure, as each SDK raises it. The SDKs retry by themselves; Rota's attempts are all that arrive.

use std::time::Duration;

use rota::{
    api::pb::BalancingPolicy,
    scripted::{Script, Upstream},
};
use serde_json::{Value, json};

use crate::support::{
    http::{Http, told},
    rota::Rota,
    sdk::{Sdk, calls, question},
    world::Scene,
};

/// A class of failure, and what it is over HTTP.
struct Class {
    name: &'static str,
    script: fn() -> Script,
    status: u16,
    openai: &'static str,
    anthropic: &'static str,
    gemini: &'static str,
    /// Its attempts, where each of two configs fails so.
    attempts: u64,
}

fn refused(code: &str) -> Script {
    Script::fail_with(400, &json!({"message": "no", "type": "invalid_request_error", "code": code}))
}

/// The classes are those of the SDKs' own sources: `_make_status_error` in `openai/_client.py` and `anthropic/_client.py`,
/// `APIError.raise_for_response` in `google/genai/errors.py`.
fn classes() -> Vec<Class> {
    let class = |name, script, status, openai, anthropic, attempts| {
        let gemini = if status < 500 { "ClientError" } else { "ServerError" };
        Class { name, script, status, openai, anthropic, gemini, attempts }
    };
    vec![
        class(
            "UPSTREAM_RATE_LIMITED",
            || Script::fail_for(429, "40"),
            429,
            "RateLimitError",
            "RateLimitError",
            2,
        ),
        class("UPSTREAM_QUOTA_EXHAUSTED", || Script::fail(402), 429, "RateLimitError", "RateLimitError", 2),
        class(
            "UPSTREAM_AUTHENTICATION",
            || Script::fail(401),
            401,
            "AuthenticationError",
            "AuthenticationError",
            2,
        ),
        class("UPSTREAM_CONNECTION", || Script::Close, 502, "InternalServerError", "InternalServerError", 2),
        class("UPSTREAM_TIMEOUT", || Script::Hang, 504, "InternalServerError", "GatewayTimeoutError", 2),
        class(
            "UPSTREAM_SERVER_ERROR",
            || Script::fail(500),
            500,
            "InternalServerError",
            "InternalServerError",
            2,
        ),
        class("UPSTREAM_MODEL_UNAVAILABLE", || Script::fail(404), 404, "NotFoundError", "NotFoundError", 2),
        class("UPSTREAM_BAD_REQUEST", || Script::fail(400), 400, "BadRequestError", "BadRequestError", 1),
        class(
            "UPSTREAM_CONTENT_FILTERED",
            || refused("content_policy_violation"),
            400,
            "BadRequestError",
            "BadRequestError",
            1,
        ),
        class(
            "UPSTREAM_CONTEXT_TOO_LONG",
            || refused("context_length_exceeded"),
            400,
            "BadRequestError",
            "BadRequestError",
            1,
        ),
    ]
}

/// A scene of two configs, each of which fails so.
async fn failing(rota: &Rota, class: &Class) -> (Upstream, Scene) {
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let soon = prost_types::Duration::try_from(Duration::from_millis(500)).unwrap();
    let policy = BalancingPolicy {
        attempt_timeout: Some(soon),
        first_token_timeout: Some(soon),
        // What hangs is asked once each.
        max_attempts: 2,
        ..BalancingPolicy::default()
    };
    scene.set_policy(policy).await;
    for key in &scene.keys {
        upstream.script(key, (class.script)());
    }
    (upstream, scene)
}

/// Fails so through one SDK, with the retries that it makes by default, whole and streamed.
async fn raises(sdk: &mut Sdk, api: &str, own: fn(&Class) -> &'static str) {
    let rota = Rota::shared().await;
    for class in classes() {
        for stream in [false, true] {
            let (upstream, scene) = failing(rota, &class).await;
            let asked = question(rota, &scene, json!({"api": api, "stream": stream})).await;
            let answer = sdk.ask(&asked).await;
            let error = &answer["error"];
            let shown = format!("{} by {api}, stream {stream}: {answer}", class.name);
            assert_eq!(
                (&error["class"], &error["status"]),
                (&json!(own(&class)), &json!(class.status)),
                "{shown}"
            );
            assert_eq!(calls(&scene, &upstream), class.attempts, "{shown}");
            let text = error["message"].as_str().unwrap();
            assert!(scene.keys.iter().all(|key| !answer.to_string().contains(key)), "{shown}");
            assert!(!text.is_empty(), "{shown}");
            // Google's SDK does not show the headers.
            if let Some(headers) = error["headers"].as_object().filter(|headers| !headers.is_empty()) {
                assert_eq!(headers["x-should-retry"], "false", "{shown}");
                assert_eq!(headers["x-rota-attempts"], class.attempts.to_string(), "{shown}");
                assert!(headers.contains_key("x-request-id"), "{shown}");
                let waits = matches!(class.name, "UPSTREAM_RATE_LIMITED");
                assert!(headers.contains_key("retry-after") || !waits, "{shown}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_sdk_raises_its_own_class_and_adds_no_call() {
    let mut sdk = Sdk::python("sdk_openai.py").await;
    for api in ["chat", "responses"] {
        raises(&mut sdk, api, |class| class.openai).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropics_sdk_raises_its_own_class_and_adds_no_call() {
    raises(&mut Sdk::python("sdk_anthropic.py").await, "chat", |class| class.anthropic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn googles_sdk_raises_its_own_class_and_adds_no_call() {
    raises(&mut Sdk::python("sdk_gemini.py").await, "chat", |class| class.gemini).await;
}

/// What OpenAI's clients look for by its code.
#[tokio::test(flavor = "multi_thread")]
async fn codes_and_fields_are_those_that_clients_look_for() {
    let rota = Rota::shared().await;
    let mut sdk = Sdk::python("sdk_openai.py").await;
    for (name, code) in [
        ("UPSTREAM_RATE_LIMITED", "rate_limit_exceeded"),
        ("UPSTREAM_QUOTA_EXHAUSTED", "insufficient_quota"),
        ("UPSTREAM_CONTEXT_TOO_LONG", "context_length_exceeded"),
    ] {
        let class = classes().into_iter().find(|class| class.name == name).unwrap();
        let (_upstream, scene) = failing(rota, &class).await;
        let answer = sdk.ask(&question(rota, &scene, json!({"retries": 0})).await).await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let asked = question(rota, &scene, json!({"model": "nobody/knows", "retries": 0})).await;
    let answer = sdk.ask(&asked).await;
    assert_eq!(
        (&answer["error"]["class"], &answer["error"]["code"]),
        (&json!("NotFoundError"), &json!("model_not_found"))
    );
    let asked = question(rota, &scene, json!({"token": "rota_wrong", "retries": 0})).await;
    let answer = sdk.ask(&asked).await;
    assert_eq!(
        (&answer["error"]["class"], &answer["error"]["code"]),
        (&json!("AuthenticationError"), &json!("invalid_api_key"))
    );
    assert_eq!(upstream.total_hits(), 0);
}

/// One failure in the middle of each protocol's stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_content_comes_in_band() {
    let rota = Rota::shared().await;
    for (program, api, class) in [
        ("sdk_openai.py", "chunks", "APIError"),
        // Its error is an event, and what is raised is that the end is missing.
        ("sdk_openai.py", "responses", "RuntimeError"),
        ("sdk_anthropic.py", "chat", "APIStatusError"),
        ("sdk_gemini.py", "chat", "ServerError"),
    ] {
        let mut sdk = Sdk::python(program).await;
        for script in [Script::BreakAfter(2), Script::EndAfter(2)] {
            let upstream = Upstream::discreet().await.unwrap();
            let scene = Scene::set(rota, &upstream, 2).await;
            for key in &scene.keys {
                upstream.script(key, script.clone());
            }
            let answer = sdk.ask(&question(rota, &scene, json!({"api": api, "stream": true})).await).await;
            let shown = format!("{program} {api} {script:?}: {answer}");
            assert_eq!(answer["pieces"], json!(["served ", "by "]), "{shown}");
            let raised = answer["error"]["class"].as_str().unwrap_or_default();
            let told = answer["failed"].is_string() || api != "responses";
            assert!(
                told && (raised == class || raised.ends_with("ServerError")) || raised == "APIError",
                "{shown}"
            );
            assert_eq!(calls(&scene, &upstream), 1, "{shown}");
        }
    }
}

/// What is refused before anything is tried, in each protocol's own form.
#[tokio::test(flavor = "multi_thread")]
async fn each_protocol_has_its_own_form() {
    let rota = Rota::shared().await;
    let http = Http::of(rota).await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    for (protocol, path, kinds) in [
        ("openai", "/v1/chat/completions", ["invalid_request_error", "invalid_request_error"]),
        ("anthropic", "/v1/messages", ["invalid_request_error", "not_found_error"]),
        ("gemini", "/v1beta/models/nobody:generateContent", ["INVALID_ARGUMENT", "NOT_FOUND"]),
    ] {
        for (body, status, kind) in [
            ("{", 400, kinds[0]),
            (
                r#"{"model":"nobody","max_tokens":1,"messages":[{"role":"user","content":"hi"}],"contents":[{"parts":[{"text":"hi"}]}]}"#,
                404,
                kinds[1],
            ),
        ] {
            let answer = http.post(&scene.token, path, body).await;
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["x-should-retry"]),
                (status, &"false".parse().unwrap())
            );
            let (own, message) = told(protocol, &answer.json::<Value>().await.unwrap());
            assert_eq!(own, kind, "{path}: {message}");
        }
    }
    assert_eq!(upstream.total_hits(), 0);
}

/// What another replica can serve, SDKs try again.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_drains_says_that_another_can_serve() {
    let mut rota = Rota::builder().arg("--drain-delay").arg("3s").start().await;
    let http = Http::of(&rota).await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::Slow(Duration::from_millis(300)));
    }
    let body =
        json!({"model": "upstream/chat", "messages": [{"role": "user", "content": "hi"}], "stream": true})
            .to_string();
    let running = http.post(&scene.token, "/v1/chat/completions", body.clone()).await;
    rota.sigterm();
    let refused = crate::support::eventually(Duration::from_secs(10), async || {
        let request =
            http.client.post(format!("{}/v1/chat/completions", http.origin)).bearer_auth(&scene.token);
        match request.header("content-type", "application/json").body(body.clone()).send().await {
            Ok(answer) if answer.status() == 503 => Ok(Some(answer)),
            Ok(answer) => Err(format!("{}", answer.status())),
            // It listens no more.
            Err(_) => Ok(None),
        }
    })
    .await;
    if let Some(answer) = refused {
        assert_eq!(answer.headers()["x-should-retry"], "true");
        assert!(answer.headers().contains_key("retry-after"));
    }
    assert!(running.text().await.unwrap().ends_with("data: [DONE]\n\n"), "a running stream is cut");
    rota.wait_exit(Duration::from_secs(20)).await;
}
