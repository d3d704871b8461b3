//! Streams that break after content: they end, begin anew at another config, or go on there.

use rota::{
    api::pb::{
        Attempt, BalancingPolicy, CallOptions, ErrorClass, OnBreak, StreamLlmRequest, StreamLlmResponse,
    },
    scripted::{Raw, Script, Upstream},
};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::streaming::content;
use crate::support::{
    chain::Chain,
    failure::{classes, error, route, told},
    kinds::{self, Kind, on_every_kind},
    read,
    rota::Rota,
    world::{Scene, hi},
};

on_every_kind!(a_stream_that_breaks_begins_anew_elsewhere);

/// One streamed call, and how it ended.
async fn ask(scene: &Scene, options: CallOptions) -> (Vec<StreamLlmResponse>, Result<(), Status>) {
    let request = StreamLlmRequest {
        key: Some(scene.key.clone()),
        messages: vec![hi()],
        options: Some(options),
        ..StreamLlmRequest::default()
    };
    read(scene.clients.invoke.clone().stream_llm(request).await.unwrap().into_inner()).await
}

fn on_break(on_break: OnBreak) -> CallOptions {
    CallOptions { on_break: on_break.into(), ..CallOptions::default() }
}

/// What is valid of a streamed answer.
fn valid(messages: &[StreamLlmResponse]) -> String {
    let from = messages.iter().rposition(|message| message.restarted).unwrap_or_default();
    content(&messages[from..])
}

async fn a_stream_that_breaks_begins_anew_elsewhere(rota: &Rota, kind: &Kind) {
    for script in [Script::BreakAfter(2), Script::EndAfter(1), Script::ErrorAfter(2, (kind.limited)())] {
        let upstream = Upstream::start().await.unwrap();
        let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
        upstream.script(&scene.keys[0], script);
        let (messages, end) = ask(&scene, on_break(OnBreak::Restart)).await;
        end.unwrap();
        assert_eq!(valid(&messages), format!("served by {}", scene.keys[1]));
        let routes: Vec<_> = messages.iter().filter(|message| message.route.is_some()).collect();
        assert_eq!(routes.iter().map(|message| message.restarted).collect::<Vec<_>>(), [false, true]);
        assert_eq!(messages.iter().filter(|message| message.restarted).count(), 1);
        let route = routes[1].route.clone().unwrap();
        assert_eq!((route.config_name.as_str(), route.attempts.len()), ("config-1", 2));
        assert_ne!(route.attempts[0].error_class(), ErrorClass::Unspecified);
        assert!(route.attempts[0].cooldown.is_some());
        let after: Vec<_> = route.attempts.iter().map(Attempt::after_break).collect();
        assert_eq!(after, [OnBreak::Unspecified, OnBreak::Restart]);
        let last = messages.last().unwrap();
        assert!(
            last.usage.is_some() && messages.iter().filter(|message| message.usage.is_some()).count() == 1
        );
        assert_eq!(messages.iter().filter(|message| !message.finish_reason.is_empty()).count(), 1);
        assert!(scene.configs_now().await[0].in_cooldown);
        assert_eq!(scene.in_flight().await, [0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_stream_breaks_likewise() {
    let rota = Rota::shared().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let policy = BalancingPolicy {
        stream_idle_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        on_break: OnBreak::Restart.into(),
        ..BalancingPolicy::default()
    };
    scene.set_policy(policy).await;
    upstream.script(&scene.keys[0], Script::StallAfter(2));
    let (messages, end) = ask(&scene, CallOptions::default()).await;
    end.unwrap();
    assert_eq!(valid(&messages), format!("served by {}", scene.keys[1]));
    // A call may say otherwise.
    upstream.script(&scene.keys[1], Script::BreakAfter(1));
    let (messages, end) = ask(&scene, on_break(OnBreak::Fail)).await;
    assert_eq!(told(&end.unwrap_err()), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
    assert_eq!(messages.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_begins_anew_as_well() {
    let rota = Rota::shared().await;
    let chain = Chain::set(rota, 2, 2).await;
    chain.link(0, &[1]).await.unwrap();
    chain.script(0, &Script::BreakAfter(2));
    let (messages, end) = ask(&chain.scenes[0], on_break(OnBreak::Restart)).await;
    end.unwrap();
    let route = messages.iter().rev().find_map(|message| message.route.clone()).unwrap();
    assert_eq!((route.model.as_str(), route.attempts.len()), ("fallback-1", 3));
    assert_eq!(messages.iter().filter(|message| message.restarted).count(), 2);
    assert_eq!(chain.hits(), [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_attempts_bound_how_often_it_begins_anew() {
    let rota = Rota::shared().await;
    for (max_attempts, attempts) in [(0, 3), (2, 2)] {
        let upstream = Upstream::start().await.unwrap();
        let scene = Scene::set(rota, &upstream, 3).await;
        for key in &scene.keys {
            upstream.script(key, Script::BreakAfter(1));
        }
        let (messages, end) = ask(&scene, CallOptions { max_attempts, ..on_break(OnBreak::Restart) }).await;
        let status = end.unwrap_err();
        assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
        assert_eq!(classes(&route(&status).attempts), vec![ErrorClass::Connection; attempts]);
        assert_eq!(messages.len(), attempts, "one piece each");
        assert_eq!(upstream.total_hits(), u64::try_from(attempts).unwrap());
    }
}

/// The beginning of a stream that calls a tool with these pieces of arguments, and breaks.
fn calls_a_tool(arguments: &[&str]) -> Script {
    let event = |delta: Value| json!({"id": "c", "choices": [{"index": 0, "delta": delta}]});
    let begin = json!({"role": "assistant", "tool_calls":
        [{"index": 0, "id": "call-1", "type": "function", "function": {"name": "f", "arguments": ""}}]});
    let pieces = arguments
        .iter()
        .map(|piece| event(json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})));
    let events: Vec<_> = [event(begin)].into_iter().chain(pieces).collect();
    Script::Raw(Raw::events(&events).breaks())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_that_is_complete_is_never_void() {
    for (arguments, restarts) in [(&["{\"a\"", ":{}"][..], true), (&["{\"a\"", ":{}}"], false)] {
        let upstream = Upstream::start().await.unwrap();
        let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
        upstream.script(&scene.keys[0], calls_a_tool(arguments));
        let (messages, end) = ask(&scene, on_break(OnBreak::Restart)).await;
        assert_eq!(end.is_ok(), restarts, "{end:?}");
        assert_eq!(messages.iter().any(|message| message.restarted), restarts);
        assert_eq!(scene.hits(&upstream), [1, u64::from(restarts)]);
    }
}

/// A model of Anthropic's whose first config breaks after its second piece, and whose second is asked for `upstream_model`.
async fn claude(upstream: &Upstream, upstream_model: &str) -> Scene {
    let mut scene = Scene::of_kind(Rota::shared().await, &kinds::ANTHROPIC, upstream, 2).await;
    scene
        .change_configs(|configs| {
            configs[0].upstream_model = "claude-opus-4-6".to_owned();
            configs[1].upstream_model = upstream_model.to_owned();
        })
        .await;
    upstream.script(&scene.keys[0], Script::BreakAfter(2));
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_takes_a_prefill_goes_on_from_the_text() {
    let upstream = Upstream::start().await.unwrap();
    let scene = claude(&upstream, "claude-sonnet-4-5").await;
    let (messages, end) = ask(&scene, on_break(OnBreak::Continue)).await;
    end.unwrap();
    assert!(messages.iter().all(|message| !message.restarted));
    assert_eq!(content(&messages), format!("served by served by {}", scene.keys[1]));
    let asked = upstream.requests().pop().unwrap().body;
    let last = asked["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["role"], "assistant");
    assert!(last["content"].to_string().contains("\"served by\""), "without the blank at its end: {last}");
    let route = messages.iter().rev().find_map(|message| message.route.clone()).unwrap();
    assert_eq!(route.attempts[1].after_break(), OnBreak::Continue);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_known_to_take_one_is_not_asked() {
    let upstream = Upstream::start().await.unwrap();
    let scene = claude(&upstream, "claude-opus-4-7").await;
    let (messages, end) = ask(&scene, on_break(OnBreak::Continue)).await;
    assert_eq!(told(&end.unwrap_err()), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
    assert_eq!((content(&messages).as_str(), upstream.total_hits()), ("served by ", 1));
}
