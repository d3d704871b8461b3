//! Callers that read slowly: they slow their provider and nobody else, and cost little memory. `make streams` prints the
//! figures of docs/measurements/streams.md.

use std::time::{Duration, Instant};

use rota::{
    api::pb::{StreamLlmRequest, StreamLlmResponse, invoke_service_client::InvokeServiceClient},
    scripted::{Script, Upstream},
};
use tokio::task::JoinSet;
use tonic::{Code, Request, Streaming, transport::Endpoint};

use crate::support::{
    eventually,
    failure::{error, told},
    rota::Rota,
    world::{Scene, hi},
};

/// The text of a chunk, in bytes.
const CHUNK: usize = 8 << 10;
/// Chunks of one answer beside others: 512 KiB.
const CHUNKS: usize = 64;
/// Streams on one connection.
const SHARED: usize = 50;
/// What a connection's client takes unread, in bytes: HTTP/2's own default.
const WINDOW: u32 = (64 << 10) - 1;

type Answer = Streaming<StreamLlmResponse>;

/// Begins so many streams, on connections of their own, and reads the first message of each.
async fn open(rota: &Rota, scene: &Scene, count: usize) -> Vec<Answer> {
    let mut opening = JoinSet::new();
    for begin in (0..count).step_by(SHARED) {
        let endpoint = Endpoint::from_shared(format!("http://{}", rota.address())).unwrap();
        let channel = endpoint
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * SHARED as u32)
            .connect()
            .await
            .unwrap();
        for _ in begin..count.min(begin + SHARED) {
            let (mut client, scene) = (InvokeServiceClient::new(channel.clone()), scene.clone());
            opening.spawn(async move {
                let (key, messages) = (Some(scene.key), vec![hi()]);
                let mut request = Request::new(StreamLlmRequest { key, messages, ..Default::default() });
                let token = format!("Bearer {}", scene.token).parse().unwrap();
                request.metadata_mut().insert("authorization", token);
                let mut stream = client.stream_llm(request).await.unwrap().into_inner();
                assert_eq!(length(&stream.message().await.unwrap().unwrap()), CHUNK);
                stream
            });
        }
    }
    opening.join_all().await
}

fn length(message: &StreamLlmResponse) -> usize {
    message.delta.as_ref().map_or(0, |delta| delta.content.len())
}

/// Reads each to its end: every chunk must come.
async fn read(streams: Vec<Answer>, chunks: usize) {
    let mut readers = JoinSet::new();
    for mut stream in streams {
        readers.spawn(async move {
            let (mut bytes, mut finish) = (CHUNK, String::new());
            while let Some(message) = stream.message().await.unwrap() {
                bytes += length(&message);
                finish += &message.finish_reason;
            }
            assert_eq!((bytes, finish.as_str()), (chunks * CHUNK, "stop"));
        });
    }
    readers.join_all().await;
}

/// Two configs whose answers are so long.
async fn scene(rota: &Rota, upstream: &Upstream, chunks: usize) -> Scene {
    let scene = Scene::set(rota, upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::Long { chunks, bytes: CHUNK });
    }
    scene
}

/// Waits until nothing moves: what is on its way has filled the sockets' buffers. How many pieces were sent.
async fn at_rest(upstream: &Upstream) -> u64 {
    let mut sent = 0;
    eventually(Duration::from_secs(60), async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let last = std::mem::replace(&mut sent, upstream.pieces_sent());
        if sent == last { Ok(sent) } else { Err(format!("{sent} pieces sent")) }
    })
    .await
}

/// So many callers that read nothing after their first message, while as many read all; then they read on. Returns how
/// much memory Rota took for each of the slow ones, in KiB, and the figures as a text.
async fn slow_beside_fast(count: usize) -> (u64, String) {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let scene = scene(&rota, &upstream, CHUNKS).await;
    read(open(&rota, &scene, 2).await, CHUNKS).await;

    let resident = || rota.resident().unwrap_or_default();
    let before = resident();
    let slow = open(&rota, &scene, count).await;
    at_rest(&upstream).await;
    let held = resident();
    let began = Instant::now();
    read(open(&rota, &scene, count).await, CHUNKS).await;
    let (fast, beside) = (began.elapsed(), resident());
    read(slow, CHUNKS).await;
    assert_eq!(upstream.cancelled(), 0);
    let each = held.saturating_sub(before) / count as u64;
    let [before, held, beside, after] = [before, held, beside, resident()].map(|kib| kib >> 10);
    let figures = format!(
        "{before} MiB idle, {held} MiB with {count} slow readers: {each} KiB each; {beside} MiB after as many fast ones, \
         which took {fast:.1?}; {after} MiB when all were done"
    );
    (each, figures)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_hold_up_nobody() {
    slow_beside_fast(50).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes thousands of connections: `make streams`"]
async fn a_thousand_slow_readers_hold_up_nobody() {
    let (each, figures) = slow_beside_fast(1000).await;
    println!("{figures}");
    assert!(each < 256, "{each} KiB each");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_holds_its_config_until_the_deadline() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().arg("--default-deadline").arg("3s").start().await;
    let scene = scene(&rota, &upstream, 8192).await;
    let began = Instant::now();
    let mut stream = open(&rota, &scene, 1).await.remove(0);
    let held = async || scene.configs_now().await.iter().map(|config| config.in_flight).sum::<i32>();
    assert_eq!(held().await, 1);
    eventually(Duration::from_secs(30), async || match (held().await, upstream.in_flight()) {
        (0, 0) => Ok(()),
        still => Err(format!("{still:?} in flight")),
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(2), "given up after {:?}", began.elapsed());
    // What had come so far, and then why there is no more.
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the answer is called whole"),
            Err(status) => break status,
        }
    };
    assert_eq!(told(&status), error(Code::DeadlineExceeded, "UPSTREAM_TIMEOUT"));
    // Its config has done nothing wrong.
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_its_provider() {
    const LONG: usize = 8192;
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let scene = scene(&rota, &upstream, LONG).await;
    let before = rota.resident();
    let stream = open(&rota, &scene, 1).await;
    let sent = at_rest(&upstream).await;
    assert!(sent < LONG as u64 / 2, "{sent} of {LONG} chunks sent for a reader that does not read");
    if let (Some(before), Some(held)) = (before, rota.resident()) {
        println!("{sent} of {LONG} chunks sent, {} KiB taken", held.saturating_sub(before));
        // Of 64 MiB. The rest of what was sent waits in the sockets' buffers.
        assert!(held < before + (8 << 10), "{held} KiB resident, {before} KiB before");
    }
    read(stream, LONG).await;
}
