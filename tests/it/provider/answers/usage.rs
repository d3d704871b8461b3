//! Usage: once, in the last message, whatever the vendor calls it and however often it counts.

use rota::{
    api::pb::Usage,
    scripted::{Raw, Script},
};
use serde_json::{Value, json};

use super::{RPCS, Rpc, answered, chunk, completion, end, streamed_chunks, whole};
use crate::support::kinds::{ANTHROPIC, COHERE, GEMINI, OPENAI_COMPATIBLE};

/// Prompt, completion, total, cached, cache writes, reasoning.
fn counts(usage: &Usage) -> [u32; 6] {
    let Usage { prompt_tokens, completion_tokens, total_tokens, cached_tokens, .. } = *usage;
    [
        prompt_tokens,
        completion_tokens,
        total_tokens,
        cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    ]
}

fn openai_names() -> Vec<(&'static str, Value, [u32; 6])> {
    let base = |more: Value| {
        let mut usage = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120});
        usage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        usage
    };
    vec![
        (
            "https://platform.openai.com/docs/api-reference/chat/object",
            base(
                json!({"prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": {"reasoning_tokens": 15}}),
            ),
            [100, 20, 120, 40, 0, 15],
        ),
        (
            "https://api-docs.deepseek.com/guides/kv_cache",
            base(json!({"prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 60})),
            [100, 20, 120, 40, 0, 0],
        ),
        (
            "https://platform.moonshot.ai/docs/api/chat",
            base(json!({"cached_tokens": 40})),
            [100, 20, 120, 40, 0, 0],
        ),
        (
            "https://openrouter.ai/docs/guides/best-practices/prompt-caching",
            base(json!({"prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 30}})),
            [100, 20, 120, 40, 30, 0],
        ),
        (
            "https://docs.litellm.ai/docs/completion/prompt_caching",
            base(json!({"cache_read_input_tokens": 40, "cache_creation_input_tokens": 30})),
            [100, 20, 120, 40, 30, 0],
        ),
        // It counts the reasoning beside the completion: here it is a part of it, as with every vendor.
        (
            "https://docs.x.ai/docs/guides/reasoning",
            json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 120, "completion_tokens_details": {"reasoning_tokens": 15}}),
            [100, 20, 120, 0, 0, 15],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_vendors_names_for_the_counts_are_known() {
    for (source, usage, expected) in openai_names() {
        let mut body = completion(json!({"content": "x"}));
        body["usage"] = usage.clone();
        let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Whole, whole(&body)).await;
        assert_eq!(counts(&outcome.usage()), expected, "{source}");
        let last = json!({"choices": [], "usage": usage});
        let outcome = streamed_chunks(&[chunk(json!({"content": "x"})), end("stop"), last]).await;
        assert_eq!(counts(&outcome.usage()), expected, "{source}");
    }
}

// Groq (<https://console.groq.com/docs/api-reference>), Moonshot (<https://platform.moonshot.ai/docs/api/chat>):
// elsewhere. Counts that come with each chunk are totals so far, and a later 0 says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn counts_in_a_stream_are_totals_so_far_wherever_they_stand() {
    let usage = |completion: u32| json!({"prompt_tokens": 100, "completion_tokens": completion, "total_tokens": 100 + completion});
    let zero = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
    let with = |mut chunk: Value, usage: &Value| {
        chunk["usage"] = usage.clone();
        chunk
    };
    let [a, b] = [chunk(json!({"content": "a"})), chunk(json!({"content": "b"}))];
    let mut in_choice = end("stop");
    in_choice["choices"][0]["usage"] = usage(20);
    for events in [
        vec![with(a.clone(), &usage(10)), with(b.clone(), &usage(15)), with(end("stop"), &usage(20))],
        vec![with(a.clone(), &usage(20)), with(b.clone(), &zero), with(end("stop"), &zero)],
        vec![
            a.clone(),
            b.clone(),
            end("stop"),
            json!({"choices": [], "x_groq": {"id": "r", "usage": usage(20)}}),
        ],
        vec![a.clone(), b.clone(), in_choice],
        vec![
            a.clone(),
            with(b.clone(), &Value::Null),
            end("stop"),
            json!({"choices": [], "usage": usage(20)}),
        ],
    ] {
        let outcome = streamed_chunks(&events).await;
        assert_eq!(outcome.text(), "ab", "{events:?}");
        assert_eq!(counts(&outcome.usage()), [100, 20, 120, 0, 0, 0], "{events:?}");
    }
}

/// Anthropic's stream that counts so at its start and at its end.
fn counted(first: &Value, last: &Value) -> Script {
    Script::Raw(Raw::events([
        &json!({"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": first}}),
        &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
        &json!({"type": "content_block_stop", "index": 0}),
        &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last}),
        &json!({"type": "message_stop"}),
    ]))
}

// <https://github.com/envoyproxy/ai-gateway/issues/1631>, <https://github.com/sgl-project/sglang/issues/20678>;
// <https://docs.claude.com/en/docs/build-with-claude/prompt-caching>: the cache's tokens stand beside `input_tokens`.
#[tokio::test(flavor = "multi_thread")]
async fn anthropics_counts_at_the_start_and_at_the_end_make_one() {
    let known = json!({"input_tokens": 15, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 5, "output_tokens": 1});
    let zero = json!({"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 7});
    let mut late = known.clone();
    late["output_tokens"] = 7.into();
    let thinking = json!({"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 4}});
    for (first, last, reasoning) in [
        (&known, &zero, 0),
        (&json!({"input_tokens": 0, "output_tokens": 0}), &late, 0),
        (&known, &json!({"output_tokens": 7}), 0),
        (&known, &thinking, 4),
    ] {
        let outcome = answered(&ANTHROPIC, Rpc::Stream, counted(first, last)).await;
        assert_eq!(counts(&outcome.usage()), [120, 7, 127, 100, 5, reasoning], "{first} {last}");
    }
}

// <https://ai.google.dev/api/generate-content#UsageMetadata>: thoughts stand beside the candidates, and each chunk
// counts.
#[tokio::test(flavor = "multi_thread")]
async fn geminis_thoughts_are_a_part_of_the_completion() {
    let usage = |candidates: u32, thoughts: u32| {
        json!({"promptTokenCount": 90, "toolUsePromptTokenCount": 10, "cachedContentTokenCount": 40,
            "candidatesTokenCount": candidates, "thoughtsTokenCount": thoughts, "totalTokenCount": 100 + candidates + thoughts})
    };
    let body = |text: &str, finish: Value, usage: Value| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": finish}], "usageMetadata": usage});
    let last = body("b", "STOP".into(), usage(5, 15));
    for rpc in RPCS {
        let raw = match rpc {
            Rpc::Whole => Raw::json(&last),
            Rpc::Stream => Raw::events([&body("a", Value::Null, usage(2, 15)), &last]),
        };
        let outcome = answered(&GEMINI, rpc, Script::Raw(raw)).await;
        assert_eq!(counts(&outcome.usage()), [100, 20, 120, 40, 0, 15], "{rpc:?}");
    }
}

// <https://docs.cohere.com/reference/chat>: it counts in floating point, and bills less than it reads.
#[tokio::test(flavor = "multi_thread")]
async fn coheres_tokens_count_and_not_what_it_bills() {
    let body = json!({"message": {"content": [{"type": "text", "text": "a"}]}, "finish_reason": "COMPLETE",
        "usage": {"billed_units": {"input_tokens": 3.0, "output_tokens": 20.0},
            "tokens": {"input_tokens": 100.0, "output_tokens": 20.0}, "cached_tokens": 40.0}});
    let outcome = answered(&COHERE, Rpc::Whole, whole(&body)).await;
    assert_eq!(counts(&outcome.usage()), [100, 20, 120, 40, 0, 0]);
}

// <https://platform.openai.com/docs/guides/audio>, <https://ai.google.dev/api/generate-content#UsageMetadata>.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_audio_are_told() {
    let mut openai = completion(json!({"content": "x"}));
    openai["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30,
        "prompt_tokens_details": {"audio_tokens": 4}, "completion_tokens_details": {"audio_tokens": 6}});
    let gemini = json!({"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}], "usageMetadata": {
        "promptTokenCount": 10, "candidatesTokenCount": 20, "totalTokenCount": 30,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 6}, {"modality": "AUDIO", "tokenCount": 4}],
        "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 6}]}});
    for (kind, body) in [(&OPENAI_COMPATIBLE, openai), (&GEMINI, gemini)] {
        let usage = answered(kind, Rpc::Whole, whole(&body)).await.usage();
        assert_eq!((usage.prompt_audio_tokens, usage.completion_audio_tokens), (4, 6), "{}", kind.name);
    }
}
