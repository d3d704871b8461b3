//! The drivers against a scripted upstream, over HTTP.

use crate::support::until;
use futures::StreamExt;
use rota::{
    balance::{ErrorClass, Failure},
    provider::{Driver, Networks, Registry, Target, UpstreamClient, UpstreamOptions, check_url, kind, kinds},
    scripted::{Script, Upstream},
    wire::{
        ChatEvent, ChatReply, ChatRequest, Content, EmbeddingInputs, EmbeddingRequest, Message, TokenUsage,
        Tool, ToolCall,
    },
};
use serde_json::{Value, json};
use std::time::Duration;

/// A key that is not a common word, so that its absence means something.
const KEY: &str = "key-hunter2hunter2";

struct Rig {
    upstream: Upstream,
    drivers: Registry,
    kind: String,
}

impl Rig {
    async fn start(kind: &str) -> Self {
        let client = UpstreamClient::new(&UpstreamOptions::new(Networks::Private)).unwrap();
        Self {
            upstream: Upstream::start().await.unwrap(),
            drivers: Registry::new(client),
            kind: kind.to_owned(),
        }
    }

    fn driver(&self) -> &dyn Driver {
        self.drivers.get(&self.kind).unwrap()
    }

    async fn scripted(script: Script) -> Self {
        let rig = Self::start("openai_compatible").await;
        rig.upstream.script(KEY, script);
        rig
    }

    fn target(&self) -> Target {
        Target {
            tenant: uuid::Uuid::nil(),
            base_url: self.upstream.base_url().parse().unwrap(),
            model: "m".into(),
            fields: [("api_key".to_owned(), KEY.into()), ("organization".to_owned(), "org-1234".into())]
                .into(),
            switches: rota::wire::Switches::NONE,
            connect_timeout: None,
        }
    }

    async fn chat(&self) -> Result<Box<ChatReply>, Failure> {
        self.driver().chat(&self.target(), &hello()).await.map(|whole| whole.reply)
    }

    async fn stream(&self) -> Result<Vec<Result<ChatEvent, Failure>>, Failure> {
        Ok(self.driver().chat_stream(&self.target(), &hello()).await?.collect().await)
    }

    async fn settled(&self) {
        until("no request in flight", async || self.upstream.in_flight() == 0).await;
    }
}

fn hello() -> ChatRequest {
    let message = Message { role: "user".into(), content: Content::Text("hi".into()), ..Message::default() };
    ChatRequest { messages: vec![message], ..ChatRequest::default() }
}

fn with_tool() -> ChatRequest {
    let parameters = json!({"type": "object"}).as_object().cloned();
    ChatRequest {
        tools: vec![Tool { name: "weather".into(), description: "d".into(), parameters, ..Tool::default() }],
        ..hello()
    }
}

fn text(events: &[Result<ChatEvent, Failure>]) -> String {
    events.iter().flatten().map(|event| event.content.as_str()).collect()
}

fn usage() -> TokenUsage {
    TokenUsage { prompt: 10, completion: 3, total: 13, cached: 2, reasoning: 1, ..TokenUsage::default() }
}

#[test]
fn every_kind_has_a_driver() {
    let drivers = Registry::new(UpstreamClient::new(&UpstreamOptions::new(Networks::Public)).unwrap());
    for spec in kinds() {
        assert!(std::ptr::eq(drivers.get(spec.name).unwrap().spec(), spec), "{}", spec.name);
        assert_eq!(kind(spec.name).unwrap().name, spec.name);
        if let Some(url) = spec.default_base_url {
            check_url(url, Networks::Public).unwrap();
        }
    }
    assert!(drivers.get("nothing").is_none());
    assert!(kind("nothing").is_none());
}

#[tokio::test]
async fn a_chat_is_answered() {
    let rig = Rig::start("openai").await;
    let reply = rig.chat().await.unwrap();
    assert_eq!(reply.choice.message.content, Content::Text(format!("served by {KEY}")));
    assert_eq!(reply.choice.finish_reason, "stop");
    assert_eq!(reply.usage, Some(usage()));
    assert_eq!((reply.head.model.as_str(), reply.head.system_fingerprint.as_str()), ("m", "fp_scripted"));

    let [request] = rig.upstream.requests().try_into().ok().unwrap();
    assert_eq!((request.key.as_str(), request.path.as_str()), (KEY, "/v1/chat/completions"));
    assert_eq!(request.headers["openai-organization"], "org-1234");
    let messages = json!([{"role": "user", "content": "hi"}]);
    assert_eq!(request.body, json!({"model": "m", "messages": messages, "stream": false}));
}

#[tokio::test]
async fn a_chat_is_streamed() {
    let rig = Rig::start("openai").await;
    let events = rig.stream().await.unwrap();
    assert_eq!(text(&events), format!("served by {KEY}"));
    let events: Vec<ChatEvent> = events.into_iter().map(Result::unwrap).collect();
    // The role alone is a sign of life. What names the answer comes with the first content, the usage with the end.
    assert_eq!(events[0], ChatEvent::default());
    let said: Vec<_> = events.iter().filter(|event| !event.is_empty()).collect();
    assert_eq!(said.len(), 4, "{events:?}");
    assert_eq!(said[0].rare.as_ref().unwrap().head.model, "m");
    assert_eq!((said[3].finish_reason.as_str(), said[3].usage), ("stop", Some(usage())));
    rig.settled().await;
    assert_eq!(rig.upstream.cancelled(), 0);
}

#[tokio::test]
async fn a_server_that_refuses_stream_options_need_not_get_them() {
    let rig = Rig::start("openai_compatible").await;
    let mut request = hello();
    request.parameters.insert("stream_options".into(), Value::Null);
    let stream = rig.driver().chat_stream(&rig.target(), &request).await.unwrap();
    let events: Vec<_> = stream.collect().await;
    assert_eq!(events.last().unwrap().as_ref().unwrap().finish_reason, "stop");
    assert!(rig.upstream.requests()[0].body.get("stream_options").is_none());
}

#[tokio::test]
async fn tools_go_up_and_their_calls_come_back() {
    let rig = Rig::start("openai").await;
    let mut request = with_tool();
    let reply = rig.driver().chat(&rig.target(), &request).await.unwrap();
    let [call] = reply.choice.message.tool_calls.as_slice() else { panic!("{reply:?}") };
    assert_eq!(
        (call.name.as_str(), call.arguments.as_str(), call.kind.as_str()),
        ("weather", "{}", "function")
    );
    assert_eq!(reply.choice.finish_reason, "tool_calls");

    request.messages.push(reply.choice.message.clone());
    request.messages.push(Message {
        role: "tool".into(),
        content: Content::Text("sunny".into()),
        tool_call_id: call.id.clone(),
        ..Message::default()
    });
    let reply = rig.driver().chat(&rig.target(), &request).await.unwrap();
    assert_eq!(reply.choice.message.content, Content::Text(format!("served by {KEY}")));
    let messages = &rig.upstream.requests()[1].body["messages"];
    assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], "{}");
    assert_eq!(messages[2]["tool_call_id"], "call_1");
}

#[tokio::test]
async fn tool_calls_are_streamed_in_fragments() {
    let rig = Rig::start("openai").await;
    let stream = rig.driver().chat_stream(&rig.target(), &with_tool()).await.unwrap();
    let events: Vec<ChatEvent> = stream.map(Result::unwrap).collect().await;
    let fragments: Vec<&ToolCall> = events.iter().flat_map(|event| &event.tool_calls).collect();
    assert!(fragments.len() > 1, "{fragments:?}");
    assert_eq!((fragments[0].id.as_str(), fragments[0].name.as_str()), ("call_1", "weather"));
    assert_eq!(fragments.iter().map(|call| call.arguments.as_str()).collect::<String>(), "{}");
    assert!(events.iter().any(|event| event.finish_reason == "tool_calls"));
}

#[tokio::test]
async fn texts_are_embedded() {
    let request = EmbeddingRequest {
        inputs: EmbeddingInputs::Texts(vec!["a".into(), "bcd".into()]),
        input_type: "query".into(),
        dimensions: 3,
        user: "u".into(),
        ..EmbeddingRequest::default()
    };
    for (kind, input_type) in [("openai", None), ("openai_compatible", Some("query"))] {
        let rig = Rig::start(kind).await;
        let reply = rig.driver().embed(&rig.target(), &request).await.unwrap();
        assert_eq!(reply.vectors, [[1.0, 0.0, 1.0], [3.0, 1.0, 1.0]]);
        assert_eq!(reply.usage.prompt, 2);
        let body = &rig.upstream.requests()[0].body;
        assert_eq!(body["dimensions"], 3);
        assert_eq!(body.get("input_type").and_then(Value::as_str), input_type);
    }
}

#[tokio::test]
async fn credentials_are_validated() {
    let rig =
        Rig::scripted(Script::sequence([Script::Answer, Script::fail(401), Script::NotTheProtocol])).await;
    let validate = || async { rig.driver().validate(&rig.target()).await };
    assert_eq!(validate().await, Ok(()));
    assert_eq!(rig.upstream.requests()[0].path, "/v1/models");
    assert_eq!(validate().await.unwrap_err().class, ErrorClass::Authentication);
    assert_eq!(validate().await.unwrap_err().class, ErrorClass::ServerError);
}

#[tokio::test]
async fn a_server_without_keys_gets_none() {
    let rig = Rig::start("openai_compatible").await;
    let target = Target { fields: [].into(), ..rig.target() };
    rig.driver().chat(&target, &hello()).await.unwrap();
    assert!(!rig.upstream.requests()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn refusals_have_classes_and_hold_no_secret() {
    let echo = |code: &str| json!({"message": format!("you sent {KEY} of org-1234"), "code": code});
    let table = [
        (Script::fail(401), ErrorClass::Authentication, 401),
        (Script::fail(402), ErrorClass::QuotaExhausted, 402),
        (Script::fail(403), ErrorClass::ModelUnavailable, 403),
        (Script::fail(404), ErrorClass::ModelUnavailable, 404),
        (Script::fail(408), ErrorClass::Timeout, 408),
        (Script::fail(429), ErrorClass::RateLimited, 429),
        (Script::fail(400), ErrorClass::BadRequest, 400),
        (Script::fail(500), ErrorClass::ServerError, 500),
        (Script::fail(503), ErrorClass::ServerError, 503),
        (Script::fail(504), ErrorClass::Timeout, 504),
        (Script::fail(302), ErrorClass::ServerError, 302),
        (Script::fail_with(429, &echo("insufficient_quota")), ErrorClass::QuotaExhausted, 429),
        (Script::fail_with(400, &echo("content_filter")), ErrorClass::ContentFiltered, 400),
        (Script::fail_with(500, &echo("x")), ErrorClass::ServerError, 500),
        (Script::ErrorAfter(0, echo("rate_limit_exceeded")), ErrorClass::RateLimited, 200),
    ];
    for (script, class, status) in table {
        let rig = Rig::scripted(script.clone()).await;
        let unary = rig.chat().await.unwrap_err();
        let streamed = match rig.stream().await {
            Ok(events) => events.into_iter().find_map(Result::err).unwrap(),
            Err(failure) => failure,
        };
        for failure in [unary, streamed] {
            assert_eq!((failure.class, failure.http_status), (class, Some(status)), "{script:?}");
            assert!(!failure.message.is_empty(), "{script:?}");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
            assert!(!failure.message.contains("org-1234"), "{failure:?}");
            assert!(!failure.message.contains("127.0.0.1"), "{failure:?}");
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let rig = Rig::scripted(Script::fail(307)).await;
    assert_eq!(rig.chat().await.unwrap_err().class, ErrorClass::ServerError);
    assert_eq!(rig.upstream.total_hits(), 1);
}

#[tokio::test]
async fn hints_come_along() {
    let rig = Rig::scripted(Script::fail_for(429, "7")).await;
    assert_eq!(rig.chat().await.unwrap_err().retry_after, Some(Duration::from_secs(7)));
    rig.upstream.script(KEY, Script::rate_limited_for(Duration::from_secs(30)));
    let hint = rig.chat().await.unwrap_err().retry_after.unwrap();
    assert!((29..=30).contains(&hint.as_secs()), "{hint:?}");
    rig.upstream.script(KEY, Script::fail(429).for_duration(Duration::ZERO));
    assert!(rig.chat().await.is_ok());
}

#[tokio::test]
async fn broken_whole_answers_are_failures() {
    let table = [
        (Script::Close, ErrorClass::Connection),
        (Script::BreakAfter(0), ErrorClass::Connection),
        (Script::EndAfter(0), ErrorClass::ServerError),
        (Script::MalformedJson, ErrorClass::ServerError),
        (Script::NotTheProtocol, ErrorClass::ServerError),
    ];
    for (script, class) in table {
        let rig = Rig::scripted(script.clone()).await;
        assert_eq!(rig.chat().await.unwrap_err().class, class, "{script:?}");
        let inputs = EmbeddingInputs::Texts(vec!["a".into()]);
        let texts = EmbeddingRequest { inputs, ..EmbeddingRequest::default() };
        let failure = rig.driver().embed(&rig.target(), &texts).await.unwrap_err();
        assert_eq!(failure.class, class, "{script:?}");
    }
}

#[tokio::test]
async fn broken_streams_end_with_a_failure_after_what_came() {
    let overloaded = json!({"message": "overloaded", "type": "server_error"});
    let table = [
        (Script::BreakAfter(0), ErrorClass::Connection, ""),
        (Script::BreakAfter(2), ErrorClass::Connection, "served by "),
        (Script::EndAfter(0), ErrorClass::Connection, ""),
        (Script::EndAfter(1), ErrorClass::Connection, "served "),
        (Script::ErrorAfter(1, overloaded), ErrorClass::ServerError, "served "),
        (Script::MalformedJson, ErrorClass::ServerError, ""),
        (Script::NotTheProtocol, ErrorClass::Connection, ""),
    ];
    for (script, class, came) in table {
        let rig = Rig::scripted(script.clone()).await;
        let events = rig.stream().await.unwrap();
        assert_eq!(text(&events), came, "{script:?}");
        assert_eq!(events.last().unwrap().as_ref().unwrap_err().class, class, "{script:?}");
        assert_eq!(events.iter().filter(|event| event.is_err()).count(), 1, "{script:?}");
    }
    let rig = Rig::scripted(Script::Close).await;
    let failure = rig.stream().await.unwrap_err();
    assert_eq!((failure.class, failure.http_status), (ErrorClass::Connection, None));
}

#[tokio::test]
async fn a_request_goes_again_once_over_a_new_connection() {
    // The second comes over a connection that is open already, and may have been forgotten.
    let rig = Rig::scripted(Script::sequence([Script::Answer, Script::Close])).await;
    assert!(rig.chat().await.is_ok());
    assert_eq!(rig.chat().await.unwrap_err().class, ErrorClass::Connection);
    assert_eq!(rig.upstream.total_hits(), 3);
    // Over a new connection it is the provider who has ended it.
    let rig = Rig::scripted(Script::Close).await;
    assert_eq!(rig.chat().await.unwrap_err().class, ErrorClass::Connection);
    assert_eq!(rig.upstream.total_hits(), 1);
}

#[tokio::test]
async fn a_stream_may_end_without_done_and_come_slowly() {
    for script in [Script::WithoutDone, Script::Slow(Duration::from_millis(5))] {
        let rig = Rig::scripted(script).await;
        let events = rig.stream().await.unwrap();
        assert_eq!(text(&events), format!("served by {KEY}"));
        assert!(events.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_dropped_attempt_ends_the_upstream_request() {
    let rig = Rig::scripted(Script::Hang).await;
    let target = rig.target();
    let request = hello();
    let mut attempt = rig.driver().chat(&target, &request);
    tokio::select! {
        _ = &mut attempt => panic!("it hangs"),
        () = until("a request in flight", async || rig.upstream.in_flight() == 1) => {}
    }
    drop(attempt);
    rig.settled().await;
    assert_eq!(rig.upstream.cancelled(), 1);

    rig.upstream.script(KEY, Script::StallAfter(1));
    let mut stream = rig.driver().chat_stream(&target, &request).await.unwrap();
    assert!(!stream.next().await.unwrap().unwrap().is_content());
    assert_eq!(stream.next().await.unwrap().unwrap().content, "served ");
    assert_eq!(rig.upstream.in_flight(), 1);
    drop(stream);
    rig.settled().await;
    assert_eq!(rig.upstream.cancelled(), 2);
}

#[tokio::test]
async fn sequences_go_on_and_their_last_repeats() {
    let rig = Rig::scripted(Script::sequence([Script::fail(500), Script::fail(429), Script::Answer])).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(rig.chat().await.err().and_then(|failure| failure.http_status));
    }
    assert_eq!(statuses, [Some(500), Some(429), None, None]);
    assert_eq!((rig.upstream.hits(KEY), rig.upstream.hits("other"), rig.upstream.total_hits()), (4, 0, 4));
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_connection_failure() {
    let rig = Rig::start("openai_compatible").await;
    assert!(rig.chat().await.is_ok());
    let target = rig.target();
    let Rig { upstream, drivers, kind } = rig;
    let driver = drivers.get(&kind).unwrap();
    drop(upstream);
    // The server stops soon, not at once.
    let failure = loop {
        if let Err(failure) = driver.chat(&target, &hello()).await {
            break failure;
        }
    };
    assert_eq!(failure.class, ErrorClass::Connection);
    assert!(!failure.message.contains("127.0.0.1"), "{failure:?}");
}

#[tokio::test]
async fn refused_addresses_are_never_called() {
    let rig = Rig::start("openai_compatible").await;
    let public = Registry::new(UpstreamClient::new(&UpstreamOptions::new(Networks::Public)).unwrap());
    let public = public.get("openai").unwrap();
    let port = rig.target().base_url.port().unwrap();
    let literal = rig.target();
    let failure = public.chat(&literal, &hello()).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Connection);
    assert!(failure.message.starts_with("address not allowed"), "{failure:?}");

    let metadata =
        Target { base_url: format!("http://169.254.169.254:{port}/v1").parse().unwrap(), ..literal };
    let failure = rig.driver().chat(&metadata, &hello()).await.unwrap_err();
    assert!(failure.message.starts_with("address not allowed"), "{failure:?}");
    assert_eq!(rig.upstream.total_hits(), 0);
}
