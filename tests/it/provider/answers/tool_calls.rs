//! Tool calls in a stream: parallel calls never become one, and one never becomes two.

use std::collections::HashSet;

use rota::scripted::{Raw, Script};
use serde_json::{Value, json};

use super::{Outcome, Rpc, answered, chunk, completion, end, streamed_chunks, whole};
use crate::support::kinds::{GEMINI, OPENAI_COMPATIBLE};

/// A fragment of a call: its id, its name, its arguments, and more.
fn call(id: Value, name: Value, arguments: Value, more: Value) -> Value {
    let mut call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call
}

async fn fragments(calls: &[Value]) -> Outcome {
    let deltas = calls.iter().map(|call| chunk(json!({ "tool_calls": [call] })));
    let start = chunk(json!({"role": "assistant", "content": null}));
    let events: Vec<Value> = [start].into_iter().chain(deltas).chain([end("tool_calls")]).collect();
    streamed_chunks(&events).await
}

fn ids(outcome: &Outcome) -> Vec<String> {
    outcome.message().tool_calls.into_iter().map(|call| call.id).collect()
}

// <https://github.com/NousResearch/hermes-agent/issues/62937>, <https://github.com/su-kaka/gcli2api/issues/406>,
// <https://github.com/AstrBotDevs/AstrBot/issues/6661>.
#[tokio::test(flavor = "multi_thread")]
async fn parallel_calls_stay_apart_however_they_are_numbered() {
    let none = || json!({});
    let zero = || json!({"index": 0});
    let at = |index: u8| json!({ "index": index });
    let (f, g) = (r#"{"x":1}"#, r#"{"y":2}"#);
    let table = [
        vec![call("a".into(), "f".into(), f.into(), none()), call("b".into(), "g".into(), g.into(), none())],
        vec![call("a".into(), "f".into(), f.into(), zero()), call("b".into(), "g".into(), g.into(), zero())],
        // The id in each fragment.
        vec![
            call("a".into(), "f".into(), "".into(), at(0)),
            call("a".into(), "f".into(), f.into(), at(0)),
            call("b".into(), "g".into(), g.into(), at(1)),
        ],
        // `null` and empty texts for what was said before.
        vec![
            call("a".into(), "f".into(), r#"{"x""#.into(), zero()),
            call(Value::Null, Value::Null, ":1}".into(), zero()),
            call("b".into(), "g".into(), g.into(), at(1)),
        ],
        vec![
            call("a".into(), "f".into(), r#"{"x""#.into(), none()),
            call("".into(), "".into(), ":1}".into(), none()),
            call("b".into(), "g".into(), g.into(), none()),
        ],
        // A name in pieces, arguments as an object, `""` first, an index as text.
        vec![
            call("a".into(), "f".into(), "".into(), json!({"index": "0"})),
            call(Value::Null, Value::Null, f.into(), json!({"index": "0"})),
            call("b".into(), "g".into(), json!({"y": 2}), json!({"index": "1"})),
        ],
    ];
    for calls in table {
        let outcome = fragments(&calls).await;
        assert_eq!(outcome.calls(), [("f".into(), f.into()), ("g".into(), g.into())], "{calls:?}");
        assert_eq!(ids(&outcome), ["a", "b"], "{calls:?}");
        assert_eq!(outcome.reply.finish_reason, "tool_calls");
    }
    let pieces = [
        call("a".into(), "get_".into(), "".into(), zero()),
        call(Value::Null, "weather".into(), "".into(), zero()),
        call(Value::Null, Value::Null, f.into(), zero()),
    ];
    assert_eq!(fragments(&pieces).await.calls(), [("get_weather".into(), f.into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_missing_are_made_up_and_stay_the_same() {
    let calls = [
        call(Value::Null, "f".into(), "{}".into(), json!({"index": 0})),
        call("".into(), "f".into(), "{}".into(), json!({"index": 1})),
    ];
    let streamed = fragments(&calls).await;
    assert_eq!(streamed.calls().len(), 2);
    let own: HashSet<String> = ids(&streamed).into_iter().collect();
    assert!(own.len() == 2 && !own.contains(""), "{own:?}");
    let body = completion(json!({"content": null, "tool_calls": calls}));
    let answered = answered(&OPENAI_COMPATIBLE, Rpc::Whole, whole(&body)).await;
    assert_eq!(ids(&answered), ids(&streamed));
}

// Arguments as an object keep the vendor's order of keys (46 recordings), and their digits.
#[tokio::test(flavor = "multi_thread")]
async fn arguments_as_an_object_keep_their_order() {
    let arguments = r#"{"zeta":1,"alpha":{"y":12345678901234567890,"b":1.50}}"#;
    let openai = format!(
        r#"{{"choices":[{{"message":{{"content":null,"tool_calls":[{{"id":"a","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}},"finish_reason":"tool_calls"}}]}}"#
    );
    let gemini = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{arguments}}}}}]}},"finishReason":"STOP"}}]}}"#
    );
    for (kind, body) in [(&OPENAI_COMPATIBLE, openai), (&GEMINI, gemini)] {
        let raw = Raw::new("application/json", body);
        let outcome = answered(kind, Rpc::Whole, Script::Raw(raw)).await;
        assert_eq!(outcome.calls(), [("f".into(), arguments.into())], "{}", kind.name);
        assert_eq!(outcome.reply.finish_reason, "tool_calls", "{}", kind.name);
    }
}

// <https://googleapis.github.io/js-genai/release_docs/interfaces/types.FunctionCall.html>,
// <https://googleapis.github.io/js-genai/release_docs/interfaces/types.PartialArg.html>: `partialArgs`, `willContinue`.
#[tokio::test(flavor = "multi_thread")]
async fn geminis_arguments_in_pieces_are_one_call() {
    let piece = |call: Value| json!({"candidates": [{"content": {"role": "model", "parts": [{ "functionCall": call }]}}], "responseId": "r"});
    let text = |value: &str, more: bool| json!([{"jsonPath": "$.place.name", "stringValue": value, "willContinue": more}]);
    let last = json!({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}], "responseId": "r"});
    let events = [
        piece(json!({"name": "f", "willContinue": true})),
        piece(json!({"partialArgs": text("New ", true), "willContinue": true})),
        piece(json!({"partialArgs": text("York", false), "willContinue": true})),
        piece(json!({"partialArgs": [{"jsonPath": "$.days", "numberValue": 2}], "willContinue": true})),
        piece(json!({})),
        piece(json!({"name": "g", "args": {"y": 2}})),
        last,
    ];
    let outcome = answered(&GEMINI, Rpc::Stream, Script::Raw(Raw::events(&events))).await;
    let expected = [("f", r#"{"place":{"name":"New York"},"days":2}"#), ("g", r#"{"y":2}"#)];
    assert_eq!(outcome.calls(), expected.map(|(name, arguments)| (name.into(), arguments.into())));
    assert_eq!(outcome.reply.finish_reason, "tool_calls");
    assert_eq!(ids(&outcome).into_iter().collect::<HashSet<_>>().len(), 2);
}
