//! Streamed calls: they move on until the first content, never after, and end where their reader does.

use std::time::Duration;

use rota::{
    api::pb::{ErrorClass, StreamLlmResponse},
    scripted::{Script, Upstream},
};
use tokio::time::Instant;
use tonic::Code;

use crate::support::{
    eventually,
    failure::{classes, error, route, span, told},
    kinds::{Kind, on_every_kind},
    read,
    rota::Rota,
    world::Scene,
};

on_every_kind!(
    a_streamed_call_moves_on_until_the_first_content,
    a_malformed_frame_before_the_first_content_moves_on,
    after_the_first_content_a_break_ends_the_stream,
    a_cancelled_stream_ends_upstream_and_gives_back_what_it_held,
    a_cancelled_stream_ends_upstream_at_once,
    a_cancelled_call_ends_upstream_and_gives_back_what_it_held,
);

const SOON: Duration = Duration::from_secs(2);

/// The text of a streamed answer.
pub fn content(messages: &[StreamLlmResponse]) -> String {
    messages.iter().filter_map(|message| Some(message.delta.as_ref()?.content.as_str())).collect()
}

async fn a_streamed_call_moves_on_until_the_first_content(rota: &Rota, kind: &Kind) {
    for (script, class) in [
        (Script::fail_for(429, "60"), ErrorClass::RateLimited),
        (Script::fail(503), ErrorClass::ServerError),
        (Script::ErrorAfter(0, (kind.limited)()), ErrorClass::RateLimited),
        (Script::Close, ErrorClass::Connection),
        (Script::BreakAfter(0), ErrorClass::Connection),
        (Script::EndAfter(0), ErrorClass::Connection),
    ] {
        let upstream = Upstream::start().await.unwrap();
        let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
        let what = format!("{script:?}");
        upstream.script(&scene.keys[0], script);
        let mut failures = Vec::new();
        for _ in 0..2 {
            let messages = scene.ask_stream().await.unwrap_or_else(|status| panic!("{what}: {status:?}"));
            // No text of the attempt that failed, none twice.
            assert_eq!(content(&messages), format!("served by {}", scene.keys[1]), "{what}");
            let attempts = messages[0].route.clone().unwrap().attempts;
            failures.extend(attempts.into_iter().filter(|attempt| attempt.config_name == "config-0"));
        }
        assert_eq!(classes(&failures), [class], "{what}");
        assert_eq!(scene.hits(&upstream), [1, 2], "{what}");
        assert_eq!(scene.configs_now().await[0].cooldown_reason(), class, "{what}");
    }
}

async fn a_malformed_frame_before_the_first_content_moves_on(rota: &Rota, kind: &Kind) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
    upstream.script(&scene.keys[0], Script::sequence([Script::MalformedJson, Script::Answer]));
    let mut failures = Vec::new();
    while failures.is_empty() {
        let route = scene.ask_stream().await.unwrap().remove(0).route.unwrap();
        failures.extend(route.attempts.into_iter().filter(|attempt| attempt.config_id != route.config_id));
    }
    assert_eq!(classes(&failures), [ErrorClass::ServerError]);
    // A single broken answer of the server cools nobody: the next turn is its own again.
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
    scene.ask_stream().await.unwrap();
    assert_eq!(scene.hits(&upstream)[0], 2);
}

async fn after_the_first_content_a_break_ends_the_stream(rota: &Rota, kind: &Kind) {
    for (script, code, reason, class) in [
        (Script::BreakAfter(2), Code::Unavailable, "UPSTREAM_CONNECTION", ErrorClass::Connection),
        (Script::EndAfter(2), Code::Unavailable, "UPSTREAM_CONNECTION", ErrorClass::Connection),
        (
            Script::ErrorAfter(2, (kind.limited)()),
            Code::ResourceExhausted,
            "UPSTREAM_RATE_LIMITED",
            ErrorClass::RateLimited,
        ),
    ] {
        let upstream = Upstream::start().await.unwrap();
        let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
        let what = format!("{script:?}");
        upstream.script(&scene.keys[0], script);
        let mut broken = None;
        while broken.is_none() {
            let other = upstream.hits(&scene.keys[1]);
            let (messages, end) = read(scene.open_stream().await.unwrap()).await;
            match end {
                Ok(()) => assert!(upstream.hits(&scene.keys[1]) < 3, "{what}: not broken"),
                Err(status) => broken = Some((messages, status, other)),
            }
        }
        let (messages, status, other) = broken.unwrap();
        assert_eq!(content(&messages), "served by ", "{what}");
        assert_eq!(told(&status), error(code, reason), "{what}");
        assert_eq!(classes(&route(&status).attempts), [class], "{what}");
        // No other key was asked, and the next call already is the other's.
        assert_eq!(scene.hits(&upstream), [1, other], "{what}");
        let cooling = scene.configs_now().await.remove(0);
        assert!(cooling.in_cooldown && cooling.cooldown_reason() == class, "{what}: {cooling:?}");
        for _ in 0..2 {
            scene.ask_stream().await.unwrap();
        }
        assert_eq!(upstream.hits(&scene.keys[0]), 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_comes_first_and_the_usage_last() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 3).await;
    for _ in 0..6 {
        let messages = scene.ask_stream().await.unwrap();
        let (first, rest) = messages.split_first().unwrap();
        let route = first.route.as_ref().unwrap();
        let index = scene.configs.iter().position(|config| config.id == route.config_id).unwrap();
        assert_eq!(route.attempts.len(), 1);
        assert_eq!(content(&messages), format!("served by {}", scene.keys[index]));
        assert!(rest.iter().all(|message| message.route.is_none()), "{rest:?}");

        let (last, before) = messages.split_last().unwrap();
        let usage = last.usage.as_ref().unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (10, 3, 13));
        assert!(span(usage.time_to_first_token) <= span(usage.latency), "{usage:?}");
        assert!(before.iter().all(|message| message.usage.is_none()));
        let reasons: Vec<_> = messages.iter().map(|message| message.finish_reason.as_str()).collect();
        assert_eq!(reasons.iter().filter(|reason| !reason.is_empty()).collect::<Vec<_>>(), [&"stop"]);
    }
    // Streams take turns as all calls do.
    assert_eq!(scene.hits(&upstream), [2, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_stream_comes_piece_by_piece() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    for key in &scene.keys {
        // Nothing comes after the first piece.
        upstream.script(key, Script::StallAfter(1));
    }
    let mut stream = scene.open_stream().await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.delta.unwrap().content.as_str(), upstream.in_flight()), ("served ", 1));

    for key in &scene.keys {
        upstream.script(key, Script::Slow(Duration::from_millis(100)));
    }
    let mut stream = scene.open_stream().await.unwrap();
    let mut early = 0;
    while let Some(message) = stream.message().await.unwrap() {
        // Its own request and the stalled one.
        early += usize::from(
            message.delta.is_some_and(|delta| !delta.content.is_empty()) && upstream.in_flight() == 2,
        );
    }
    assert_eq!(early, 3, "pieces that came before the provider was done");
}

/// Waits until nothing is upstream and no config counts a call.
async fn all_given_back(scene: &Scene, upstream: &Upstream) {
    eventually(SOON, async || match (upstream.in_flight(), upstream.cancelled()) {
        (0, 1) => Ok(()),
        other => Err(format!("in flight and cancelled upstream: {other:?}")),
    })
    .await;
    eventually(SOON, async || {
        let counts: Vec<_> = scene.configs_now().await.iter().map(|config| config.in_flight).collect();
        if counts == [0, 0] { Ok(()) } else { Err(format!("in flight: {counts:?}")) }
    })
    .await;
    // The caller's own doing: nobody cools for it.
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
}

/// Waits until exactly one call is counted.
async fn one_in_flight(scene: &Scene) {
    eventually(SOON, async || {
        let counts: Vec<_> = scene.configs_now().await.iter().map(|config| config.in_flight).collect();
        if counts.iter().sum::<i32>() == 1 { Ok(()) } else { Err(format!("in flight: {counts:?}")) }
    })
    .await;
}

async fn a_cancelled_stream_ends_upstream_and_gives_back_what_it_held(rota: &Rota, kind: &Kind) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::StallAfter(1));
    }
    let mut stream = scene.open_stream().await.unwrap();
    stream.message().await.unwrap().unwrap();
    one_in_flight(&scene).await;
    assert_eq!((upstream.in_flight(), upstream.cancelled()), (1, 0));
    drop(stream);
    all_given_back(&scene, &upstream).await;
}

async fn a_cancelled_call_ends_upstream_and_gives_back_what_it_held(rota: &Rota, kind: &Kind) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::Hang);
    }
    let caller = scene.clone();
    let call = tokio::spawn(async move { caller.ask().await });
    one_in_flight(&scene).await;
    eventually(SOON, async || match upstream.in_flight() {
        1 => Ok(()),
        other => Err(format!("{other} in flight")),
    })
    .await;
    call.abort();
    all_given_back(&scene, &upstream).await;
}

async fn a_cancelled_stream_ends_upstream_at_once(rota: &Rota, kind: &Kind) {
    const AT_ONCE: Duration = Duration::from_millis(100);
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::StallAfter(1));
    }
    let mut took = Vec::new();
    // A busy machine may be slow, but not every time.
    for round in 1..=5 {
        let mut stream = scene.open_stream().await.unwrap();
        stream.message().await.unwrap().unwrap();
        let began = Instant::now();
        drop(stream);
        eventually(SOON, async || if upstream.cancelled() == round { Ok(()) } else { Err("not yet".into()) })
            .await;
        took.push(began.elapsed());
    }
    assert!(took.iter().min() < Some(&AT_ONCE), "{took:?}");
}
