//! Errors under status 200: in whatever form, before content the call moves on, and after it the answer is no whole
//! one.

use std::slice;

use rota::{
    api::pb::ErrorClass,
    scripted::{ErrorForm, Framing, Raw, Script},
};
use serde_json::{Value, json};

use super::{DONE, RPCS, Rig, Rpc, answered, chunk, chunks, completion, end, whole};
use crate::support::kinds::{ANTHROPIC, COHERE, GEMINI, Kind, OPENAI_COMPATIBLE};

/// The forms in which each vendor's error is told from what else may stand in a stream.
const FORMS: &[(&Kind, &[ErrorForm])] = &[
    (&OPENAI_COMPATIBLE, &ErrorForm::ALL),
    (&ANTHROPIC, &ErrorForm::ALL),
    (&GEMINI, &ErrorForm::ALL),
    // Its errors outside of frames are objects with a message, as much else is.
    (&COHERE, &[ErrorForm::Field, ErrorForm::Named]),
];

// <https://github.com/ggml-org/llama.cpp/issues/16109>, <https://github.com/maximhq/bifrost/issues/5262>,
// <https://github.com/nashsu/llm_wiki/issues/628>, <https://docs.claude.com/en/api/messages-streaming#error-events>.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_any_form_before_content_moves_on() {
    for (kind, forms) in FORMS {
        for form in *forms {
            let rig = Rig::first(kind, Script::ErrorAs(*form, 0, (kind.limited)())).await;
            let outcome = rig.call(Rpc::Stream).await;
            assert_eq!(outcome.text(), format!("served by {}", rig.scene.keys[1]), "{} {form:?}", kind.name);
            assert_eq!(outcome.classes(), [ErrorClass::RateLimited, ErrorClass::Unspecified], "{form:?}");
            assert_eq!(rig.cooling().await, ["config-0"], "{} {form:?}", kind.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_any_form_after_content_is_no_whole_answer() {
    for (kind, forms) in FORMS {
        for form in *forms {
            let script = Script::ErrorAs(*form, 1, (kind.limited)());
            let outcome = answered(kind, Rpc::Stream, script).await;
            assert_eq!(outcome.reason, "UPSTREAM_RATE_LIMITED", "{} {form:?}", kind.name);
            assert_eq!(outcome.message().content, "served ", "{} {form:?}", kind.name);
            assert_eq!(outcome.attempts.len(), 1, "{} {form:?}", kind.name);
        }
    }
}

/// An error that some server sends under status 200 in place of an answer: the page or the report, the body, its class
/// and its words.
type Reported = (&'static str, Value, ErrorClass, &'static str);

fn reported() -> Vec<Reported> {
    let flat = |kind: &str, code: u16, text: &str| json!({"object": "error", "message": text, "type": kind, "param": null, "code": code});
    let minimax = |code: u16, text: &str| json!({"base_resp": {"status_code": code, "status_msg": text}});
    vec![
        (
            "https://docs.vllm.ai/en/latest/serving/openai_compatible_server/",
            flat("InternalServerError", 500, "engine died"),
            ErrorClass::ServerError,
            "engine died",
        ),
        (
            "https://github.com/sgl-project/sglang/issues/12081",
            json!({"error": flat("BadRequestError", 400, "The field x is wrong")}),
            ErrorClass::BadRequest,
            "The field x is wrong",
        ),
        (
            "https://platform.minimax.io/docs/api-reference/errorcode",
            minimax(1004, "login fail"),
            ErrorClass::Authentication,
            "login fail",
        ),
        (
            "https://platform.minimax.io/docs/api-reference/errorcode",
            minimax(1008, "insufficient balance"),
            ErrorClass::QuotaExhausted,
            "insufficient balance",
        ),
        (
            "https://platform.minimax.io/docs/api-reference/errorcode",
            minimax(1002, "rate limit"),
            ErrorClass::RateLimited,
            "rate limit",
        ),
        (
            "https://openrouter.ai/docs/api/reference/errors-and-debugging",
            json!({"error": {"code": 429, "message": "slow down"}, "choices": []}),
            ErrorClass::RateLimited,
            "slow down",
        ),
        (
            "https://openrouter.ai/docs/api/reference/errors-and-debugging",
            json!({"choices": [{"index": 0, "finish_reason": "error", "delta": {"content": ""}, "message": {"content": ""}}]}),
            ErrorClass::ServerError,
            "because of an error",
        ),
        (
            "https://openrouter.ai/docs/api/reference/errors-and-debugging",
            json!({"choices": [{"index": 0, "finish_reason": null, "delta": {}, "message": {"content": ""},
                "error": {"code": 502, "message": "Upstream error"}}]}),
            ErrorClass::ServerError,
            "Upstream error",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_place_of_an_answer_has_its_class_and_its_words() {
    for (source, body, class, words) in reported() {
        for rpc in RPCS {
            let script = if rpc == Rpc::Whole { whole(&body) } else { chunks(slice::from_ref(&body)) };
            let outcome = answered(&OPENAI_COMPATIBLE, rpc, script).await;
            // The caller's fault ends the call. A 500 is tried again where nobody else is left.
            let (moves_on, classes) = (class != ErrorClass::BadRequest, outcome.classes());
            assert!(classes.iter().all(|own| *own == class), "{source} {rpc:?}: {classes:?}");
            assert_eq!(classes.len() > 1, moves_on, "{source} {rpc:?}: {classes:?}");
            assert!(outcome.words.contains(words), "{source} {rpc:?}: {}", outcome.words);
        }
    }
}

// <https://github.com/sgl-project/sglang/issues/12081>, <https://github.com/ggml-org/llama.cpp/issues/14566>.
#[tokio::test(flavor = "multi_thread")]
async fn too_long_a_prompt_under_200_is_the_callers_fault() {
    let text = "The input (70000 tokens) is longer than the model's context length (32768 tokens).";
    let error = json!({"error": {"object": "error", "message": text, "type": "BadRequestError", "param": null, "code": 400}});
    let field = "error: {\"code\":400,\"message\":\"the request exceeds the available context size\",\
                 \"type\":\"exceed_context_size_error\"}\n\n";
    for script in [chunks(&[error]), Script::Raw(Raw::stream(field).then(DONE))] {
        let rig = Rig::both(&OPENAI_COMPATIBLE, script).await;
        let outcome = rig.call(Rpc::Stream).await;
        assert_eq!(outcome.reason, "UPSTREAM_CONTEXT_TOO_LONG");
        assert!(outcome.words.contains("context"), "{}", outcome.words);
        assert_eq!((outcome.attempts.len(), rig.cooling().await), (1, Vec::new()));
    }
}

// A time in the middle of a stream is told too: <https://github.com/maximhq/bifrost/issues/5262>.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_ends_in_the_middle_has_its_time() {
    let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "33s"}]);
    let quota = json!({"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED", "details": details});
    let script = Script::ErrorAs(ErrorForm::Bare, 1, quota.clone());
    let outcome = answered(&GEMINI, Rpc::Stream, script).await;
    assert_eq!(outcome.reason, "UPSTREAM_RATE_LIMITED");
    assert_eq!(outcome.retry_after.map(|time| time.as_secs()), Some(33));
    // As an array, which is how the API answers where nobody asks for events.
    for rpc in RPCS {
        let array = Raw::new("application/json", format!("[{{\"error\":{quota}}}]\n"));
        let rig = Rig::first(&GEMINI, Script::Raw(array)).await;
        assert_eq!(
            rig.call(rpc).await.classes(),
            [ErrorClass::RateLimited, ErrorClass::Unspecified],
            "{rpc:?}"
        );
    }
}

// <https://docs.claude.com/en/api/errors>: 529 within a stream has only its type.
#[tokio::test(flavor = "multi_thread")]
async fn anthropics_error_event_is_classified_by_its_type() {
    for (kind, class) in [
        ("overloaded_error", ErrorClass::ServerError),
        ("api_error", ErrorClass::ServerError),
        ("rate_limit_error", ErrorClass::RateLimited),
        ("authentication_error", ErrorClass::Authentication),
        ("billing_error", ErrorClass::QuotaExhausted),
    ] {
        let error = json!({"type": kind, "message": "Overloaded"});
        let rig = Rig::first(&ANTHROPIC, Script::ErrorAfter(0, error)).await;
        assert_eq!(rig.call(Rpc::Stream).await.classes(), [class, ErrorClass::Unspecified], "{kind}");
    }
}

/// A generation of Gemini's that came to nothing.
fn candidate(finish: &str, parts: Value) -> Value {
    json!({
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}, "responseId": "r",
    })
}

// <https://ai.google.dev/api/generate-content#FinishReason>.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_came_to_nothing_is_no_empty_success() {
    for (finish, reason) in [
        ("MALFORMED_FUNCTION_CALL", "UPSTREAM_SERVER_ERROR"),
        ("UNEXPECTED_TOOL_CALL", "UPSTREAM_SERVER_ERROR"),
        ("SAFETY", "UPSTREAM_CONTENT_FILTERED"),
        ("PROHIBITED_CONTENT", "UPSTREAM_CONTENT_FILTERED"),
        ("RECITATION", "UPSTREAM_CONTENT_FILTERED"),
        ("STOP", "UPSTREAM_SERVER_ERROR"),
    ] {
        for rpc in RPCS {
            let body = candidate(finish, json!([]));
            let raw = if rpc == Rpc::Whole { Raw::json(&body) } else { Raw::events([&body]) };
            let outcome = answered(&GEMINI, rpc, Script::Raw(raw)).await;
            assert_eq!(outcome.reason, reason, "{finish} {rpc:?}: {}", outcome.words);
        }
    }
}

// <https://ai.google.dev/api/generate-content#PromptFeedback>,
// <https://cloud.google.com/security-command-center/docs/model-armor-vertex-integration>.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_prompt_is_told_and_cools_nobody() {
    for reason in ["SAFETY", "PROHIBITED_CONTENT", "MODEL_ARMOR"] {
        let body =
            json!({"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 3}});
        for rpc in RPCS {
            let raw = if rpc == Rpc::Whole { Raw::json(&body) } else { Raw::events([&body]) };
            let rig = Rig::both(&GEMINI, Script::Raw(raw)).await;
            let outcome = rig.call(rpc).await;
            let told = (outcome.reason.as_str(), outcome.attempts.len(), rig.cooling().await);
            assert_eq!(told, ("UPSTREAM_CONTENT_FILTERED", 1, Vec::new()), "{reason} {rpc:?}");
        }
    }
}

// A paid answer that says nothing is asked for once more, and no oftener.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_billed_and_says_nothing_is_asked_for_once_more() {
    let body = candidate("STOP", json!([]));
    for rpc in RPCS {
        let raw = if rpc == Rpc::Whole { Raw::json(&body) } else { Raw::events([&body]) };
        let mut scene = Rig::both(&GEMINI, Script::Raw(raw.clone())).await;
        scene.scene.add_configs(4).await;
        for key in &scene.scene.keys {
            scene.upstream.script(key, Script::Raw(raw.clone()));
        }
        assert_eq!(scene.call(rpc).await.attempts.len(), 2, "{rpc:?}");
    }
}

// <https://github.com/BerriAI/litellm/issues/18407>, <https://github.com/BerriAI/litellm/issues/18493>.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_with_nothing_in_it_is_none() {
    for kind in [&OPENAI_COMPATIBLE, &ANTHROPIC, &GEMINI, &COHERE] {
        let rig = Rig::both(kind, Script::Framed(Framing::EmptyErrors)).await;
        for rpc in RPCS {
            let outcome = rig.call(rpc).await;
            assert!(outcome.text().starts_with("served by key-"), "{} {rpc:?}", kind.name);
            assert_eq!((outcome.attempts.len(), rig.cooling().await), (1, Vec::new()));
        }
    }
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    for empty in [json!(""), json!({}), json!(null), json!(false), json!([])] {
        for rpc in RPCS {
            let mut good = if rpc == Rpc::Whole {
                completion(json!({"role": "assistant", "content": "good"}))
            } else {
                chunk(json!({"content": "good"}))
            };
            good["error"] = empty.clone();
            rig.now(&if rpc == Rpc::Whole { whole(&good) } else { chunks(&[good, end("stop")]) });
            let outcome = rig.call(rpc).await;
            assert_eq!((outcome.text().as_str(), outcome.attempts.len()), ("good", 1), "{empty} {rpc:?}");
        }
    }
}

// The text of an answer is never read as an error, whatever it says.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_an_error_is_an_answer() {
    let text = "{\"error\":{\"message\":\"invalid_api_key\",\"code\":401}}\nerror: {\"code\":429}";
    for rpc in RPCS {
        let script = match rpc {
            Rpc::Whole => whole(&completion(json!({"role": "assistant", "content": text}))),
            Rpc::Stream => chunks(&[chunk(json!({"content": text})), end("stop")]),
        };
        assert_eq!(answered(&OPENAI_COMPATIBLE, rpc, script).await.said(), (text.into(), "stop".into()));
    }
}
