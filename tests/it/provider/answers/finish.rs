//! An answer ends exactly once, and nothing stands behind the end but the usage.

use rota::scripted::{Raw, Script};
use serde_json::{Value, json};

use super::{DONE, Rpc, answered, chunk, end, streamed_chunks};
use crate::support::kinds::{ANTHROPIC, COHERE, GEMINI, OPENAI_COMPATIBLE};

// 173 recordings: OpenRouter and Gemini say twice why an answer ends. The one that says more stands.
#[tokio::test(flavor = "multi_thread")]
async fn two_finish_reasons_are_one() {
    let said = chunk(json!({"content": "a"}));
    for (reasons, expected) in [
        (["stop", "stop"], "stop"),
        (["length", "stop"], "length"),
        (["stop", "tool_calls"], "tool_calls"),
        (["", "stop"], "stop"),
    ] {
        let outcome = streamed_chunks(&[said.clone(), end(reasons[0]), end(reasons[1])]).await;
        assert_eq!(outcome.said(), ("a".into(), expected.into()), "{reasons:?}");
    }
    let usage = json!({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}});
    let outcome = streamed_chunks(&[said, end("stop"), usage]).await;
    assert_eq!((outcome.said().1.as_str(), outcome.usage().total_tokens), ("stop", 7));
}

// Gemini's code execution writes on behind a finish reason (<https://ai.google.dev/gemini-api/docs/code-execution>).
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_finish_reason_is_told_before_it() {
    let part = |text: &str, finish: Value| {
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}],
            "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}})
    };
    let events = [part("a", "STOP".into()), part("b", Value::Null), part("c", "STOP".into())];
    let outcome = answered(&GEMINI, Rpc::Stream, Script::Raw(Raw::events(&events))).await;
    assert_eq!(outcome.said(), ("abc".into(), "stop".into()));
    let outcome =
        streamed_chunks(&[chunk(json!({"content": "a"})), end("stop"), chunk(json!({"content": "b"}))]).await;
    assert_eq!(outcome.said(), ("ab".into(), "stop".into()));
}

// Nothing at all says why it ends: then it did not.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_an_end_is_an_error() {
    let openai = format!("data: {}\n\n", chunk(json!({"content": "a"})));
    let anthropic = "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
    let gemini = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n\n";
    let cohere = "data: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"a\"}}}}\n\n";
    for (kind, text) in [
        (&OPENAI_COMPATIBLE, openai),
        (&ANTHROPIC, anthropic.to_owned()),
        (&ANTHROPIC, format!("{anthropic}{DONE}")),
        (&GEMINI, gemini.to_owned()),
        (&GEMINI, format!("{gemini}{DONE}")),
        (&COHERE, cohere.to_owned()),
        (&COHERE, format!("{cohere}{DONE}")),
    ] {
        let outcome = answered(kind, Rpc::Stream, Script::Raw(Raw::stream(text.clone()))).await;
        let told = (outcome.reason.as_str(), outcome.message().content);
        assert_eq!(told, ("UPSTREAM_CONNECTION", "a".into()), "{} {text}", kind.name);
    }
}

// The contract's words: <https://platform.openai.com/docs/api-reference/chat/object>,
// <https://docs.claude.com/en/api/handling-stop-reasons>, <https://ai.google.dev/api/generate-content#FinishReason>,
// <https://docs.cohere.com/reference/chat>.
#[tokio::test(flavor = "multi_thread")]
async fn finish_reasons_have_the_contracts_words() {
    let anthropic = |reason: &str| json!({"content": [{"type": "text", "text": "a"}], "stop_reason": reason});
    let gemini = |reason: &str| json!({"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": reason}]});
    let cohere = |reason: &str| json!({"message": {"content": [{"type": "text", "text": "a"}]}, "finish_reason": reason});
    for (kind, body, expected) in [
        (&ANTHROPIC, anthropic("end_turn"), "stop"),
        (&ANTHROPIC, anthropic("max_tokens"), "length"),
        (&ANTHROPIC, anthropic("model_context_window_exceeded"), "length"),
        (&ANTHROPIC, anthropic("refusal"), "content_filter"),
        (&ANTHROPIC, anthropic("pause_turn"), "pause_turn"),
        (&GEMINI, gemini("MAX_TOKENS"), "length"),
        (&GEMINI, gemini("SAFETY"), "content_filter"),
        (&GEMINI, gemini("LANGUAGE"), "language"),
        (&COHERE, cohere("MAX_TOKENS"), "length"),
        (&COHERE, cohere("STOP_SEQUENCE"), "stop"),
    ] {
        let outcome = answered(kind, Rpc::Whole, super::whole(&body)).await;
        assert_eq!(outcome.said(), ("a".into(), expected.into()), "{} {body}", kind.name);
    }
}
