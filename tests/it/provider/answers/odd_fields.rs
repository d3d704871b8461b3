//! One odd field does not spoil an answer that is paid for.

use rota::scripted::{Raw, Script};
use serde_json::json;

use super::{DONE, Rpc, answered, chunk, end, streamed_chunks, whole};
use crate::support::kinds::{ANTHROPIC, COHERE, GEMINI, OPENAI_COMPATIBLE};

/// A whole answer with that text, and fields of the wrong sort wherever none is needed.
fn oddities() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "numbers as text and the other way round",
            r#"{"id":7,"created":"now","model":3.5,"choices":[{"index":"0","message":{"role":"assistant","content":"good"},
                "finish_reason":"stop"}],"usage":{"prompt_tokens":"5","completion_tokens":2.0,"total_tokens":7}}"#,
        ),
        (
            "null and lists for objects",
            r#"{"id":null,"choices":[{"index":null,"message":{"role":null,"content":"good","tool_calls":null,"audio":[],
                "annotations":{},"function_call":[]},"finish_reason":"stop","logprobs":[]}],
                "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":[]}}"#,
        ),
        (
            "a key twice: the last wins",
            r#"{"choices":[{"message":{"content":"bad","content":"good"},"finish_reason":"length","finish_reason":"stop"}],
                "usage":{"total_tokens":1},"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#,
        ),
        (
            "numbers that are none",
            r#"{"choices":[{"message":{"content":"good"},"finish_reason":"stop","logprobs":{"content":[{"logprob":-Infinity}]}}],
                "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"cost":NaN}}"#,
        ),
    ]
}

// Recorded answers of 39 vendors: servers differ from their pages in what nobody needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_field_of_the_wrong_sort_spoils_nothing() {
    for (what, body) in oddities() {
        let raw = Raw::new("application/json", body.to_owned());
        let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Whole, Script::Raw(raw)).await;
        assert_eq!(outcome.said(), ("good".into(), "stop".into()), "{what}");
        let usage = outcome.usage();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (5, 2, 7), "{what}");
        let delta = body.replace("\"message\"", "\"delta\"").replace('\n', " ");
        let raw = Raw::stream(format!("data: {delta}\n\n{DONE}"));
        let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Stream, Script::Raw(raw)).await;
        assert_eq!(outcome.said(), ("good".into(), "stop".into()), "{what}");
        assert_eq!(outcome.usage().total_tokens, 7, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_vendors_answers_are_read_as_leniently() {
    let anthropic = r#"{"id":5,"type":"message","content":[{"type":"text","text":"good","citations":null}],
        "stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":"5","output_tokens":2.0,"cache_creation":[]}}"#;
    let gemini = r#"{"candidates":[{"content":{"parts":[{"text":"good"}]},"finishReason":"STOP","index":"0","safetyRatings":{}}],
        "usageMetadata":{"promptTokenCount":"5","candidatesTokenCount":2.0,"promptTokensDetails":{}},"responseId":9}"#;
    let cohere = r#"{"id":1,"message":{"role":"assistant","content":[{"type":"text","text":"good"}],"citations":null},
        "finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":"5","output_tokens":2.0},"billed_units":[]}}"#;
    for (kind, body) in [(&ANTHROPIC, anthropic), (&GEMINI, gemini), (&COHERE, cohere)] {
        let raw = Raw::new("application/json", body);
        let outcome = answered(kind, Rpc::Whole, Script::Raw(raw)).await;
        assert_eq!(outcome.said(), ("good".into(), "stop".into()), "{}", kind.name);
        let usage = outcome.usage();
        assert_eq!(
            (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
            (5, 2, 7),
            "{}",
            kind.name
        );
    }
}

/// A chunk whose content is these bytes.
fn bytes(content: &[u8]) -> Vec<u8> {
    let start = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"";
    [&start[..], content, b"\"},\"finish_reason\":null}]}\n\n"].concat()
}

// <https://github.com/elie222/rakazo/issues/416>, <https://github.com/elizaOS/eliza/issues/30904>,
// <https://github.com/Wei-Shaw/claude-relay-service/issues/1039>; U+FFFD:
// <https://encoding.spec.whatwg.org/#utf-8-decoder>.
#[tokio::test(flavor = "multi_thread")]
async fn halves_of_a_character_are_joined_or_replaced() {
    let table: [([&[u8]; 2], &str); 7] = [
        ([b"hi \\ud83d", b"\\ude00!"], "hi \u{1f600}!"),
        ([b"hi \xf0\x9f", b"\x98\x80!"], "hi \u{1f600}!"),
        ([b"hi \xc3", b"\xa9!"], "hi \u{e9}!"),
        ([b"hi \\ud83d", b"!"], "hi \u{fffd}!"),
        ([b"hi ", b"\xf0\x9f!"], "hi \u{fffd}!"),
        ([b"hi ", b"\\ude00!"], "hi \u{fffd}!"),
        ([b"hi ", b"\\ud83d"], "hi \u{fffd}"),
    ];
    for (pieces, text) in table {
        let last = format!("data: {}\n\n{DONE}", end("stop"));
        let raw = Raw::stream(bytes(pieces[0])).then(bytes(pieces[1])).then(last);
        let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Stream, Script::Raw(raw)).await;
        assert_eq!(outcome.text(), text, "{pieces:?}");
    }
    let body =
        &b"{\"choices\":[{\"message\":{\"content\":\"hi \\ud83d\"},\"finish_reason\":\"length\"}]}"[..];
    let raw = Raw::new("application/json", body);
    let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Whole, Script::Raw(raw)).await;
    assert_eq!(outcome.said(), ("hi \u{fffd}".into(), "length".into()));
}

// A choice without a message beside Azure's filter is a refusal
// (<https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter>).
#[tokio::test(flavor = "multi_thread")]
async fn a_choice_without_a_message_that_was_filtered_is_a_refusal() {
    let body = json!({"choices": [{"index": 0, "finish_reason": "content_filter", "content_filter_results": {}}],
        "usage": {"prompt_tokens": 5, "total_tokens": 5}});
    let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Whole, whole(&body)).await;
    assert_eq!((outcome.reason.as_str(), outcome.attempts.len()), ("UPSTREAM_CONTENT_FILTERED", 1));
}

// Deltas of arguments are joined like any text.
#[tokio::test(flavor = "multi_thread")]
async fn halves_within_arguments_are_joined_too() {
    let call = |arguments: &str| {
        let function = json!({"name": "f", "arguments": "@"}).to_string().replace('@', arguments);
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":0,\"id\":\"c\",\"function\":{function}}}]}}}}]}}\n\n"
        )
    };
    let text =
        [call(r#"{\"x\":\"\ud83d"#), call(r#"\ude00\"}"#), format!("data: {}\n\n{DONE}", end("tool_calls"))];
    let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Stream, Script::Raw(Raw::stream(text.concat()))).await;
    assert_eq!(outcome.calls(), [("f".into(), "{\"x\":\"\u{1f600}\"}".into())]);
    let empty = streamed_chunks(&[chunk(json!({"content": "good", "tool_calls": []})), end("stop")]).await;
    assert_eq!(empty.calls(), []);
}
