//! The provider's own words and its time, wherever they stand.

use std::time::{Duration, SystemTime};

use rota::{
    api::pb::DisableModelLoadBalancingRequest,
    scripted::{Raw, Script},
};
use serde_json::{Value, json};

use super::{RPCS, Rig, Rpc, answered};
use crate::support::kinds::OPENAI_COMPATIBLE;

const TEXT: &str = "the field `x` is not permitted";

// <https://github.com/dirac-run/dirac/issues/44>; the shapes of Together and Mistral, of vLLM and FastAPI, of LiteLLM's
// proxy, of Cloudflare, of xAI, of OpenRouter (<https://openrouter.ai/docs/api/reference/errors-and-debugging>).
#[tokio::test(flavor = "multi_thread")]
async fn the_providers_words_are_told_wherever_they_stand() {
    let inner = json!({"message": TEXT, "type": "invalid_request_error", "code": "json_data_error"});
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    for body in [
        json!({"error": {"message": TEXT, "type": "invalid_request_error"}}),
        json!({"error": {"message": inner, "type": "invalid_request_error"}}),
        json!({"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": TEXT}]}}),
        json!({"detail": {"error": TEXT}}),
        json!({"detail": [{"loc": ["body", "x"], "msg": TEXT}]}),
        json!({"detail": TEXT}),
        json!({"success": false, "errors": [{"code": 5006, "message": TEXT}]}),
        json!({"code": "invalid-argument", "error": TEXT}),
        json!({"message": TEXT}),
        json!([{"error": {"code": 422, "message": TEXT, "status": "INVALID_ARGUMENT"}}]),
        json!({"error": {"code": 422, "message": "Provider returned error", "metadata": {"raw": TEXT, "provider_name": "p"}}}),
        json!({"error": {"code": 422, "message": "Provider returned error",
            "metadata": {"raw": json!({"error": {"message": TEXT}}).to_string(), "provider_name": "p"}}}),
    ] {
        for rpc in RPCS {
            rig.now(&Script::Raw(Raw::json(&body).status(422)));
            let outcome = rig.call(rpc).await;
            assert_eq!(outcome.reason, "UPSTREAM_BAD_REQUEST", "{body}");
            assert!(outcome.words.contains(TEXT), "{body}: {}", outcome.words);
            assert!(outcome.attempts[0].message.contains(TEXT), "{body}");
        }
    }
}

/// A rate limit whose time stands there: the page, the headers, the body, the seconds.
type Limited = (&'static str, Vec<(&'static str, String)>, Value, u64);

fn times() -> Vec<Limited> {
    let none = || json!({"error": {"message": "slow down", "code": "rate_limit_exceeded"}});
    let says = |text: &str| json!({"error": {"message": text, "code": "rate_limit_exceeded"}});
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let header = |name: &'static str, value: &str| vec![(name, value.to_owned())];
    vec![
        ("https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3", header("retry-after", "40"), none(), 40),
        (
            "https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota",
            header("retry-after-ms", "40000"),
            none(),
            40,
        ),
        (
            "https://platform.openai.com/docs/guides/rate-limits",
            vec![
                ("x-ratelimit-remaining-requests", "0".into()),
                ("x-ratelimit-reset-requests", "6m0s".into()),
            ],
            none(),
            360,
        ),
        (
            "https://openrouter.ai/docs/api/reference/limits",
            vec![
                ("x-ratelimit-remaining", "0".into()),
                ("x-ratelimit-reset", ((now + 40) * 1000).to_string()),
            ],
            none(),
            40,
        ),
        (
            "https://openrouter.ai/docs/api/reference/limits",
            vec![],
            json!({"error": {"code": 429, "message": "slow down", "metadata": {"headers": {
                "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": ((now + 40) * 1000).to_string()}}}}),
            40,
        ),
        (
            "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-03",
            vec![("ratelimit-remaining", "0".into()), ("ratelimit-reset", "40".into())],
            none(),
            40,
        ),
        (
            "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers",
            header("ratelimit", "\"default\";r=0;t=40"),
            none(),
            40,
        ),
        (
            "https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto",
            vec![],
            json!({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED", "details": [
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38.5s"}]}}),
            38,
        ),
        (
            "https://platform.openai.com/docs/guides/rate-limits",
            vec![],
            says("Rate limit reached. Please try again in 20s."),
            20,
        ),
        (
            "https://console.groq.com/docs/rate-limits",
            vec![],
            says("Rate limit reached. Please try again in 1m40.5s. Need more?"),
            100,
        ),
        (
            "https://openrouter.ai/docs/api/reference/errors-and-debugging",
            vec![],
            json!({"error": {"code": 429,
            "message": "slow down", "metadata": {"retry_after_seconds": 40}}}),
            40,
        ),
    ]
}

// Where no untried config is left, RetryInfo carries the provider's own time.
#[tokio::test(flavor = "multi_thread")]
async fn the_providers_time_is_told_wherever_it_stands() {
    for (source, headers, body, seconds) in times() {
        let raw =
            headers.iter().fold(Raw::json(&body).status(429), |raw, (name, value)| raw.header(name, value));
        let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Whole, Script::Raw(raw)).await;
        assert_eq!(outcome.reason, "UPSTREAM_RATE_LIMITED", "{source}");
        let told = outcome.retry_after.unwrap_or_default();
        let expected = Duration::from_secs(seconds);
        assert!(
            (expected.saturating_sub(Duration::from_secs(3))..=expected + Duration::from_secs(1))
                .contains(&told),
            "{source} {headers:?} {body}: {told:?}"
        );
    }
}

// With balancing off too.
#[tokio::test(flavor = "multi_thread")]
async fn the_providers_time_is_told_with_balancing_off() {
    for rpc in RPCS {
        let mut rig = Rig::start(&OPENAI_COMPATIBLE).await;
        rig.scene.add_credential("only", "key-only").await;
        let request = DisableModelLoadBalancingRequest { key: Some(rig.scene.key.clone()) };
        rig.scene.clients.config.disable_model_load_balancing(request).await.unwrap();
        rig.upstream.script("key-only", Script::fail_for(429, "40"));
        let outcome = rig.call(rpc).await;
        assert_eq!((outcome.reason.as_str(), outcome.attempts.len()), ("UPSTREAM_RATE_LIMITED", 1));
        let told = outcome.retry_after.unwrap_or_default().as_secs();
        assert!((38..=40).contains(&told), "{rpc:?}: {told}");
    }
}
