//! Dify's cases of streams and audio, by number, over every RPC that they concern. Case 31 is also in `counting`, case 33
//! in `speech_out`.

use std::time::Duration;

use rota::{
    api::pb::{
        BalancingPolicy, CountTokensRequest, ErrorClass, ForwardRequest, InvokeSpeechToTextRequest,
        InvokeTtsRequest, ModelType, Route, StreamLlmRequest,
    },
    scripted::{Script, Upstream},
};
use tonic::{Code, Status};

use crate::support::{
    failure::{classes, error, route, told},
    on_both_states, read,
    rota::Rota,
    world::{Scene, hi},
};

on_both_states!(
    case_26_a_rate_limit_before_the_first_content_moves_on,
    case_27_a_break_after_some_content_ends_the_stream_and_cools,
    case_28_silence_before_the_first_content_moves_on_in_time,
    case_29_a_dead_key_before_the_first_audio_moves_on,
    case_30_speech_to_text_sends_the_same_bytes_again,
    case_31_counting_takes_no_slot_of_streams,
);

/// The RPCs whose answer is a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rpc {
    StreamLlm,
    InvokeTts,
    Forward,
}

const RPCS: [Rpc; 3] = [Rpc::StreamLlm, Rpc::InvokeTts, Rpc::Forward];

/// What came of a stream: its content as bytes, the route of its first message, and how it ended.
struct Read {
    content: Vec<u8>,
    route: Option<Route>,
    end: Result<(), Status>,
}

impl Rpc {
    async fn scene(self, rota: &Rota, upstream: &Upstream) -> Scene {
        let mut scene = Scene::tenant(rota).await;
        if self == Self::InvokeTts {
            scene.key.model_type = ModelType::Tts.into();
        }
        scene.add_model(&upstream.base_url()).await;
        scene.add_configs(2).await;
        scene.enable().await;
        scene
    }

    /// Calls and reads to the end. `Err` where nothing came.
    async fn call(self, scene: &Scene) -> Result<Read, Status> {
        let key = Some(scene.key.clone());
        let mut client = scene.clients.invoke.clone();
        Ok(match self {
            Self::StreamLlm => {
                let request = StreamLlmRequest { key, messages: vec![hi()], ..Default::default() };
                let (messages, end) = read(client.stream_llm(request).await?.into_inner()).await;
                let text = messages.iter().filter_map(|message| message.delta.as_ref());
                let content = text.flat_map(|delta| delta.content.bytes()).collect();
                Read { content, route: messages.into_iter().next().and_then(|first| first.route), end }
            }
            Self::InvokeTts => {
                let request = InvokeTtsRequest { key, text: "Hi".into(), ..Default::default() };
                let (messages, end) = read(client.invoke_tts(request).await?.into_inner()).await;
                let content = messages.iter().flat_map(|message| message.audio.clone()).collect();
                Read { content, route: messages.into_iter().next().and_then(|first| first.route), end }
            }
            Self::Forward => {
                let request = ForwardRequest {
                    key,
                    method: "GET".into(),
                    path: "anything".into(),
                    query: "pieces=6".into(),
                    ..Default::default()
                };
                let (messages, end) = read(client.forward(request).await?.into_inner()).await;
                let content = messages.iter().flat_map(|message| message.body.clone()).collect();
                Read { content, route: messages.into_iter().next().and_then(|first| first.route), end }
            }
        })
    }
}

async fn case_26_a_rate_limit_before_the_first_content_moves_on(rota: &Rota) {
    for rpc in RPCS {
        let upstream = Upstream::start().await.unwrap();
        let scene = rpc.scene(rota, &upstream).await;
        upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
        let read = rpc.call(&scene).await.unwrap();
        read.end.unwrap();
        let attempts = read.route.unwrap().attempts;
        assert_eq!(classes(&attempts), [ErrorClass::RateLimited, ErrorClass::Unspecified], "{rpc:?}");
        assert_eq!(scene.configs_now().await[0].cooldown_reason(), ErrorClass::RateLimited, "{rpc:?}");
        assert_eq!(scene.hits(&upstream), [1, 1], "{rpc:?}");
    }
}

async fn case_27_a_break_after_some_content_ends_the_stream_and_cools(rota: &Rota) {
    for rpc in RPCS {
        let upstream = Upstream::start().await.unwrap();
        let scene = rpc.scene(rota, &upstream).await;
        upstream.script(&scene.keys[0], Script::BreakAfter(2));
        let read = rpc.call(&scene).await.unwrap();
        assert!(!read.content.is_empty(), "{rpc:?}");
        let status = read.end.unwrap_err();
        assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_CONNECTION"), "{rpc:?}");
        assert_eq!(classes(&route(&status).attempts), [ErrorClass::Connection], "{rpc:?}");
        assert_eq!(scene.configs_now().await[0].cooldown_reason(), ErrorClass::Connection, "{rpc:?}");
        assert_eq!(scene.hits(&upstream), [1, 0], "{rpc:?}: no silent switch");
    }
}

async fn case_28_silence_before_the_first_content_moves_on_in_time(rota: &Rota) {
    for rpc in RPCS {
        let upstream = Upstream::start().await.unwrap();
        let scene = rpc.scene(rota, &upstream).await;
        let limit = Some(Duration::from_millis(300).try_into().unwrap());
        let policy =
            BalancingPolicy { first_token_timeout: limit, attempt_timeout: limit, ..Default::default() };
        scene.set_policy(policy).await;
        // The head of an answer is content enough for a forwarded request.
        let silence = if rpc == Rpc::Forward { Script::Hang } else { Script::StallAfter(0) };
        upstream.script(&scene.keys[0], silence);
        let read = rpc.call(&scene).await.unwrap();
        read.end.unwrap();
        let attempts = read.route.unwrap().attempts;
        assert_eq!(classes(&attempts), [ErrorClass::Timeout, ErrorClass::Unspecified], "{rpc:?}");
    }
}

async fn case_29_a_dead_key_before_the_first_audio_moves_on(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Rpc::InvokeTts.scene(rota, &upstream).await;
    upstream.script(&scene.keys[0], Script::fail(401));
    let read = Rpc::InvokeTts.call(&scene).await.unwrap();
    read.end.unwrap();
    assert_eq!(read.content, format!("ID3served by {}", scene.keys[1]).into_bytes());
    let attempts = read.route.unwrap().attempts;
    assert_eq!(classes(&attempts), [ErrorClass::Authentication, ErrorClass::Unspecified]);
}

async fn case_30_speech_to_text_sends_the_same_bytes_again(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(rota).await;
    scene.key.model_type = ModelType::SpeechToText.into();
    scene.add_model(&upstream.base_url()).await;
    scene.add_configs(2).await;
    scene.enable().await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    let request = InvokeSpeechToTextRequest {
        key: Some(scene.key.clone()),
        audio: b"RIFF and the whole recording".to_vec(),
        filename: "a.wav".into(),
        ..Default::default()
    };
    let answer = scene.clients.invoke.clone().invoke_speech_to_text(request).await.unwrap().into_inner();
    assert_eq!(answer.text, "a.wav");
    let sent: Vec<_> = upstream.requests().into_iter().map(|request| request.body.to_string()).collect();
    assert_eq!(sent.len(), 2);
    for body in sent {
        assert!(body.contains("RIFF and the whole recording"), "{body}");
    }
}

async fn case_31_counting_takes_no_slot_of_streams(rota: &Rota) {
    for rpc in RPCS {
        let upstream = Upstream::start().await.unwrap();
        let scene = rpc.scene(rota, &upstream).await;
        for _ in 0..10 {
            let request = CountTokensRequest {
                key: Some(scene.key.clone()),
                texts: vec!["Hi".into()],
                ..Default::default()
            };
            scene.clients.invoke.clone().count_tokens(request).await.unwrap();
            rpc.call(&scene).await.unwrap().end.unwrap();
        }
        assert_eq!(scene.hits(&upstream), [5, 5], "{rpc:?}");
    }
}
