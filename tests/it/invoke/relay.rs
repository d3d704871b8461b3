//! Requests in the words of a vendor's protocol, through the engine itself: as they came where the provider speaks it, and
//! translated elsewhere.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use rota::{
    balance::{ErrorClass, OnBreak},
    catalog::{Bounds, Catalog, DatabaseOptions, MasterKeySource, OpenOptions},
    invoke::{
        CallError, CallOptions, Engine, Piece, RelayRequest, Relayed, RelayedStream, RetryBudget, Served,
        WholeAnswer,
    },
    provider::{ModelType, Networks, Registry, UpstreamClient, UpstreamOptions},
    scripted::{Raw, Script, Upstream},
    state::MemoryStore,
    telemetry::{Metrics, Traces},
    wire::{ChatRequest, Content, Endpoint, FieldError, Input, Message, Output, Protocol, TopLevel},
};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    kinds::{self, Kind},
    rota::Rota,
    sql::sqlite_url,
    world::Scene,
};

/// A scene, and an engine of its own on the same database.
struct Bed {
    scene: Scene,
    upstream: Upstream,
    catalog: Catalog,
    engine: Arc<Engine>,
    _rota: Rota,
}

impl Bed {
    async fn of(kind: &Kind, members: usize) -> Self {
        let rota = Rota::builder().start().await;
        let upstream = Upstream::start().await.unwrap();
        let scene = Scene::of_kind(&rota, kind, &upstream, members).await;
        let folder = rota.data_dir();
        let catalog = Catalog::open(OpenOptions {
            database_url: sqlite_url(&folder),
            master_key: MasterKeySource::OwnFile(folder.join("master-key")),
            networks: Networks::Private,
            database: DatabaseOptions::default(),
            bounds: Bounds::default(),
        });
        let catalog = catalog.await.unwrap();
        catalog.load().await.unwrap();
        let client = UpstreamClient::new(&UpstreamOptions::new(Networks::Private)).unwrap();
        let engine = Engine::new(
            catalog.clone(),
            Arc::new(MemoryStore::default()),
            Registry::new(client),
            RetryBudget::default(),
            Arc::new(Metrics::new(10)),
            Traces::default(),
        );
        Self { scene, upstream, catalog, engine: Arc::new(engine), _rota: rota }
    }

    async fn ask(&self, request: RelayRequest, on_break: OnBreak) -> Result<Relayed, CallError> {
        let Scene { tenant, provider, .. } = &self.scene;
        let pool = self.catalog.resolve(tenant, provider, ModelType::Llm, "chat").await.unwrap();
        let options = CallOptions {
            began: Instant::now(),
            deadline: Instant::now() + Duration::from_secs(60),
            max_attempts: 0,
            fallback: true,
            tokens: 10,
            on_break: Some(on_break),
        };
        self.engine.relay(self.engine.call(pool, options), Arc::new(request)).await
    }

    async fn whole(&self, request: RelayRequest) -> Box<Served<WholeAnswer>> {
        match self.ask(request, OnBreak::Fail).await {
            Ok(Relayed::Whole(served)) => served,
            Ok(Relayed::Stream(_)) => panic!("a stream"),
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn stream(&self, request: RelayRequest, on_break: OnBreak) -> Box<RelayedStream> {
        match self.ask(request, on_break).await {
            Ok(Relayed::Stream(stream)) => stream,
            Ok(Relayed::Whole(_)) => panic!("a whole answer"),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A request of a chat, as a client of that endpoint words it.
fn request(endpoint: Endpoint, body: &str, stream: bool) -> RelayRequest {
    let read = |_: &Bytes| {
        let hi = Message { role: "user".into(), content: Content::Text("hi".into()), ..Message::default() };
        Ok(Input::Chat(Box::new(ChatRequest { messages: vec![hi], ..ChatRequest::default() })))
    };
    RelayRequest {
        endpoint,
        body: Bytes::copy_from_slice(body.as_bytes()),
        content_type: HeaderValue::from_static("application/json"),
        query: String::new(),
        headers: HeaderMap::new(),
        stream,
        read: Box::new(read),
        input: OnceLock::new(),
        top: TopLevel::json(body.as_bytes(), Protocol::OpenAi).unwrap(),
    }
}

fn chat(stream: bool) -> RelayRequest {
    let body = format!(
        r#"{{"x":{{"new":[1.50,12345678901234567890]}}, "model" : "alias","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    request(Endpoint::ChatCompletions, &body, stream)
}

/// What is shown of a stream: each frame's data, and `+` for what was translated.
async fn shown(mut stream: Box<RelayedStream>) -> (Vec<String>, Option<CallError>) {
    let mut out = Vec::new();
    while let Some(piece) = stream.pieces.next().await {
        match piece {
            Ok(Piece::Same { frame, .. }) => out.push(String::from_utf8(frame.data).unwrap()),
            Ok(Piece::Translated(event)) => out.push(format!("+{}", event.content)),
            Ok(Piece::Bytes(bytes)) => out.push(format!("{} bytes", bytes.len())),
            Err(error) => return (out, Some(error)),
        }
    }
    (out, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_protocol_goes_as_it_came_and_fails_over() {
    let bed = Bed::of(&kinds::OPENAI, 2).await;
    let answer = "{ \"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\
        \"n\":12345678901234567890,\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3} }";
    bed.upstream.script(&bed.scene.keys[0], Script::ErrorAfter(0, (kinds::OPENAI.limited)()));
    let raw = Raw::new("application/json", answer).header("set-cookie", "a=b").header("x-request-id", "r-1");
    bed.upstream.script(&bed.scene.keys[1], Script::Raw(raw.header("x-ratelimit-remaining-tokens", "9")));
    let served = bed.whole(chat(false)).await;
    let WholeAnswer::Same { headers, body, usage, finish_reason, .. } = &served.reply else {
        panic!("translated")
    };
    assert_eq!((&body[..], usage.unwrap().total, finish_reason.as_str()), (answer.as_bytes(), 8, "stop"));
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "x-upstream-request-id"]);
    let attempts: Vec<_> = served.route.attempts.iter().map(|attempt| attempt.class).collect();
    assert_eq!(attempts, [Some(ErrorClass::RateLimited), None], "an error under 200 moves on");
    for sent in bed.upstream.requests() {
        assert_eq!((&sent.body["model"], &sent.body["stream"]), (&json!("chat"), &json!(false)));
        assert_eq!(sent.body["x"].to_string(), r#"{"new":[1.50,12345678901234567890]}"#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_its_frames_and_hides_the_usage_that_nobody_asked_for() {
    let bed = Bed::of(&kinds::OPENAI, 2).await;
    let role = r#"{"choices":[{"delta":{"role":"assistant"}}], "a":1.50}"#;
    let content = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
    let end = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}"#;
    let text: String =
        [role, content, end, usage, "[DONE]"].iter().map(|data| format!("data: {data}\n\n")).collect();
    bed.upstream.script(&bed.scene.keys[0], Script::ErrorAfter(0, (kinds::OPENAI.limited)()));
    bed.upstream.script(&bed.scene.keys[1], Script::Raw(Raw::stream(text)));
    let stream = bed.stream(chat(true), OnBreak::Fail).await;
    let (frames, error) = shown(stream).await;
    assert!(error.is_none());
    assert_eq!(frames, [role, content, end]);
    assert_eq!(bed.upstream.requests()[1].body["stream_options"], json!({"include_usage": true}));
    // A caller who has asked sees it.
    let body = r#"{"model":"chat","stream":true,"stream_options":{"include_usage":true}}"#;
    let (frames, _) =
        shown(bed.stream(request(Endpoint::ChatCompletions, body, true), OnBreak::Fail).await).await;
    assert_eq!(frames.last().map(String::as_str), Some(usage));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_is_a_failure_or_goes_on_where_a_prefill_is_taken() {
    let bed = Bed::of(&kinds::OPENAI, 2).await;
    bed.upstream.script(&bed.scene.keys[0], Script::BreakAfter(1));
    let (frames, error) = shown(bed.stream(chat(true), OnBreak::Restart).await).await;
    assert!(matches!(error, Some(CallError::Upstream { .. })), "what was sent cannot be void: {error:?}");
    assert!(!frames.is_empty());

    let body = r#"{"model":"chat","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    for (model, goes_on) in [("claude-sonnet-4-5", true), ("claude-opus-4-7", false)] {
        let mut bed = Bed::of(&kinds::ANTHROPIC, 2).await;
        bed.scene.change_configs(|configs| configs[1].upstream_model = model.to_owned()).await;
        bed.catalog.load().await.unwrap();
        bed.upstream.script(&bed.scene.keys[0], Script::BreakAfter(2));
        let stream = bed.stream(request(Endpoint::Messages, body, true), OnBreak::Continue).await;
        let (pieces, error) = shown(stream).await;
        assert_eq!(error.is_none(), goes_on, "{model}: {error:?}");
        assert!(pieces[0].contains("message_start"), "what came before the content as well: {pieces:?}");
        let rest: String = pieces.iter().filter_map(|piece| piece.strip_prefix('+')).collect();
        let expected = if goes_on { format!("served by {}", bed.scene.keys[1]) } else { String::new() };
        assert_eq!(rest, expected, "the rest is written anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_is_translated() {
    let bed = Bed::of(&kinds::ANTHROPIC, 2).await;
    let served = bed.whole(chat(false)).await;
    let WholeAnswer::Translated(Output::Chat(reply)) = &served.reply else { panic!("as it came") };
    assert_eq!(reply.choice.message.content.text(), format!("served by {}", bed.scene.keys[0]));
    let (pieces, error) = shown(bed.stream(chat(true), OnBreak::Fail).await).await;
    assert!(error.is_none() && pieces.iter().all(|piece| piece.starts_with('+')), "{pieces:?}");
    // What cannot be said is the request's fault.
    let refused =
        RelayRequest { read: Box::new(|_| Err(FieldError::new("n", "is 1 at most"))), ..chat(false) };
    let error = bed.ask(refused, OnBreak::Fail).await.map(drop).unwrap_err();
    assert!(matches!(error, CallError::Unwritable { field, .. } if field == "n"));
    let images = request(Endpoint::Images, r#"{"model":"chat","prompt":"a"}"#, false);
    let error = bed.ask(images, OnBreak::Fail).await.map(drop).unwrap_err();
    assert!(matches!(error, CallError::Unsupported("anthropic")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_the_server_does_not_know_is_translated() {
    let bed = Bed::of(&kinds::OPENAI_COMPATIBLE, 2).await;
    let body = r#"{"model":"chat","messages":[{"role":"developer","content":"hi"}]}"#;
    let served = bed.whole(request(Endpoint::ChatCompletions, body, false)).await;
    assert!(matches!(served.reply, WholeAnswer::Translated(_)));
    let served = bed.whole(chat(false)).await;
    assert!(matches!(served.reply, WholeAnswer::Same { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_always_has_an_answer_and_cools_nobody() {
    let bed = Bed::of(&kinds::ANTHROPIC, 2).await;
    let body = r#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"#;
    let count = || request(Endpoint::MessagesCountTokens, body, false);
    assert!(matches!(bed.whole(count()).await.reply, WholeAnswer::Same { .. }));
    for key in &bed.scene.keys {
        bed.upstream.script(key, Script::fail(500));
    }
    assert!(matches!(bed.whole(count()).await.reply, WholeAnswer::Translated(Output::Tokens(1..))));
    for key in &bed.scene.keys {
        bed.upstream.script(key, Script::Answer);
    }
    let served = bed.whole(chat(false)).await;
    assert_eq!(served.route.attempts.len(), 1);
}
