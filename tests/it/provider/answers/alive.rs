//! What keeps a stream alive, and what does not.

use std::time::Duration;

use futures::future::join_all;
use rota::{
    api::pb::{BalancingPolicy, ErrorClass},
    scripted::{Raw, Script},
};
use serde_json::json;

use super::{DONE, Rig, Rpc, chunk, end};
use crate::support::kinds::{ANTHROPIC, OPENAI_COMPATIBLE};

const PAUSE: Duration = Duration::from_millis(400);

fn span(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Each of them comes behind a pause of 400 ms.
fn paused(raw: Raw, pieces: &[&'static str]) -> Raw {
    pieces.iter().fold(raw, |raw, piece| raw.wait(PAUSE).then(*piece))
}

// <https://github.com/openclaw/openclaw/issues/152535>, <https://github.com/Menci/Floway/issues/498>,
// <https://openrouter.ai/docs/api-reference/streaming>: comments say that the provider still works.
#[tokio::test(flavor = "multi_thread")]
async fn signs_of_life_extend_the_idle_limit_and_silence_does_not() {
    let first = format!("data: {}\n\n", chunk(json!({"content": "a"})));
    let last = format!("data: {}\n\ndata: {}\n\n{DONE}", chunk(json!({"content": "b"})), end("stop"));
    let calls = [
        (": OPENROUTER PROCESSING\n\n", ""),
        (": keep-alive\n", ""),
        ("data: {\"choices\":[]}\n\n", ""),
        ("event: ping\ndata: {}\n\n", ""),
        ("", "UPSTREAM_TIMEOUT"),
    ]
    .map(async |(sign, reason)| {
        let raw = paused(Raw::stream(first.clone()), &[sign; 4]).then(last.clone());
        let rig = Rig::both(&OPENAI_COMPATIBLE, Script::Raw(raw)).await;
        rig.policy(BalancingPolicy { stream_idle_timeout: span(1), ..Default::default() }).await;
        let outcome = rig.call(Rpc::Stream).await;
        assert_eq!(outcome.reason, reason, "{sign:?}");
        assert_eq!(outcome.message().content, if reason.is_empty() { "ab" } else { "a" }, "{sign:?}");
    });
    join_all(calls).await;
}

// They are no content: who waits for the first words waits no longer for them.
#[tokio::test(flavor = "multi_thread")]
async fn signs_of_life_do_not_extend_the_first_token_limit() {
    for (kind, sign) in [
        (&OPENAI_COMPATIBLE, ": OPENROUTER PROCESSING\n\n"),
        (&ANTHROPIC, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    ] {
        let raw = paused(Raw::stream(sign), &[sign; 5]).stalls();
        let rig = Rig::first(kind, Script::Raw(raw)).await;
        rig.policy(BalancingPolicy { first_token_timeout: span(1), ..Default::default() }).await;
        let outcome = rig.call(Rpc::Stream).await;
        assert_eq!(outcome.text(), format!("served by {}", rig.scene.keys[1]), "{}", kind.name);
        assert_eq!(outcome.classes(), [ErrorClass::Timeout, ErrorClass::Unspecified]);
    }
}

// <https://github.com/BerriAI/litellm/issues/16272>: reasoning is the first content, wherever it stands.
#[tokio::test(flavor = "multi_thread")]
async fn reasoning_of_any_sort_is_the_first_content() {
    let calls = [
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
        json!({"reasoning_content": "hm"}),
        json!({"reasoning": "hm"}),
        json!({"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]}),
    ]
    .map(async |thought| {
        let raw = Raw::events([&chunk(json!({"role": "assistant", "content": ""})), &chunk(thought.clone())]);
        let answer = format!("data: {}\n\ndata: {}\n\n{DONE}", chunk(json!({"content": "4"})), end("stop"));
        let raw = raw.wait(Duration::from_millis(1300)).then(answer);
        let rig = Rig::both(&OPENAI_COMPATIBLE, Script::Raw(raw)).await;
        rig.policy(BalancingPolicy { first_token_timeout: span(1), ..Default::default() }).await;
        let outcome = rig.call(Rpc::Stream).await;
        assert_eq!((outcome.text(), outcome.attempts.len()), ("4".into(), 1), "{thought}");
        assert_eq!(outcome.message().reasoning_content, "hm", "{thought}");
    });
    join_all(calls).await;
}
