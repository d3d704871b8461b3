//! Whose fault a refusal is: the request's cools nobody and is told to the caller at once; the key's moves on, under
//! whatever status it comes.

use rota::{
    api::pb::{ErrorClass, FunctionCall, InvokeLlmRequest, Message, Tool, ToolCall},
    scripted::{Raw, Script},
};
use serde_json::{Value, json};

use super::{RPCS, Rig, Rpc};
use crate::support::{
    kinds::{ANTHROPIC, AZURE_OPENAI, GEMINI, Kind, OPENAI_COMPATIBLE},
    world::hi,
};

/// A refusal: the page or the report, the kind of provider, the status, the body, the class.
type Refused = (&'static str, &'static Kind, u16, Value, ErrorClass);

/// Errors of the request, in their vendors' words.
fn of_the_request() -> Vec<Refused> {
    let openai = |kind: &str, code: Value, text: &str| json!({"error": {"message": text, "type": kind, "param": null, "code": code}});
    let google = |code: u16, status: &str, text: &str| json!({"error": {"code": code, "message": text, "status": status}});
    vec![
        (
            "https://github.com/theopenco/llmgateway/issues/1785",
            &OPENAI_COMPATIBLE,
            403,
            json!({
                "code": "The caller does not have permission to execute the specified operation",
                "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO",
            }),
            ErrorClass::ContentFiltered,
        ),
        (
            "https://openrouter.ai/docs/api/reference/errors-and-debugging",
            &OPENAI_COMPATIBLE,
            403,
            json!({"error": {"code": 403, "message": "Your input was flagged", "metadata": {
                "reasons": ["violence"], "flagged_input": "bad", "provider_name": "p", "model_slug": "m"}}}),
            ErrorClass::ContentFiltered,
        ),
        (
            "https://github.com/camel-ai/owl/issues/432",
            &OPENAI_COMPATIBLE,
            400,
            openai(
                "data_inspection_failed",
                "data_inspection_failed".into(),
                "Input data may contain inappropriate content.",
            ),
            ErrorClass::ContentFiltered,
        ),
        (
            "https://github.com/compl-ai/compl-ai/issues/20",
            &AZURE_OPENAI,
            400,
            json!({"error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                "type": null, "param": "prompt", "code": "content_filter", "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": true}}},
            }}),
            ErrorClass::ContentFiltered,
        ),
        (
            "https://github.com/just-every/code/issues/421",
            &OPENAI_COMPATIBLE,
            429,
            openai(
                "tokens",
                "rate_limit_exceeded".into(),
                "Request too large for m in organization org-x on tokens per min (TPM): Limit 30000, Requested 342389. \
                 The input or output tokens must be reduced in order to run successfully.",
            ),
            ErrorClass::BadRequest,
        ),
        (
            "https://platform.openai.com/docs/guides/error-codes",
            &OPENAI_COMPATIBLE,
            400,
            openai(
                "invalid_request_error",
                "context_length_exceeded".into(),
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            ),
            ErrorClass::ContextTooLong,
        ),
        (
            "https://docs.claude.com/en/api/errors",
            &ANTHROPIC,
            400,
            json!({"type": "error", "error": {
                "type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
            ErrorClass::ContextTooLong,
        ),
        (
            "https://ai.google.dev/gemini-api/docs/troubleshooting",
            &GEMINI,
            400,
            google(
                400,
                "INVALID_ARGUMENT",
                "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
            ),
            ErrorClass::ContextTooLong,
        ),
        (
            "https://github.com/ggml-org/llama.cpp/issues/15377",
            &OPENAI_COMPATIBLE,
            500,
            openai(
                "server_error",
                500.into(),
                "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            ),
            ErrorClass::BadRequest,
        ),
        (
            "https://platform.openai.com/docs/guides/conversation-state",
            &OPENAI_COMPATIBLE,
            400,
            openai(
                "invalid_request_error",
                "previous_response_not_found".into(),
                "Previous response with id 'resp_1' not found.",
            ),
            ErrorClass::BadRequest,
        ),
        (
            "https://ai.google.dev/gemini-api/docs/caching",
            &GEMINI,
            403,
            google(403, "PERMISSION_DENIED", "CachedContent not found (or permission denied)"),
            ErrorClass::BadRequest,
        ),
        (
            "https://platform.openai.com/docs/api-reference/containers",
            &OPENAI_COMPATIBLE,
            404,
            openai("invalid_request_error", Value::Null, "Container with id 'cntr_1' not found."),
            ErrorClass::BadRequest,
        ),
        (
            "https://platform.openai.com/docs/api-reference/files",
            &OPENAI_COMPATIBLE,
            404,
            openai("invalid_request_error", Value::Null, "No such File object: file-1"),
            ErrorClass::BadRequest,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_fault_is_told_at_once_and_cools_nobody() {
    for (source, kind, status, body, class) in of_the_request() {
        let rig = Rig::start(kind).await;
        for rpc in RPCS {
            rig.now(&Script::Raw(Raw::json(&body).status(status)));
            let outcome = rig.call(rpc).await;
            assert_eq!(outcome.classes(), [class], "{source} {rpc:?}: {}", outcome.words);
            assert_eq!(rig.cooling().await, Vec::<String>::new(), "{source} {rpc:?}");
            rig.now(&Script::Answer);
            assert!(rig.call(rpc).await.text().starts_with("served by"), "{source}: the next caller");
        }
    }
}

/// Errors of the key, in their vendors' words.
fn of_the_key() -> Vec<Refused> {
    let openai = |kind: &str, code: &str, text: &str| json!({"error": {"message": text, "type": kind, "param": null, "code": code}});
    let info = |reason: &str| json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}]);
    vec![
        (
            "https://github.com/continuedev/continue/issues/10778",
            &OPENAI_COMPATIBLE,
            400,
            json!({"code": "invalid-argument", "error": "Incorrect API key provided: ke***ne. You can obtain an API key from https://console.x.ai."}),
            ErrorClass::Authentication,
        ),
        (
            "https://ai.google.dev/gemini-api/docs/troubleshooting",
            &GEMINI,
            400,
            json!({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
                "status": "INVALID_ARGUMENT", "details": info("API_KEY_INVALID")}}),
            ErrorClass::Authentication,
        ),
        (
            "https://www.alibabacloud.com/help/en/model-studio/error-code",
            &OPENAI_COMPATIBLE,
            400,
            openai(
                "Arrearage",
                "Arrearage",
                "Access denied, please make sure your account is in good standing.",
            ),
            ErrorClass::QuotaExhausted,
        ),
        (
            "https://github.com/agentscope-ai/QwenPaw/issues/202",
            &OPENAI_COMPATIBLE,
            429,
            json!({"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}),
            ErrorClass::QuotaExhausted,
        ),
        (
            "https://api-docs.deepseek.com/quick_start/error_codes",
            &OPENAI_COMPATIBLE,
            402,
            openai("unknown_error", "invalid_request_error", "Insufficient Balance"),
            ErrorClass::QuotaExhausted,
        ),
        (
            "https://platform.openai.com/docs/guides/error-codes",
            &OPENAI_COMPATIBLE,
            429,
            openai("insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
            ErrorClass::QuotaExhausted,
        ),
        (
            "https://docs.claude.com/en/api/errors",
            &ANTHROPIC,
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message":
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}),
            ErrorClass::QuotaExhausted,
        ),
        (
            "https://github.com/atiilla/sqlmap-ai/issues/3",
            &OPENAI_COMPATIBLE,
            400,
            openai(
                "invalid_request_error",
                "model_decommissioned",
                "The model `qwen-qwq-32b` has been decommissioned and is no longer supported.",
            ),
            ErrorClass::ModelUnavailable,
        ),
        (
            "https://github.com/lfnovo/open-notebook/issues/441",
            &OPENAI_COMPATIBLE,
            400,
            json!({"object": "error", "message": "Invalid model: API", "type": "invalid_model", "param": null, "code": "1500"}),
            ErrorClass::ModelUnavailable,
        ),
        (
            "https://platform.openai.com/docs/guides/error-codes",
            &OPENAI_COMPATIBLE,
            400,
            openai(
                "invalid_request_error",
                "model_not_found",
                "The model `m` does not exist or you do not have access to it.",
            ),
            ErrorClass::ModelUnavailable,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_fault_moves_on_under_any_status() {
    for (source, kind, status, body, class) in of_the_key() {
        for rpc in RPCS {
            let rig = Rig::first(kind, Script::Raw(Raw::json(&body).status(status))).await;
            let outcome = rig.call(rpc).await;
            assert_eq!(outcome.text(), format!("served by {}", rig.scene.keys[1]), "{source} {rpc:?}");
            assert_eq!(outcome.classes(), [class, ErrorClass::Unspecified], "{source} {rpc:?}");
            assert_eq!(rig.cooling().await, ["config-0"], "{source} {rpc:?}");
        }
    }
}

// <https://github.com/theopenco/llmgateway/issues/1785>: a 403 about the key still moves on.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_the_right_still_moves_on() {
    let denied = json!({"code": "permission-denied", "error": "Access to the chat endpoint is denied"});
    let rig = Rig::first(&OPENAI_COMPATIBLE, Script::Raw(Raw::json(&denied).status(403))).await;
    let outcome = rig.call(Rpc::Whole).await;
    assert_eq!((outcome.text(), outcome.attempts.len()), (format!("served by {}", rig.scene.keys[1]), 2));
}

// Two credentials that are refused with the same words show that the request is at fault.
#[tokio::test(flavor = "multi_thread")]
async fn two_credentials_with_the_same_words_show_the_requests_fault() {
    for (status, body) in [
        (403, json!({"error": {"message": "You may not say this", "type": "forbidden"}})),
        (403, json!({"error": "You may not say this"})),
    ] {
        for rpc in RPCS {
            let rig = Rig::both(&OPENAI_COMPATIBLE, Script::Raw(Raw::json(&body).status(status))).await;
            let outcome = rig.call(rpc).await;
            assert_eq!(
                (outcome.reason.as_str(), outcome.attempts.len()),
                ("UPSTREAM_BAD_REQUEST", 2),
                "{body}"
            );
            assert!(outcome.words.contains("You may not say this"), "{}", outcome.words);
            assert_eq!(rig.cooling().await, Vec::<String>::new(), "{body}");
        }
    }
    // With other words each, the keys are.
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    for (key, words) in rig.scene.keys.iter().zip(["no access for one", "no access for two"]) {
        rig.upstream.script(key, Script::Raw(Raw::json(&json!({"error": {"message": words}})).status(403)));
    }
    assert_eq!(rig.call(Rpc::Whole).await.reason, "UPSTREAM_MODEL_UNAVAILABLE");
    assert_eq!(rig.cooling().await, ["config-0", "config-1"]);
}

// Providers repeat what callers wrote: an echo of the words that blame a key blames none.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_wrote_blames_no_key() {
    let words = of_the_key().into_iter().filter_map(|(.., body, _)| {
        let error = body.get("error").unwrap_or(&body);
        let text = error.get("message").unwrap_or(error).as_str()?;
        Some(text.to_owned())
    });
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    for text in words {
        for echo in [
            format!("messages.0.content: Input should be a valid string, got '{text}'"),
            format!("Invalid schema for function 'f': '{text}' is not of type 'object'."),
            format!("Invalid 'tools[0].function.name': '{text}' does not match '^[a-zA-Z0-9_-]+$'."),
        ] {
            let body = json!({"error": {"message": echo, "type": "invalid_request_error", "param": null, "code": null}});
            rig.now(&Script::Raw(Raw::json(&body).status(400)));
            let request = InvokeLlmRequest {
                messages: vec![hi(), called(&text), hi()],
                tools: vec![Tool { name: "f".into(), description: text.clone(), ..Tool::default() }],
                ..rig.scene.request()
            };
            let outcome = rig.send(Rpc::Whole, request).await;
            assert_eq!(outcome.attempts.len(), 1, "{echo}: {}", outcome.reason);
            assert_eq!(rig.cooling().await, Vec::<String>::new(), "{echo}");
        }
    }
}

/// An assistant's message that calls a tool with that text.
fn called(text: &str) -> Message {
    let function = FunctionCall { name: "f".into(), arguments: json!({ "x": text }).to_string() };
    let call = ToolCall {
        id: "c".into(),
        r#type: "function".into(),
        function: Some(function),
        ..ToolCall::default()
    };
    Message { role: "assistant".into(), tool_calls: vec![call], ..Message::default() }
}
