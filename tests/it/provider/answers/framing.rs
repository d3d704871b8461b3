//! How the bytes of an answer are put: ends that are not neat, other line ends, streams nobody asked for, packed
//! bodies.

use std::time::Duration;

use async_compression::tokio::bufread::GzipEncoder;
use base64::{Engine, prelude::BASE64_STANDARD};
use rota::{
    api::pb::ErrorClass,
    scripted::{Framing, Raw, Script},
};
use serde_json::json;
use tokio::{io::AsyncReadExt, time::Instant};

use super::{DONE, RPCS, Rig, Rpc, answered, chunk, end};
use crate::support::{
    kinds::{ANTHROPIC, AZURE_OPENAI, COHERE, GEMINI, Kind, OPENAI, OPENAI_COMPATIBLE},
    rota::Rota,
};

const KINDS: [&Kind; 4] = [&OPENAI_COMPATIBLE, &ANTHROPIC, &GEMINI, &COHERE];

// <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation> for line ends, the byte
// order mark, spaces and comments; <https://github.com/openai/openai-node/issues/2725> and
// <https://github.com/google-gemini/gemini-cli/issues/29059> for ends that are not neat; `[DONE]` behind Cohere's
// `message-end`: 41 of 43 recorded streams.
#[tokio::test(flavor = "multi_thread")]
async fn however_a_good_stream_is_put_it_is_whole() {
    for kind in KINDS {
        let rig = Rig::start(kind).await;
        for framing in Framing::ALL {
            rig.now(&Script::Framed(framing));
            let outcome = rig.call(Rpc::Stream).await;
            let (text, finish) = outcome.said();
            assert!(
                text.starts_with("served by key-") && finish == "stop",
                "{} {framing:?}: {text}",
                kind.name
            );
            let usage = outcome.usage();
            let counted =
                (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens);
            assert_eq!(counted, (10, 3, 13, 2), "{} {framing:?}", kind.name);
            assert_eq!((outcome.attempts.len(), rig.cooling().await), (1, Vec::new()), "{framing:?}");
        }
    }
}

// <https://github.com/maximhq/bifrost/issues/5874>, <https://github.com/MiniMax-AI/MiniMax-M2.5/issues/2>: also events
// that are no chunks.
#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_between_the_events_is_read_over() {
    let beats = [
        json!({"type": "heartbeat"}),
        json!({"choices": []}),
        chunk(json!({"role": "", "reasoning_content": ""})),
    ];
    let beats: String = beats.iter().map(|beat| format!("data: {beat}\n\n: x\n\ndata: ping\n\n")).collect();
    let [a, b, last] = [chunk(json!({"content": "a"})), chunk(json!({"content": "b"})), end("stop")];
    let text = format!("{beats}data: {a}\n\n{beats}data: {b}\n\n{beats}data: {last}\n\n{beats}{DONE}");
    let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Stream, Script::Raw(Raw::stream(text))).await;
    assert_eq!((outcome.said(), outcome.attempts.len()), (("ab".into(), "stop".into()), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_event_is_an_error() {
    let text = format!("data: {}\n\ndata: {}", chunk(json!({"content": "served"})), end("stop"));
    let half = &text[..text.len() - 9];
    let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Stream, Script::Raw(Raw::stream(half.to_owned()))).await;
    assert_eq!(
        (outcome.reason.as_str(), outcome.message().content.as_str()),
        ("UPSTREAM_CONNECTION", "served")
    );
    let broken = format!("data: {}\n\ndata: {{\"choices\":\n\n{DONE}", chunk(json!({"content": "served"})));
    let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Stream, Script::Raw(Raw::stream(broken))).await;
    assert_eq!(outcome.reason, "UPSTREAM_SERVER_ERROR");
}

// Behind the finish reason nothing but the usage can follow, and that is waited for at most a second.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_finish_reason_the_usage_is_waited_for_a_second() {
    let said = format!("data: {}\n\ndata: {}\n\n", chunk(json!({"content": "served"})), end("stop"));
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n";
    let late = Raw::stream(said.clone()).wait(Duration::from_millis(300)).then(usage);
    for (raw, total) in [
        (late.clone().then(DONE), 7),
        (late.clone().breaks(), 7),
        (late.stalls(), 7),
        (Raw::stream(said.clone()).stalls(), 0),
        (Raw::stream(said).breaks(), 0),
    ] {
        let began = Instant::now();
        let rig = Rig::both(&OPENAI_COMPATIBLE, Script::Raw(raw.clone())).await;
        let outcome = rig.call(Rpc::Stream).await;
        assert_eq!(outcome.said(), ("served".into(), "stop".into()), "{raw:?}");
        assert_eq!(outcome.usage().total_tokens, total, "{raw:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{raw:?}: {:?}", began.elapsed());
        assert_eq!(rig.cooling().await, Vec::<String>::new(), "{raw:?}");
    }
}

// The first bytes tell what it is, not the content type.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_for_a_whole_answer_and_the_other_way_round_are_read() {
    for kind in KINDS {
        let rig = Rig::both(kind, Script::Otherwise).await;
        for rpc in RPCS {
            let outcome = rig.call(rpc).await;
            let (text, finish) = outcome.said();
            assert!(text.starts_with("served by key-") && finish == "stop", "{} {rpc:?}: {text}", kind.name);
            assert_eq!(outcome.usage().total_tokens, 13, "{} {rpc:?}", kind.name);
        }
    }
    let text = format!("data: {}\n\ndata: {}\n\n{DONE}", chunk(json!({"content": "good"})), end("stop"));
    for rpc in RPCS {
        for content_type in ["text/plain", "application/json", "application/octet-stream"] {
            let raw = Raw::new(content_type, text.clone());
            let outcome = answered(&OPENAI_COMPATIBLE, rpc, Script::Raw(raw)).await;
            assert_eq!(outcome.said(), ("good".into(), "stop".into()), "{content_type} {rpc:?}");
        }
    }
}

// A page that is not the protocol at all moves on.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_page_moves_on() {
    for rpc in RPCS {
        let page = Raw::new("text/html", "<!DOCTYPE html><html><body>Sign in</body></html>");
        let rig = Rig::first(&OPENAI_COMPATIBLE, Script::Raw(page)).await;
        let outcome = rig.call(rpc).await;
        assert_eq!(outcome.text(), format!("served by {}", rig.scene.keys[1]), "{rpc:?}");
        assert_eq!(outcome.attempts.len(), 2);
    }
}

// RFC 9110 section 8.4: <https://www.rfc-editor.org/rfc/rfc9110#section-8.4>; zstd: RFC 8878. `deflate` means zlib's
// format there, and bare deflate with some servers.
const PACKED: [(&str, &str, &str); 5] = [
    (
        "gzip",
        "H4sIAAAAAAACAw3JQQrDMAxE0bvM2ouufZVQinCUWrSRgseBgvHd69V/8AdKDStK5G3AfNcf8iPhVFLeijzQ4rsKIY1dvCOhhHddyrj9kvLRHTPhMDfWV1Nh+HrscWE+5x+inpK2ZAAAAA==",
        "H4sIAAAAAAACA0tJLEm0UqhWSs7Iz0xOLVayiq5WysxLSa1QsjLQUUpJzSlJVLICSufnlaTmlShZKZXmFSQmZ6emKNXWxtZycaUQpb9WRyktMy+zOCO+KDWxOD8PaE5xSX6BEpIR0S7+fq6xXFwAYQqlOZEAAAA=",
    ),
    (
        "deflate",
        "eJwNyUEKwzAMRNG7zNqLrn2VUIpwlFq0kYLHgYLx3evVf/AHSg0rSuRtwHzXH/Ij4VRS3oo80OK7CiGNXbwjoYR3Xcq4/ZLy0R0z4TA31ldTYfh67HFhPucfxegi8A==",
        "eJxLSSxJtFKoVkrOyM9MTi1WsoquVsrMS0mtULIy0FFKSc0pSVSyAkrn55Wk5pUoWSmV5hUkJmenpijV1sbWcnGlEKW/VkcpLTMvszgjvig1sTg/D2hOcUl+gRKSEdEu/n6usVxcAPPJMAc=",
    ),
    (
        "deflate",
        "DclBCsMwDETRu8zai659lVCKcJRatJGCx4GC8d3r1X/wB0oNK0rkbcB81x/yI+FUUt6KPNDiuwohjV28I6GEd13KuP2S8tEdM+EwN9ZXU2H4euxxYT7nHw==",
        "eJxLSSxJtFKoVkrOyM9MTi1WsoquVsrMS0mtULIy0FFKSc0pSVSyAkrn55Wk5pUoWSmV5hUkJmenpijV1sbWcnGlEKW/VkcpLTMvszgjvig1sTg/D2hOcUl+gRKSEdEu/n6usVxcAPPJMAc=",
    ),
    (
        "br",
        "G2MAYJwHdoPzBVpYwOnopg+1yN4WzHKrax2Wrr4t8kVW1m1s7CvfJXiCCJpFL3AbPq8qOMp5uOXpPhZHk7UFkCnhQYTe57k0hiXADYJ2",
        "G5AAEKyKd0BVOLo40fG4mFMvGH8tsgWztxVYuvokiFtd64iQ9U2Rvb4U+SpzygF72AJq1+SRXOk6Ob6ebw+kotpCChzuwlKCZdo9Ob24RB+e3+DNmlIVNBpfYP/EDgA=",
    ),
    (
        "zstd",
        "KLUv/SBknQIAQsYTGJApLQYTyshmLYKvW/ySCPyqOhk8eXI/JSmQRvTsderaJYJjMXFwSRtXMIYk4vrknVRz+aSdxV27PoMmo/oItnuHS1EnzkgcAeo9g3qYUQA=",
        "KLUv/SCR9QIAAoYUGYA5bVwbBWfLIDJBsRs7anMc3QQBZiTGTg9ViWBACCBfTJ/b2ZzTREE5y2v4kapSktJTD3gLK25v1maDR/ZrhOYPgH2hyXuE2I/iGgWPDLu+DAIAGGEM4PCEKA==",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_packed_unasked_is_unpacked() {
    let rig = Rig::start(&OPENAI_COMPATIBLE).await;
    for (coding, whole, stream) in PACKED {
        for (rpc, body) in [(Rpc::Whole, whole), (Rpc::Stream, stream)] {
            let bytes = BASE64_STANDARD.decode(body).unwrap();
            let raw = Raw::new("application/json", bytes).header("content-encoding", coding);
            rig.now(&Script::Raw(raw));
            assert_eq!(rig.call(rpc).await.said(), ("unpacked".into(), "stop".into()), "{coding} {rpc:?}");
            let sent = rig.upstream.requests().pop().unwrap();
            assert_eq!(sent.headers["accept-encoding"], "identity");
        }
    }
    // So is an error.
    let error = "H4sIAAAAAAACA6tWSi0qyi9SsqpWyk0tLk5MT1WyUipITM5OTVEozy9KKVbSUSqpLACJZuaVJeZkpsQXpRaWphaXxEM01tYCAHt0q3hDAAAA";
    let raw = Raw::new("application/json", BASE64_STANDARD.decode(error).unwrap());
    let raw = raw.status(400).header("content-encoding", "gzip");
    let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Whole, Script::Raw(raw)).await;
    assert_eq!(outcome.reason, "UPSTREAM_BAD_REQUEST");
    assert!(outcome.words.contains("packed words"), "{}", outcome.words);
}

// The bound on answers holds for what comes out: a small body may become a large one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_unpacked_stays_within_the_bound_on_answers() {
    let large = format!("{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}]}}", "x".repeat(4 << 20));
    let mut packed = Vec::new();
    GzipEncoder::new(large.as_bytes()).read_to_end(&mut packed).await.unwrap();
    assert!(packed.len() < 100_000);
    let rota = Rota::builder().arg("--upstream-max-answer").arg("1MiB").start().await;
    let rig = Rig::on(&rota, &OPENAI_COMPATIBLE).await;
    let raw = Raw::new("application/json", packed).header("content-encoding", "gzip");
    rig.upstream.script(&rig.scene.keys[0], Script::Raw(raw));
    let outcome = rig.call(Rpc::Whole).await;
    assert_eq!(outcome.classes(), [ErrorClass::ServerError, ErrorClass::Unspecified]);
    assert!(outcome.attempts[0].message.contains("too large"), "{}", outcome.attempts[0].message);
}

// Some servers stream unless they are told otherwise (<https://docs.ollama.com/api/streaming>).
#[tokio::test(flavor = "multi_thread")]
async fn whether_to_stream_is_always_said() {
    for kind in [&OPENAI, &OPENAI_COMPATIBLE, &AZURE_OPENAI, &ANTHROPIC, &COHERE] {
        let rig = Rig::start(kind).await;
        for rpc in RPCS {
            rig.call(rpc).await.text();
            assert_eq!(rig.sent()["stream"], rpc == Rpc::Stream, "{} {rpc:?}", kind.name);
        }
    }
}
