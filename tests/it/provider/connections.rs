//! Connections to providers: those that had ended unnoticed, those that are full, and those that are made.

use std::{fs, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rota::{
    api::pb::{BalancingPolicy, ErrorClass, ForwardRequest},
    scripted::{Script, Upstream},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tonic::{Code, Status};

use crate::{
    balance::policy::set_policy,
    support::{
        authority::Authority,
        door::Door,
        eventually,
        failure::{classes, error, route, told},
        prometheus::value,
        rota::Rota,
        sealed::{Allows, Sealed},
        wire,
        world::Scene,
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

async fn scene(rota: &Rota, base_url: &str, configs: usize) -> Scene {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(base_url).await;
    if configs == 1 {
        scene.add_credential("only", "key-only").await;
    } else {
        scene.add_configs(configs).await;
        scene.enable().await;
    }
    scene
}

/// Nobody cools.
async fn all_well(scene: &Scene) {
    let cooling: Vec<_> = scene.configs_now().await.into_iter().filter(|config| config.in_cooldown).collect();
    assert!(cooling.is_empty(), "{cooling:?}");
}

/// What a Forward of a POST comes to: the status of its answer.
async fn forward(scene: &Scene, idempotent: bool) -> Result<i32, Status> {
    let request = ForwardRequest {
        key: Some(scene.key.clone()),
        method: "POST".to_owned(),
        path: "anything".to_owned(),
        idempotent,
        ..ForwardRequest::default()
    };
    let mut answer = scene.clients.invoke.clone().forward(request).await?.into_inner();
    let mut status = 0;
    while let Some(piece) = answer.message().await? {
        status = status.max(piece.status);
    }
    Ok(status)
}

async fn resends(rota: &Rota) -> u64 {
    value(&rota.metrics().await, "rota_upstream_resends_total", &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_forgotten_lose_no_call() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    for resets in [true, false] {
        for configs in [1, 3] {
            let door = Door::to(&upstream).await;
            door.resets(resets);
            let scene = scene(&rota, &door.base_url(), configs).await;
            let calls = (0..6).map(|_| scene.ask());
            futures::future::try_join_all(calls).await.unwrap();
            let before = resends(&rota).await;
            for _ in 0..8 {
                door.forget();
                let route = scene.ask().await.unwrap().route.unwrap();
                assert_eq!(classes(&route.attempts), [ErrorClass::Unspecified], "resets: {resets}");
            }
            all_well(&scene).await;
            assert!(door.swallowed() > 0, "no request met a forgotten connection");
            assert_eq!(resends(&rota).await - before, door.swallowed() as u64);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_repeated_goes_once() {
    let upstream = Upstream::start().await.unwrap();
    // Where the end of a connection is seen before the request, nothing is written, and it goes over another.
    for _ in 0..20 {
        let door = Door::to(&upstream).await;
        let scene = scene(Rota::shared().await, &door.base_url(), 2).await;
        assert_eq!(forward(&scene, false).await.unwrap(), 200);
        door.forget();
        let outcome = forward(&scene, false).await;
        if door.swallowed() > 0 {
            assert_eq!(door.swallowed(), 1, "it was sent twice");
            assert_eq!(told(&outcome.unwrap_err()), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
            assert_eq!(door.made(), 1);
            return;
        }
        assert_eq!(outcome.unwrap(), 200);
    }
    panic!("no request met a forgotten connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_repeated_goes_again() {
    let upstream = Upstream::start().await.unwrap();
    let door = Door::to(&upstream).await;
    let scene = scene(Rota::shared().await, &door.base_url(), 2).await;
    for _ in 0..5 {
        assert_eq!(forward(&scene, true).await.unwrap(), 200);
        door.forget();
    }
    assert!(door.swallowed() > 0);
    all_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_that_takes_its_time_is_a_failure() {
    // It answers the first request of a connection, and ends it 1.5 s after the second.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(0));
    let count = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                for answered in [true, false] {
                    if stream.read(&mut bytes).await? == 0 {
                        break;
                    }
                    *count.lock() += 1;
                    if answered {
                        let head = format!(
                            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                            ANSWER.len()
                        );
                        stream.write_all(&[head.as_bytes(), ANSWER].concat()).await?;
                    } else {
                        tokio::time::sleep(Duration::from_millis(1500)).await;
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    let scene = scene(Rota::shared().await, &base_url, 1).await;
    scene.ask().await.unwrap();
    let status = scene.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
    assert_eq!(*requests.lock(), 2, "the provider may have been at work: it was asked once");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_a_connections_limit_make_another() {
    const TAKES: Duration = Duration::from_millis(600);
    let upstream = Upstream::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let sealed = Sealed::to(&upstream, Allows { streams: Some(10), calls: None }, &file).await;
    let rota = Rota::builder().arg("--upstream-ca").arg(file.to_string_lossy()).start().await;
    let scene = scene(&rota, &sealed.base_url(), 3).await;
    for key in &scene.keys {
        upstream.script(key, Script::Answer.after(TAKES));
    }
    for expected in [3..=8, 0..=8] {
        let before = sealed.made();
        let began = Instant::now();
        let all = futures::future::try_join_all((0..30).map(|_| scene.ask())).await.unwrap();
        assert!(began.elapsed() < 2 * TAKES, "some waited for others: {:?}", began.elapsed());
        assert!(all.iter().all(|answer| answer.route.as_ref().unwrap().attempts.len() == 1));
        let made = sealed.made() - before;
        assert!(expected.contains(&made), "{made} connections");
    }
    all_well(&scene).await;
}

/// What becomes of the first connections to a provider over TLS.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    Hangs,
    Ends,
}

/// A way by TLS and HTTP/2 whose first connection comes to nothing.
async fn stumbling(first: First, upstream: &Upstream) -> (Sealed, Rota, TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let sealed = Sealed::to(upstream, Allows::default(), &file).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}/v1", listener.local_addr().unwrap());
    let behind = sealed.address();
    tokio::spawn(async move {
        let mut held = None;
        while let Ok((mut stream, _)) = listener.accept().await {
            if held.is_some() {
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(behind).await.unwrap();
                    tokio::io::copy_bidirectional(&mut stream, &mut there).await
                });
                continue;
            }
            held = Some((first == First::Hangs).then_some(stream));
        }
    });
    let rota = Rota::builder().arg("--upstream-ca").arg(file.to_string_lossy()).start().await;
    (sealed, rota, folder, base_url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_does_not_share_the_fate_of_its_first_connection() {
    let upstream = Upstream::start().await.unwrap();
    for first in [First::Hangs, First::Ends] {
        let (sealed, rota, _folder, base_url) = stumbling(first, &upstream).await;
        let scene = scene(&rota, &base_url, 1).await;
        let began = Instant::now();
        let calls = futures::future::join_all((0..30).map(|_| scene.send(scene.bounded(1)))).await;
        let took = began.elapsed();
        let failed: Vec<_> = calls.into_iter().filter_map(Result::err).collect();
        // One that ends takes the call with it that it was made for; one that hangs takes nobody.
        assert!(failed.len() <= usize::from(first == First::Ends), "{first:?}: {failed:?}");
        assert!(took < Duration::from_secs(3), "{first:?}: {took:?}");
        assert!(sealed.made() <= 10, "{first:?}: {} connections", sealed.made());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_by_age() {
    let upstream = Upstream::start().await.unwrap();
    let door = Door::to(&upstream).await;
    let rota = Rota::builder().arg("--upstream-connection-age").arg("200ms").start().await;
    let scene = scene(&rota, &door.base_url(), 1).await;
    eventually(PATIENCE, async || {
        scene.ask().await.unwrap();
        if door.made() > 3 { Ok(()) } else { Err(format!("{} connections", door.made())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_before_its_server_does_that() {
    // It says that it keeps connections for two seconds, and notes for how long it was left one.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 64 << 10];
        let _ = stream.read(&mut bytes).await;
        let length = ANSWER.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nkeep-alive: timeout=2\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), ANSWER].concat()).await.unwrap();
        let idle = Instant::now();
        assert_eq!(stream.read(&mut bytes).await.unwrap(), 0);
        tell.send(idle.elapsed()).unwrap();
    });
    let scene = scene(Rota::shared().await, &base_url, 1).await;
    scene.ask().await.unwrap();
    let idle = tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
    assert!((Duration::from_millis(900)..Duration::from_secs(2)).contains(&idle), "{idle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_two_writes_takes_no_longer() {
    // Its system sends the body when the head is acknowledged, as those of many small servers do.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.set_nodelay(false).unwrap();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while stream.read(&mut bytes).await? > 0 {
                    let length = ANSWER.len();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                    );
                    stream.write_all(head.as_bytes()).await?;
                    stream.write_all(ANSWER).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    let scene = scene(Rota::shared().await, &base_url, 1).await;
    // A new connection acknowledges everything at once.
    for _ in 0..40 {
        scene.ask().await.unwrap();
    }
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        scene.ask().await.unwrap();
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[10] < Duration::from_millis(30), "a delayed acknowledgement takes 40 ms: {took:?}");
}

/// What a provider does with the streams of its first connection, after the first.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Refuses each.
    Refuse,
    /// Says that it has not looked at it, and ends.
    GoAway,
    /// Says nothing and ends.
    End,
}

/// A whole answer.
const ANSWER: &[u8] = br#"{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;

/// An HTTP/2 provider that answers the first stream of a connection, and does that with the next of the first connections.
struct Refuser {
    base_url: String,
    rota: Rota,
    /// How many streams each connection has had.
    streams: Arc<Mutex<Vec<usize>>>,
    _folder: TempDir,
}

impl Refuser {
    async fn start(then: Then, connections: usize, handshake: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let authority = Authority::new();
        fs::write(&file, authority.ca.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("https://{}/v1", listener.local_addr().unwrap());
        let acceptor = authority.acceptor(&[b"h2"]);
        let streams = Arc::new(Mutex::new(Vec::new()));
        let counts = streams.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, counts) = (acceptor.clone(), counts.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(handshake).await;
                    let tls = acceptor.accept(tcp).await?;
                    let number = counts.lock().len();
                    counts.lock().push(0);
                    let then = (number < connections).then_some(then);
                    answer(tls, then, || counts.lock()[number] += 1).await
                });
            }
        });
        let rota = Rota::builder().arg("--upstream-ca").arg(file.to_string_lossy()).start().await;
        Self { base_url, rota, streams, _folder: folder }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut tls: S,
    then: Option<Then>,
    count: impl Fn(),
) -> std::io::Result<()> {
    let mut preface = [0; 24];
    tls.read_exact(&mut preface).await?;
    tls.write_all(&wire::frame(wire::SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        tls.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, s1, s2, s3, s4] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        tls.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([s1, s2, s3, s4]);
        match kind {
            wire::SETTINGS if flags == 0 => tls.write_all(&wire::frame(wire::SETTINGS, 1, 0, &[])).await?,
            wire::PING if flags == 0 => tls.write_all(&wire::frame(wire::PING, 1, 0, &payload)).await?,
            wire::HEADERS | wire::DATA if flags & wire::END_STREAM != 0 => {
                count();
                match then.filter(|_| stream > 1) {
                    Some(Then::Refuse) => {
                        let refused = 7_u32.to_be_bytes();
                        tls.write_all(&wire::frame(wire::RST_STREAM, 0, stream, &refused)).await?;
                    }
                    Some(Then::GoAway) => {
                        let last = [(stream - 2).to_be_bytes(), 0_u32.to_be_bytes()].concat();
                        tls.write_all(&wire::frame(wire::GOAWAY, 0, 0, &last)).await?;
                    }
                    Some(Then::End) => return tls.shutdown().await,
                    None => {
                        let head = [vec![0x88], wire::header("content-type", "application/json")].concat();
                        let answer = [
                            wire::frame(wire::HEADERS, wire::END_HEADERS, stream, &head),
                            wire::frame(wire::DATA, wire::END_STREAM, stream, ANSWER),
                        ];
                        tls.write_all(&answer.concat()).await?;
                    }
                }
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_has_not_looked_at_goes_again() {
    for then in [Then::Refuse, Then::GoAway] {
        let provider = Refuser::start(then, 1, Duration::ZERO).await;
        let scene = scene(&provider.rota, &provider.base_url, 2).await;
        scene.ask().await.unwrap();
        // It was certainly not processed, so that even this may go again.
        assert_eq!(forward(&scene, false).await.unwrap(), 200, "{then:?}");
        assert_eq!(*provider.streams.lock(), [2, 1], "{then:?}");
        all_well(&scene).await;
        assert_eq!(resends(&provider.rota).await, 0, "nothing was billed twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_again_once() {
    // Both connections refuse all but their first stream, which others take.
    let provider = Refuser::start(Then::Refuse, usize::MAX, Duration::ZERO).await;
    let scene = scene(&provider.rota, &provider.base_url, 1).await;
    scene.ask().await.unwrap();
    let route = scene.ask().await.unwrap().route.unwrap();
    assert_eq!(classes(&route.attempts), [ErrorClass::Unspecified]);
    // The second connection has had its first stream: no third one was made.
    assert_eq!(*provider.streams.lock(), [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_connection_that_ends_unnoticed_loses_no_call() {
    let provider = Refuser::start(Then::End, 1, Duration::ZERO).await;
    let scene = scene(&provider.rota, &provider.base_url, 2).await;
    scene.ask().await.unwrap();
    let route = scene.ask().await.unwrap().route.unwrap();
    assert_eq!(classes(&route.attempts), [ErrorClass::Unspecified]);
    assert_eq!(*provider.streams.lock(), [2, 1]);
    assert_eq!(resends(&provider.rota).await, 1);
    all_well(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_limit_ends_nobody_elses_wait() {
    // Its handshakes take longer than one tenant waits, and not as long as the other does.
    let provider = Refuser::start(Then::Refuse, 0, Duration::from_millis(800)).await;
    let hasty = scene(&provider.rota, &provider.base_url, 1).await;
    let patient = scene(&provider.rota, &provider.base_url, 1).await;
    let connect_timeout = Some(Duration::from_millis(100).try_into().unwrap());
    set_policy(&hasty, BalancingPolicy { connect_timeout, ..BalancingPolicy::default() }, &[]).await.unwrap();
    let (first, second) = tokio::join!(hasty.ask(), patient.ask());
    let status = first.unwrap_err();
    assert_eq!(told(&status), error(Code::DeadlineExceeded, "UPSTREAM_TIMEOUT"));
    assert_eq!(classes(&route(&status).attempts), [ErrorClass::Timeout]);
    second.unwrap();
    assert_eq!(provider.streams.lock().len(), 1, "one connection was enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_with_brackets_are_called() {
    let upstream = Upstream::start().await.unwrap();
    let Ok(door) = Door::at("[::1]:0", &upstream).await else {
        println!("there is no IPv6 here");
        return;
    };
    let scene = scene(Rota::shared().await, &door.base_url(), 2).await;
    scene.ask().await.unwrap();
    assert_eq!(forward(&scene, false).await.unwrap(), 200);
    assert!(door.base_url().starts_with("http://[::1]:") && door.made() > 0);
}
