//! What tenants share towards providers: connections, the memory for answers, processors that count tokens.
#![allow(clippy::print_stdout, reason = "figures, for whoever runs an attack by itself")]

use std::{fs, path::Path, time::Duration};

use async_compression::tokio::bufread::GzipEncoder;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rota::{
    api::pb::{CountTokensRequest, ForwardRequest, InvokeLlmResponse, LoadBalancingConfig, ModelKey},
    scripted::{Raw, Script, Upstream},
};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, Status, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use super::beside::{floor, in_full, p99};
use crate::support::{
    eventually,
    failure::{error, told},
    load::Load,
    rota::Rota,
    sealed::{Allows, Sealed},
    world::{Scene, config},
};

/// What the other tenant's slowest of a hundred calls took, of those that several callers made in that time.
async fn p99_of(other: &Scene, beside: Option<&Scene>, time: Duration) -> Duration {
    let ordinary = beside.map(|scene| Load::on([scene], 4));
    let load = Load::on([other], 4);
    sleep(time).await;
    let took = load.end().await;
    if let Some(ordinary) = ordinary {
        ordinary.end().await;
    }
    assert!(took.len() > if in_full() { 20 } else { 4 }, "{} calls", took.len());
    p99(&took)
}

fn assert_unharmed(ordinary: Duration, attacked: Duration) {
    println!("p99 {ordinary:?} beside ordinary calls, {attacked:?} beside the attack");
    assert!(attacked <= 2 * ordinary.max(floor()), "{attacked:?} beside the attack, {ordinary:?} before");
}

/// A field of `/proc/<pid>/status`, in KiB.
fn memory(rota: &Rota, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", rota.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Forgets how much memory the process has had at most.
fn forget_peak(rota: &Rota) {
    fs::write(format!("/proc/{}/clear_refs", rota.id()), "5").unwrap();
}

/// A tenant with so many keys at that address.
async fn tenant(rota: &Rota, base_url: &str, configs: usize) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(base_url).await;
    if configs == 1 {
        scene.keys = vec![format!("key-{}", Uuid::new_v4().simple())];
        scene.add_credential("only", &scene.keys[0].clone()).await;
        return scene;
    }
    scene.add_configs(configs).await;
    scene.enable().await;
    scene
}

fn script(upstream: &Upstream, scene: &Scene, script: &Script) {
    for key in &scene.keys {
        upstream.script(key, script.clone());
    }
}

async fn with_authority(file: &Path, args: &[&str]) -> Rota {
    let builder = Rota::builder().arg("--upstream-ca").arg(file.to_string_lossy());
    args.iter().fold(builder, |builder, arg| builder.arg(*arg)).start().await
}

/// One tenant leaves so many streams unread at a provider that both use over HTTP/2.
async fn unread_streams(count: usize, streams: Option<u32>) {
    let upstream = Upstream::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let sealed = Sealed::to(&upstream, Allows { streams, calls: None }, &file).await;
    let rota = with_authority(&file, &[]).await;
    let (attacker, other) =
        (tenant(&rota, &sealed.base_url(), 2).await, tenant(&rota, &sealed.base_url(), 2).await);
    let ordinary = p99_of(&other, Some(&attacker), Duration::from_secs(1)).await;
    script(&upstream, &attacker, &Script::Long { chunks: 2048, bytes: 8 << 10 });
    let before = memory(&rota, "VmRSS");
    let mut unread = JoinSet::new();
    for _ in 0..count {
        let attacker = attacker.clone();
        unread.spawn(async move { attacker.open_stream().await.unwrap() });
    }
    let unread = unread.join_all().await;
    // Until nothing moves any more.
    let mut sent = 0;
    eventually(Duration::from_secs(60), async || {
        sleep(Duration::from_millis(300)).await;
        let last = std::mem::replace(&mut sent, upstream.pieces_sent());
        if sent == last { Ok(()) } else { Err(format!("{sent} pieces sent")) }
    })
    .await;
    let attacked = p99_of(&other, None, Duration::from_secs(1)).await;
    let grown = memory(&rota, "VmRSS").saturating_sub(before);
    println!("{count} unread streams over {} connections: {} MiB", sealed.made(), grown >> 10);
    assert_unharmed(ordinary, attacked);
    // A window towards the provider, one towards the caller, and what is between.
    assert!(grown < (48 << 10) + count as u64 * (1 << 10), "{grown} KiB for {count} unread streams");
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_unread_streams_stop_nobody() {
    unread_streams(3, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_streams_stop_nobody_where_a_connection_takes_few() {
    unread_streams(25, Some(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: 300 unread streams"]
async fn three_hundred_unread_streams_stop_nobody() {
    unread_streams(300, None).await;
    unread_streams(300, Some(10)).await;
}

/// One tenant's calls take all the connections to a host that it may have, and many more wait for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_one_host_holds_nobody_back() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder()
        .arg("--upstream-connections-per-host")
        .arg("40")
        .arg("--upstream-connect-timeout")
        .arg("1s")
        .start()
        .await;
    let base_url = upstream.base_url();
    let (attacker, other) = (tenant(&rota, &base_url, 2).await, tenant(&rota, &base_url, 2).await);
    let ordinary = p99_of(&other, Some(&attacker), Duration::from_secs(1)).await;
    script(&upstream, &attacker, &Script::Answer.after(Duration::from_secs(3)));
    let mut crowd = JoinSet::new();
    for _ in 0..400 {
        let attacker = attacker.clone();
        crowd.spawn(async move { attacker.ask().await.map(drop) });
    }
    eventually(Duration::from_secs(10), async || match upstream.in_flight() {
        30.. => Ok(()),
        few => Err(format!("{few} calls there")),
    })
    .await;
    let attacked = p99_of(&other, None, Duration::from_secs(1)).await;
    let served = crowd.join_all().await;
    let refused: Vec<_> = served.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(refused.len() > 300, "{} of 400 were refused", refused.len());
    for status in refused {
        assert_eq!(told(status), error(Code::ResourceExhausted, "TENANT_LIMIT"), "{status:?}");
    }
    assert!(attacker.configs_now().await.iter().all(|config| !config.in_cooldown), "somebody cools for it");
    assert_unharmed(ordinary, attacked);
    // Who waits long enough is served.
    script(&upstream, &attacker, &Script::Answer);
    attacker.ask().await.unwrap();
}

/// One tenant names so many hosts, none of which answers, and calls them all.
async fn many_hosts(hosts: usize) {
    let upstream = Upstream::start().await.unwrap();
    // Whoever connects is left waiting.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let most = hosts / 2;
    let rota = Rota::builder().arg("--upstream-connections").arg(most.to_string()).start().await;
    let other = tenant(&rota, &upstream.base_url(), 2).await;
    let mut attacker = Scene::tenant(&rota).await;
    attacker.add_model(&upstream.base_url()).await;
    let of_host = |number: usize| LoadBalancingConfig {
        base_url: format!("http://127.1.{}.{}:{port}/v1", number / 250, number % 250 + 1),
        ..config(&format!("host {number}"), &format!("key-{number}"))
    };
    attacker.put_configs((0..hosts).map(of_host).collect()).await;
    attacker.enable().await;
    let ordinary = p99_of(&other, None, Duration::from_secs(1)).await;
    let before = rota.descriptors().unwrap();
    let mut crowd = JoinSet::new();
    for _ in 0..hosts {
        let attacker = attacker.clone();
        crowd.spawn(async move { timeout(Duration::from_secs(6), attacker.ask()).await });
    }
    sleep(Duration::from_secs(1)).await;
    let attacked = p99_of(&other, None, Duration::from_secs(1)).await;
    let opened = rota.descriptors().unwrap().saturating_sub(before);
    let outcomes = crowd.join_all().await;
    let refused: Vec<_> = outcomes.into_iter().flatten().filter_map(Result::err).collect();
    println!("{hosts} hosts: {opened} connections, {} calls refused", refused.len());
    assert!(opened <= most + 10, "{opened} connections, {most} allowed");
    assert!(!refused.is_empty());
    for status in &refused {
        assert_eq!(told(status), error(Code::ResourceExhausted, "TENANT_LIMIT"), "{status:?}");
    }
    assert_unharmed(ordinary, attacked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_many_hosts_costs_others_nothing() {
    many_hosts(60).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: 1,000 hosts"]
async fn a_tenant_of_a_thousand_hosts_costs_others_nothing() {
    many_hosts(1000).await;
}

/// The text of an answer of about so many bytes, with what JSON escapes.
fn long_answer(bytes: usize) -> Raw {
    let text = "An answer of many lines.\n".repeat(bytes / 25);
    Raw::json(&json!({
        "id": "x", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }))
}

/// What one large answer costs until it waits for its reader. Size in MiB.
async fn one_large_answer(size: u64) {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let scene = tenant(&rota, &upstream.base_url(), 1).await;
    script(&upstream, &scene, &Script::Raw(long_answer((size << 20) as usize)));
    let before = memory(&rota, "VmRSS");
    forget_peak(&rota);
    let endpoint = Endpoint::from_shared(format!("http://{}", rota.address())).unwrap();
    let window = (64 << 10) - 1;
    let channel = endpoint
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .connect()
        .await
        .unwrap();
    let mut client = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    client.ready().await.unwrap();
    let mut request = Request::new(scene.request());
    request.metadata_mut().insert("authorization", format!("Bearer {}", scene.token).parse().unwrap());
    let path = "/rota.v1.InvokeService/InvokeLlm".parse().unwrap();
    // As a stream, so that nothing of it is read before somebody asks.
    let codec = ProstCodec::<_, InvokeLlmResponse>::default();
    let mut answer = client.server_streaming(request, path, codec).await.unwrap().into_inner();
    // What was freed is given back a moment later, by whoever frees something.
    for _ in 0..20 {
        sleep(Duration::from_millis(50)).await;
        rota.metrics().await;
    }
    let peak = memory(&rota, "VmHWM").saturating_sub(before);
    println!("an answer of {size} MiB: {} MiB at most", peak >> 10);
    // As it is counted, and what the allocator has not given back yet.
    let slack = 64 << 10;
    assert!(peak <= ((size * 5) << 10) + slack, "{peak} KiB at most for {size} MiB");
    let whole = answer.message().await.unwrap().unwrap();
    assert!(whole.message.unwrap().content.len() as u64 > (size << 20) - 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_costs_what_it_counts() {
    one_large_answer(30).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: an answer of 90 MiB"]
async fn an_answer_of_90_mib_costs_what_it_counts() {
    one_large_answer(90).await;
}

/// One tenant asks for so many answers of that size at once, in MiB.
async fn large_answers(calls: usize, size: u64, room: u64) {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().arg("--upstream-answer-memory").arg(format!("{room}MiB")).start().await;
    let base_url = upstream.base_url();
    let (attacker, other) = (tenant(&rota, &base_url, 2).await, tenant(&rota, &base_url, 2).await);
    let ordinary = p99_of(&other, Some(&attacker), Duration::from_secs(1)).await;
    script(&upstream, &attacker, &Script::Raw(long_answer((size << 20) as usize)));
    let before = memory(&rota, "VmRSS");
    forget_peak(&rota);
    let mut crowd = JoinSet::new();
    for _ in 0..calls {
        let mut attacker = attacker.clone();
        attacker.clients.invoke = attacker.clients.invoke.max_decoding_message_size(usize::MAX);
        crowd.spawn(async move { attacker.ask().await.map(drop) });
    }
    let attacked = p99_of(&other, None, Duration::from_secs(2)).await;
    let outcomes = crowd.join_all().await;
    let peak = memory(&rota, "VmHWM").saturating_sub(before);
    let refused: Vec<&Status> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    println!("{calls} answers of {size} MiB: {} refused, {} MiB at most", refused.len(), peak >> 10);
    assert!(refused.len() < calls, "nobody was served");
    assert!(!refused.is_empty(), "there was room for all");
    for status in refused {
        let told = told(status);
        let is_bound = told == error(Code::ResourceExhausted, "TENANT_LIMIT")
            || told == error(Code::Unavailable, "OVERLOADED");
        assert!(is_bound, "{status:?}");
    }
    assert!(attacker.configs_now().await.iter().all(|config| !config.in_cooldown), "somebody cools for it");
    assert!(peak < (room << 10) + (64 << 10), "{peak} KiB for {room} MiB of room");
    assert_unharmed(ordinary, attacked);
    // What was taken has come back.
    let mut client = attacker.clients.invoke.clone().max_decoding_message_size(usize::MAX);
    client.invoke_llm(attacker.request()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_bounded_together() {
    large_answers(12, 9, 64).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: answers of 90 MiB"]
async fn answers_of_90_mib_are_bounded_together() {
    large_answers(12, 90, 1024).await;
}

/// Answers that are small on the wire, or dense, and large in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_answer_becomes_no_large_one() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let base_url = upstream.base_url();
    let (attacker, other) = (tenant(&rota, &base_url, 1).await, tenant(&rota, &base_url, 1).await);
    let mut bomb = Vec::new();
    let zeros = vec![b' '; 200 << 20];
    GzipEncoder::new(&zeros[..]).read_to_end(&mut bomb).await.unwrap();
    drop(zeros);
    let ones = format!("{{\"choices\":[],\"junk\":[{}1]}}", "1,".repeat(10 << 20));
    let objects = format!("{{\"choices\":[{}{{}}]}}", "{},".repeat(8 << 20));
    let list = format!("[{}1]", "1,".repeat(10 << 20));
    let attacks = [
        ("a bomb", Raw::new("application/json", bomb).header("content-encoding", "gzip")),
        ("numbers", Raw::new("application/json", ones)),
        ("objects", Raw::new("application/json", objects)),
        ("a list", Raw::new("application/json", list)),
    ];
    for (name, raw) in attacks {
        script(&upstream, &attacker, &Script::Raw(raw));
        let before = memory(&rota, "VmRSS");
        forget_peak(&rota);
        let load = Load::on([&other], 2);
        let status = attacker.send(attacker.bounded(1)).await.unwrap_err();
        load.end().await;
        let peak = memory(&rota, "VmHWM").saturating_sub(before);
        println!("{name}: {} MiB at most, {}", peak >> 10, status.message());
        assert_eq!(status.code(), Code::Unavailable, "{name}: {status:?}");
        assert!(peak < 400 << 10, "{name}: {peak} KiB");
    }
}

/// One tenant has long words counted by all its callers.
#[tokio::test(flavor = "multi_thread")]
async fn counting_one_letter_holds_nobody_up() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let mut attacker = Scene::tenant(&rota).await;
    attacker.key.model = "gpt-4o".to_owned();
    attacker.add_model(&upstream.base_url()).await;
    attacker.add_configs(2).await;
    attacker.enable().await;
    let other = tenant(&rota, &upstream.base_url(), 2).await;
    let ordinary = p99_of(&other, Some(&attacker), Duration::from_secs(1)).await;
    let count = async |scene: &Scene, key: ModelKey, text: String| {
        let request = CountTokensRequest { key: Some(key), texts: vec![text], ..Default::default() };
        let began = Instant::now();
        let answer = scene.clients.invoke.clone().count_tokens(request).await.unwrap().into_inner();
        (answer, began.elapsed())
    };
    for length in [64 << 10, 1 << 20] {
        let (answer, took) = count(&attacker, attacker.key.clone(), "a".repeat(length)).await;
        println!("{length} letters: {:?}, estimated {}, in {took:?}", answer.tokens, answer.estimated);
        assert!(took < Duration::from_millis(500), "{took:?} for {length} letters");
    }
    let words = "a few words ".repeat(80 << 10);
    let (answer, alone) = count(&attacker, attacker.key.clone(), words.clone()).await;
    assert!(!answer.estimated);
    let mut crowd = JoinSet::new();
    for number in 0..16 {
        let (attacker, began) = (attacker.clone(), Instant::now());
        // Half of them words that are counted exactly, as long as the bound allows.
        let text = if number % 2 == 0 { "a".repeat(1 << 20) } else { words.clone() };
        crowd.spawn(async move {
            let mut counted = 0;
            while began.elapsed() < Duration::from_secs(2) {
                let request = CountTokensRequest {
                    key: Some(attacker.key.clone()),
                    texts: vec![text.clone()],
                    ..Default::default()
                };
                attacker.clients.invoke.clone().count_tokens(request).await.unwrap();
                counted += 1;
            }
            counted
        });
    }
    let attacked = p99_of(&other, None, Duration::from_millis(1500)).await;
    // Another's count waits for one of the attacker's at most.
    let key = ModelKey { tenant_id: other.tenant.clone(), model: "gpt-4o".to_owned(), ..other.key.clone() };
    other.put_model(&key).await;
    let (answer, took) = count(&other, key, "tiktoken is great!".to_owned()).await;
    assert_eq!((answer.tokens, answer.estimated), (vec![6], false));
    println!("another's count took {took:?}, one of the attacker's {alone:?}");
    assert!(
        took < 3 * alone + Duration::from_secs(1),
        "another's count took {took:?}, of the attacker's {alone:?}"
    );
    let counted: i32 = crowd.join_all().await.into_iter().sum();
    println!("{counted} counts beside");
    assert_unharmed(ordinary, attacked);
}

/// A provider that shows the key that it was sent, in every form that it can think of.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_shown_in_any_form_stays_here() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::shared().await;
    let scene = tenant(rota, &upstream.base_url(), 1).await;
    let key = &scene.keys[0];
    let hex = |byte: u8| format!("{byte:02x}");
    let digits: String = key.bytes().map(hex).collect();
    let percent: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = key.bytes().map(|byte| format!("\\u00{byte:02x}")).collect();
    let offset = |before: &str| BASE64_STANDARD.encode(format!("{before}{key}"));
    let url_safe = |text: String| text.replace('+', "-").replace('/', "_");
    let forms = [
        key.clone(),
        format!("Bearer {key}"),
        offset(""),
        offset("x"),
        offset("user:"),
        url_safe(offset("~~~")),
        digits.to_uppercase(),
        digits,
        percent.to_lowercase(),
        percent,
        escaped,
    ];
    let shows = |text: &str| forms[1..].iter().chain([key]).any(|form| text.contains(form.as_str()));
    for form in &forms {
        let body = format!("{{\"error\":{{\"message\":\"you sent {form} here\",\"type\":\"x\"}}}}");
        let mut packed = Vec::new();
        GzipEncoder::new(body.as_bytes()).read_to_end(&mut packed).await.unwrap();
        let split = body.len() / 2;
        let whole = Raw::new("application/json", body.clone());
        let answers = [
            whole.clone().header("x-you-sent", form),
            Raw::new("application/json", packed).header("content-encoding", "gzip"),
            Raw::new("application/json", body[..split].to_owned())
                .wait(Duration::from_millis(20))
                .then(body[split..].to_owned()),
        ];
        for answer in answers {
            script(&upstream, &scene, &Script::Raw(answer.clone().status(400)));
            let status = scene.ask().await.unwrap_err();
            assert!(!shows(&format!("{status:?}")), "{form}: {status:?}");
            script(&upstream, &scene, &Script::Raw(answer));
            let request = ForwardRequest {
                key: Some(scene.key.clone()),
                method: "GET".to_owned(),
                path: "anything".to_owned(),
                ..ForwardRequest::default()
            };
            let mut answer = scene.clients.invoke.clone().forward(request).await.unwrap().into_inner();
            let mut told = String::new();
            while let Some(piece) = answer.message().await.unwrap() {
                told += &format!("{:?}", piece.headers);
                told += &String::from_utf8_lossy(&piece.body);
            }
            assert!(told.contains("you sent") && !shows(&told), "{form}: {told}");
        }
    }
}
