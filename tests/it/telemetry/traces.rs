//! Traces, as a collector gets them.

use std::time::Duration;

use opentelemetry_proto::tonic::{common::v1::any_value::Value, trace::v1::span::SpanKind};
use rota::{
    api::pb::{AcquireRequest, InvokeLlmRequest, Message, StreamLlmRequest},
    scripted::{Script, Upstream},
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout_at},
};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::support::{
    authority::Authority,
    collector::{Collector, Told, attributes},
    eventually, read,
    redis::Redis,
    rota::{Builder, Rota},
    world::{Scene, hi},
};

/// What callers' vendors say of their traces.
const STATE: &str = "vendor=said";

/// The span of a caller, for one call.
struct Parent {
    trace: String,
    span: String,
}

impl Parent {
    fn new() -> Self {
        let span = Uuid::new_v4().simple().to_string();
        Self { trace: Uuid::new_v4().simple().to_string(), span: span[..16].to_owned() }
    }

    /// The message, sent under this span.
    fn around<M>(&self, message: M, sampled: bool) -> Request<M> {
        let mut request = Request::new(message);
        let flags = u8::from(sampled);
        let parent = format!("00-{}-{}-{flags:02x}", self.trace, self.span);
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        request.metadata_mut().insert("tracestate", STATE.parse().unwrap());
        request
    }
}

fn tracing_to(collector: &Collector) -> Builder {
    Rota::builder().arg("--otlp-endpoint").arg(collector.endpoint())
}

/// One call under that span.
async fn ask(scene: &Scene, parent: &Parent, sampled: bool) -> Result<(), Status> {
    let request = parent.around(scene.request(), sampled);
    scene.clients.invoke.clone().invoke_llm(request).await.map(drop)
}

fn stream_request(scene: &Scene) -> StreamLlmRequest {
    StreamLlmRequest { key: Some(scene.key.clone()), messages: vec![hi()], ..Default::default() }
}

/// The attempts of a trace, in their order.
fn attempts(trace: &[Told]) -> Vec<&Told> {
    let mut attempts: Vec<_> = trace.iter().filter(|span| span.kind == SpanKind::Client).collect();
    attempts.sort_by_key(|span| span.number("rota.attempt.number"));
    attempts
}

fn picks(trace: &[Told]) -> Vec<&Told> {
    trace.iter().filter(|span| span.name == "pick").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_over_is_one_trace() {
    for redis in [None, Some(Redis::shared().await.url())] {
        let collector = Collector::start().await;
        let mut settings = tracing_to(&collector);
        if let Some(url) = &redis {
            settings = settings.redis(url.clone());
        }
        fails_over(&settings.start().await, &collector).await;
    }
}

async fn fails_over(rota: &Rota, collector: &Collector) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    let parent = Parent::new();
    ask(&scene, &parent, true).await.unwrap();

    let trace = collector.trace(&parent.trace, 5).await;
    assert_eq!(trace.len(), 5, "{trace:#?}");
    assert!(trace.iter().all(|span| span.state == STATE), "{trace:#?}");
    let call = &trace[0];
    assert_eq!(
        (call.name.as_str(), call.kind, &call.parent),
        ("rota.v1.InvokeService/InvokeLlm", SpanKind::Server, &parent.span)
    );
    assert_eq!(call.text("rpc.system.name"), "grpc");
    assert_eq!(call.text("rpc.method"), "rota.v1.InvokeService/InvokeLlm");
    assert_eq!(call.text("rpc.response.status_code"), "OK");
    assert_eq!(call.text("rota.tenant.id"), scene.tenant);
    assert!(!call.failed && call.text("error.type").is_empty());

    let [failed, served] = attempts(&trace)[..] else { panic!("{trace:#?}") };
    let port = upstream.origin().rsplit_once(':').unwrap().1.parse().unwrap();
    for (index, attempt) in [failed, served].into_iter().enumerate() {
        assert_eq!((attempt.name.as_str(), &attempt.parent), ("chat chat", &call.id));
        assert_eq!(attempt.text("gen_ai.operation.name"), "chat");
        assert_eq!(attempt.text("gen_ai.provider.name"), "openai_compatible");
        assert_eq!(attempt.text("gen_ai.request.model"), "chat");
        assert_eq!(attempt.text("server.address"), "127.0.0.1");
        assert_eq!(attempt.number("server.port"), Some(port));
        assert_eq!(attempt.text("rota.provider"), scene.provider);
        assert_eq!(attempt.text("rota.tenant.id"), scene.tenant);
        assert_eq!(attempt.text("rota.config.id"), scene.configs[index].id);
        assert_eq!(attempt.text("rota.config.name"), scene.configs[index].name);
        assert_eq!(attempt.number("rota.attempt.number"), Some(index as i64 + 1));
        assert!(!attempt.yes("gen_ai.request.stream"));
    }
    assert!(failed.failed);
    assert_eq!(failed.text("error.type"), "RATE_LIMITED");
    assert_eq!(failed.number("http.response.status_code"), Some(429));
    assert_eq!(failed.seconds("rota.cooldown.duration"), Some(Duration::from_secs(60)));
    assert_eq!(failed.number("gen_ai.usage.input_tokens"), None);
    assert!(!served.failed && served.text("error.type").is_empty());
    assert_eq!(served.number("gen_ai.usage.input_tokens"), Some(10));
    assert_eq!(served.number("gen_ai.usage.output_tokens"), Some(3));
    assert!(!served.text("gen_ai.response.model").is_empty());
    assert_eq!(served.texts("gen_ai.response.finish_reasons"), ["stop"]);
    assert_eq!(served.seconds("rota.cooldown.duration"), None);

    let [first, second] = picks(&trace)[..] else { panic!("{trace:#?}") };
    for (pick, config) in [first, second].into_iter().zip(&scene.configs) {
        assert_eq!((&pick.parent, pick.text("rota.pick.outcome")), (&call.id, "granted"));
        assert_eq!(pick.text("rota.config.id"), config.id);
    }

    let resource = collector.resources().swap_remove(0);
    let about = attributes(&resource.resource.unwrap().attributes);
    let text = |name: &str| match about.get(name) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    };
    assert_eq!(text("service.name"), "rota");
    assert_eq!(text("service.version"), env!("CARGO_PKG_VERSION"));
    assert!(Uuid::parse_str(&text("service.instance.id")).is_ok());
    assert_eq!(about.len(), 3, "{about:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pick_lasts_until_the_verdict_of_the_trial_it_waits_for() {
    let collector = Collector::start().await;
    let rota = tracing_to(&collector).start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    let trial = Duration::from_secs(1);
    for key in &scene.keys {
        let again = Script::Answer.after(trial);
        // A trial that has lived for as long as the failure took could be joined.
        let failure = Script::fail_for(429, "1").after(trial);
        upstream.script(key, Script::sequence([failure, again]));
    }
    scene.send(scene.bounded(2)).await.unwrap_err();
    eventually(Duration::from_secs(10), async || {
        let configs = scene.configs_now().await;
        if configs.iter().any(|config| config.in_cooldown) { Err(format!("{configs:?}")) } else { Ok(()) }
    })
    .await;
    let parents = [(); 3].map(|()| Parent::new());
    futures::future::try_join_all(parents.iter().map(|parent| ask(&scene, parent, true))).await.unwrap();
    let mut longest = Duration::ZERO;
    for parent in &parents {
        let trace = collector.trace(&parent.trace, 3).await;
        let [pick] = picks(&trace)[..] else { panic!("{trace:#?}") };
        assert_eq!(pick.text("rota.pick.outcome"), "granted");
        longest = longest.max(pick.took);
    }
    assert!(longest > trial / 2, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_a_pick_without_an_attempt() {
    let collector = Collector::start().await;
    let rota = tracing_to(&collector).start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    let parent = Parent::new();
    let request = AcquireRequest { key: Some(scene.key.clone()), ..Default::default() };
    let granted =
        scene.clients.invoke.clone().acquire(parent.around(request, true)).await.unwrap().into_inner();
    let trace = collector.trace(&parent.trace, 2).await;
    let [call, pick] = &trace[..] else { panic!("{trace:#?}") };
    assert_eq!(call.name, "rota.v1.InvokeService/Acquire");
    assert_eq!((pick.name.as_str(), &pick.parent), ("pick", &call.id));
    assert_eq!(pick.text("rota.config.id"), granted.config_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streams_attempt_lasts_until_its_end() {
    let collector = Collector::start().await;
    let rota = tracing_to(&collector).start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    let pace = Duration::from_millis(100);
    for (script, error, code) in
        [(Script::Slow(pace), "", "OK"), (Script::BreakAfter(1), "CONNECTION", "UNAVAILABLE")]
    {
        for key in &scene.keys {
            upstream.script(key, script.clone());
        }
        let parent = Parent::new();
        let request = parent.around(stream_request(&scene), true);
        let answer = scene.clients.invoke.clone().stream_llm(request).await.unwrap().into_inner();
        let (messages, end) = read(answer).await;
        assert!(!messages.is_empty());
        assert_eq!(end.is_ok(), error.is_empty());
        let trace = collector.trace(&parent.trace, 3).await;
        let [attempt] = attempts(&trace)[..] else { panic!("{trace:#?}") };
        assert_eq!((trace[0].text("rpc.response.status_code"), attempt.text("error.type")), (code, error));
        assert!(attempt.yes("gen_ai.request.stream"));
        let first = attempt.seconds("gen_ai.response.time_to_first_chunk").unwrap();
        assert!(first <= attempt.took, "{first:?} of {:?}", attempt.took);
        if error.is_empty() {
            assert!(first >= pace && attempt.took >= first + pace, "{first:?} of {:?}", attempt.took);
            assert_eq!(attempt.number("gen_ai.usage.output_tokens"), Some(3));
            assert_eq!(attempt.texts("gen_ai.response.finish_reasons"), ["stop"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_ends_the_spans_of_its_call() {
    let collector = Collector::start().await;
    let rota = tracing_to(&collector).start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::StallAfter(1));
    }
    let parent = Parent::new();
    let request = parent.around(stream_request(&scene), true);
    let mut answer = scene.clients.invoke.clone().stream_llm(request).await.unwrap().into_inner();
    answer.message().await.unwrap().unwrap();
    drop(answer);
    let trace = collector.trace(&parent.trace, 3).await;
    let [attempt] = attempts(&trace)[..] else { panic!("{trace:#?}") };
    assert_eq!(attempt.text("error.type"), "CANCELLED");
    assert_eq!(trace[0].text("rpc.response.status_code"), "CANCELLED");
    // Not the server's fault.
    assert!(!trace[0].failed);

    // One whose attempt has not answered yet.
    for key in &scene.keys {
        upstream.script(key, Script::Hang);
    }
    let parent = Parent::new();
    let request = parent.around(scene.request(), true);
    let mut client = scene.clients.invoke.clone();
    let call = tokio::spawn(async move { client.invoke_llm(request).await });
    eventually(Duration::from_secs(20), async || match upstream.total_hits() {
        2 => Ok(()),
        hits => Err(format!("{hits} hits")),
    })
    .await;
    call.abort();
    let trace = collector.trace(&parent.trace, 3).await;
    let [attempt] = attempts(&trace)[..] else { panic!("{trace:#?}") };
    assert_eq!((attempt.text("error.type"), attempt.failed), ("CANCELLED", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_traced_and_only_the_servers_own_faults_are_errors() {
    let collector = Collector::start().await;
    let rota = tracing_to(&collector).start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    let parent = Parent::new();
    let mut stranger = rota.clients("rota_of_nobody").await.invoke;
    let refused = stranger.invoke_llm(parent.around(scene.request(), true)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let trace = collector.trace(&parent.trace, 1).await;
    assert_eq!(trace[0].text("rpc.response.status_code"), "UNAUTHENTICATED");
    assert!(!trace[0].failed && trace[0].text("rota.tenant.id").is_empty());

    for key in &scene.keys {
        upstream.script(key, Script::fail_for(503, "60"));
    }
    let parent = Parent::new();
    ask(&scene, &parent, true).await.unwrap_err();
    let trace = collector.trace(&parent.trace, 6).await;
    assert_eq!(trace[0].text("rpc.response.status_code"), "UNAVAILABLE");
    assert_eq!((trace[0].text("error.type"), trace[0].failed), ("UNAVAILABLE", true));
    assert_eq!(attempts(&trace).len(), 2, "{trace:#?}");
    let outcomes: Vec<_> = picks(&trace).iter().map(|pick| pick.text("rota.pick.outcome")).collect();
    assert_eq!(outcomes, ["granted", "granted", "exhausted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_decides_what_is_sampled_and_the_share_where_it_does_not() {
    let collector = Collector::start().await;
    let upstream = Upstream::start().await.unwrap();
    let none = tracing_to(&collector).arg("--trace-sample").arg("0").start().await;
    let scene = Scene::set(&none, &upstream, 2).await;
    let (unsampled, sampled) = (Parent::new(), Parent::new());
    scene.ask().await.unwrap();
    ask(&scene, &unsampled, false).await.unwrap();
    ask(&scene, &sampled, true).await.unwrap();
    // What came before would have come before.
    collector.trace(&sampled.trace, 3).await;
    assert!(collector.spans().iter().all(|span| span.trace == sampled.trace), "{:#?}", collector.spans());

    let all = tracing_to(&collector).start().await;
    let scene = Scene::set(&all, &upstream, 2).await;
    ask(&scene, &unsampled, false).await.unwrap();
    // Without a parent, or with one that is none, a call is a trace of its own.
    let mut odd = Request::new(scene.request());
    odd.metadata_mut().insert("traceparent", "00-zz-yy-01".parse().unwrap());
    scene.clients.invoke.clone().invoke_llm(odd).await.unwrap();
    scene.ask().await.unwrap();
    eventually(Duration::from_secs(20), async || {
        let spans = collector.spans();
        let own = |span: &&Told| span.name.ends_with("/InvokeLlm") && span.parent.is_empty();
        match spans.iter().filter(own).count() {
            2 => Ok(()),
            count => Err(format!("{count} of {spans:#?}")),
        }
    })
    .await;
    assert!(!collector.spans().iter().any(|span| span.trace == unsampled.trace));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_its_spans_and_one_line() {
    let upstream = Upstream::start().await.unwrap();
    // It takes connections and closes them: that can be counted.
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = door.local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let rota = Rota::builder().arg("--otlp-endpoint").arg(&endpoint).start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    let calling = scene.clone();
    let calls = tokio::spawn(async move {
        loop {
            calling.ask().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let lines = |what: &str| rota.logs().lines().filter(|line| line.contains(what)).count();
    let mut refused = 0;
    let limit = Instant::now() + Duration::from_secs(60);
    // One failure may be several connections, but not as many.
    while refused < 8 || lines("the trace collector is away") == 0 {
        let connection = timeout_at(limit, door.accept()).await.expect("no connection");
        drop(connection);
        refused += 1;
    }
    assert_eq!(lines("the trace collector is away"), 1, "{}", rota.logs());
    assert!(!calls.is_finished(), "a call has failed");
    drop(door);
    let collector = Collector::at(port).await;
    let parent = Parent::new();
    eventually(Duration::from_secs(30), async || {
        ask(&scene, &parent, true).await.unwrap();
        if collector.spans().is_empty() { Err(rota.logs()) } else { Ok(()) }
    })
    .await;
    collector.trace(&parent.trace, 3).await;
    assert_eq!(lines("the trace collector is away"), 1, "{}", rota.logs());
    // The collector has the spans before the replica has its answer.
    eventually(Duration::from_secs(10), async || match lines("the trace collector is back") {
        1 => Ok(()),
        _ => Err(rota.logs()),
    })
    .await;
    calls.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_slows_nothing() {
    let upstream = Upstream::start().await.unwrap();
    // The system takes connections for it; nobody answers.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let mut rota = Rota::builder().arg("--otlp-endpoint").arg(&endpoint).start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    // More spans than wait at once, for as long as the collector is waited for.
    for _ in 0..40 {
        let asked = Instant::now();
        futures::future::try_join_all((0..20).map(|_| scene.ask())).await.unwrap();
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(4), "{slowest:?} of {:?}", began.elapsed());
    eventually(Duration::from_secs(20), async || {
        match rota.logs().matches("the trace collector is away").count() {
            1 => Ok(()),
            count => Err(format!("{count}: {}", rota.logs())),
        }
    })
    .await;
    scene.ask().await.unwrap();
    // The last spans are tried for a bounded time.
    rota.sigterm();
    let began = Instant::now();
    assert_eq!(rota.wait_exit(Duration::from_secs(20)).await.code(), Some(0), "{}", rota.logs());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(rota.logs().contains("the last traces were not taken in time"), "{}", rota.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_sends_what_is_waiting() {
    let collector = Collector::start().await;
    let upstream = Upstream::start().await.unwrap();
    let mut rota = tracing_to(&collector).start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    let parents: Vec<_> = (0..5).map(|_| Parent::new()).collect();
    for parent in &parents {
        ask(&scene, parent, true).await.unwrap();
    }
    rota.sigterm();
    assert_eq!(rota.wait_exit(Duration::from_secs(20)).await.code(), Some(0), "{}", rota.logs());
    for parent in &parents {
        let spans = collector.spans();
        assert_eq!(spans.iter().filter(|span| span.trace == parent.trace).count(), 3, "{spans:#?}");
    }
    // Its health was asked as well, which is no call of ours.
    let ours = |name: &str| name.starts_with("rota.v1.") || ["pick", "chat chat"].contains(&name);
    assert!(collector.spans().iter().all(|span| ours(&span.name)), "{:#?}", collector.spans());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_content_and_no_secret_leaves_in_a_span() {
    let collector = Collector::start().await;
    let upstream = Upstream::start().await.unwrap();
    let rota = tracing_to(&collector).start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    let said = Uuid::new_v4().simple().to_string();
    let explained = Uuid::new_v4().simple().to_string();
    let error = json!({"message": format!("slow down, {explained}"), "type": "requests"});
    upstream.script(&scene.keys[0], Script::fail_with(429, &error));
    let question = Message { role: "user".into(), content: said.clone(), ..Message::default() };
    let request = InvokeLlmRequest { messages: vec![question], ..scene.request() };
    let parent = Parent::new();
    let answer =
        scene.clients.invoke.clone().invoke_llm(parent.around(request, true)).await.unwrap().into_inner();
    let message = &answer.route.as_ref().unwrap().attempts[0].message;
    assert!(message.contains(&explained), "the attempt has not met the error: {message}");
    collector.trace(&parent.trace, 5).await;
    let bytes = collector.bytes();
    let found = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(found("config-0") && found(&scene.tenant), "the search is blind");
    let content = answer.message.unwrap().content;
    assert!(!content.is_empty());
    for secret in [&said, &explained, &content, &scene.token, &scene.keys[0], &scene.keys[1]] {
        assert!(!found(secret), "{secret}");
    }
    // Nothing of the trace goes to the provider.
    for request in upstream.requests() {
        let text = format!("{:?} {}", request.headers, request.body);
        assert!(text.contains(&said), "the search is blind: {text}");
        assert!(!text.contains("traceparent") && !text.contains(&parent.trace), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_name_the_trace() {
    let collector = Collector::start().await;
    let upstream = Upstream::start().await.unwrap();
    let logged = ["--log-format", "json", "--log", "rota=debug,info"];
    let settings = logged.into_iter().fold(tracing_to(&collector), Builder::arg);
    let rota = settings.start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    let parent = Parent::new();
    ask(&scene, &parent, true).await.unwrap();
    let logs = rota.logs();
    let lines: Vec<serde_json::Value> =
        logs.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let failed = lines.iter().find(|line| line["message"] == "attempt failed").expect(&logs);
    assert_eq!(failed["trace_id"], parent.trace.as_str(), "{failed}");
    let trace = collector.trace(&parent.trace, 5).await;
    assert_eq!(failed["span_id"], trace[0].id.as_str(), "{failed}");
    let started = lines.iter().find(|line| line["message"] == "listening").expect(&logs);
    assert!(started.get("trace_id").is_none(), "{started}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_may_be_behind_tls() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.ca.pem()).unwrap();
    let collector = Collector::with_tls(&authority).await;
    let upstream = Upstream::start().await.unwrap();
    // Where the system's authorities stand.
    let settings = tracing_to(&collector).env("SSL_CERT_FILE", file.to_str().unwrap());
    let rota = settings.start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    let parent = Parent::new();
    ask(&scene, &parent, true).await.unwrap();
    collector.trace(&parent.trace, 3).await;

    let stranger = tracing_to(&collector).start().await;
    let scene = Scene::set(&stranger, &upstream, 2).await;
    let parent = Parent::new();
    ask(&scene, &parent, true).await.unwrap();
    eventually(Duration::from_secs(20), async || {
        let logs = stranger.logs();
        if logs.contains("the trace collector is away") { Ok(()) } else { Err(logs) }
    })
    .await;
    assert!(!collector.spans().iter().any(|span| span.trace == parent.trace));
}
