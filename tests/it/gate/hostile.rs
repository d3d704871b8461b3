//! Clients that mean no good, each kind beside one that means well ([`Siege`]).

use std::{io, time::Duration};

use prost::Message;
use rota::{api::pb::InvokeLlmRequest, scripted::Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use crate::support::{
    eventually,
    prometheus::value,
    rota::Rota,
    siege::{GIVEN_UP, ROOM, Siege},
    wire::{self, Wire},
    world::Scene,
};

/// Sends `bytes` one at a time until the connection is closed.
async fn drip(mut wire: Wire, bytes: &[u8]) {
    let mut ticks = interval(Duration::from_millis(500));
    for byte in bytes.iter().cycle() {
        ticks.tick().await;
        if wire.send(&[*byte]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_are_slow_are_cut_off() {
    const EACH: usize = 75;
    let siege = Siege::set(&["--receive-timeout", "2s"]).await;
    let (mut beginners, mut silent, mut drippers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for _ in 0..EACH {
        let address = siege.address().to_owned();
        // The preface, ever so slowly.
        beginners.spawn(async move {
            let wire = Wire::connect(&address).await.unwrap();
            let began = Instant::now();
            drip(wire, wire::PREFACE).await;
            began.elapsed()
        });
        let address = siege.address().to_owned();
        // Nothing after the preface, not even an answer to a ping.
        silent.spawn(async move { Wire::greeted(&address).await.unwrap().ended(GIVEN_UP).await });
        let (address, headers) = (siege.address().to_owned(), siege.headers(wire::END_HEADERS, 1));
        // A call whose message comes byte by byte.
        drippers.spawn(async move {
            let mut wire = Wire::greeted(&address).await.unwrap();
            // Before the service may begin to count.
            let began = Instant::now();
            wire.send(&headers).await.unwrap();
            let mut message = vec![0, 0, 0, 4, 0].into_iter().cycle();
            let mut ticks = interval(Duration::from_millis(200));
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        let byte = wire::frame(wire::DATA, 0, 1, &[message.next().unwrap()]);
                        let _ = wire.send(&byte).await;
                    }
                    frame = wire.next() => match frame {
                        // The answer: headers, and nothing else.
                        Some((wire::HEADERS, flags, 1, _)) => {
                            assert_eq!(flags & wire::END_STREAM, wire::END_STREAM);
                            break;
                        }
                        Some(_) => {}
                        None => panic!("closed before its call was answered"),
                    }
                }
            }
            (began.elapsed(), wire.ended(GIVEN_UP).await)
        });
    }
    eventually(Duration::from_secs(30), async || {
        let open = value(&siege.rota.metrics().await, "rota_connections", &[]);
        if open >= 2 * EACH as u64 { Ok(()) } else { Err(format!("{open} connections")) }
    })
    .await;
    for took in beginners.join_all().await {
        assert!(took < Duration::from_secs(40), "a preface may take {took:?}");
    }
    for (took, _) in drippers.join_all().await {
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(20), "{took:?}");
    }
    silent.join_all().await;
    siege.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_headers_slowly_to_the_admin_port_is_cut_off() {
    let rota = Rota::builder().start().await;
    let address = rota.probes().await;
    let mut slow = JoinSet::new();
    for _ in 0..100 {
        let address = address.clone();
        slow.spawn(async move {
            let mut tcp = TcpStream::connect(&address).await.unwrap();
            let began = Instant::now();
            let mut ticks = interval(Duration::from_millis(500));
            for byte in b"GET /livez HTTP/1.1\r\nhost: ".iter().copied().chain(std::iter::repeat(b'x')) {
                ticks.tick().await;
                let mut answer = [0; 64];
                let sent = tcp.write_all(&[byte]).await;
                let ended = matches!(tcp.try_read(&mut answer), Ok(0));
                if ended || sent.is_err() {
                    break;
                }
            }
            began.elapsed()
        });
    }
    while let Some(took) = slow.join_next().await {
        assert!(took.unwrap() < Duration::from_secs(40));
        assert_eq!(reqwest::get(format!("http://{address}/livez")).await.unwrap().status().as_u16(), 200);
    }
}

/// What came of a flood.
#[derive(Debug)]
enum Flood {
    /// The connection was closed, with that code where a GOAWAY came.
    Closed(Option<u32>),
    /// Nothing more was read: the sender waits.
    Stalled,
    /// All of it was read.
    Swallowed,
}

/// Sends what `next` makes so many times, reading nothing meanwhile but what closes the connection.
async fn flood(
    address: String,
    begin: Vec<u8>,
    count: u32,
    next: impl Fn(u32) -> Vec<u8>,
) -> io::Result<Flood> {
    let mut wire = Wire::greeted(&address).await?;
    wire.send(&begin).await?;
    let sending = async {
        // In pieces of many frames: the flood must outrun who reads it.
        for first in (0..count).step_by(64) {
            let frames: Vec<u8> = (first..count.min(first + 64)).flat_map(&next).collect();
            if wire.send(&frames).await.is_err() {
                return false;
            }
        }
        true
    };
    match timeout(Duration::from_secs(5), sending).await {
        Err(_) => return Ok(Flood::Stalled),
        Ok(true) => {
            // The answer to a ping comes after all that was sent before it.
            let _ = wire.send(&wire::frame(wire::PING, 0, 0, b"all read")).await;
        }
        Ok(false) => {}
    }
    let mut code = None;
    let reading = async {
        while let Some((kind, flags, _, payload)) = wire.next().await {
            if kind == wire::GOAWAY {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
            if kind == wire::PING && flags == 1 && payload == b"all read" {
                return true;
            }
        }
        false
    };
    match timeout(Duration::from_secs(30), reading).await {
        Ok(true) => Ok(Flood::Swallowed),
        Ok(false) => Ok(Flood::Closed(code)),
        Err(_) => Ok(Flood::Stalled),
    }
}

/// HTTP/2's ENHANCE_YOUR_CALM.
const CALM: Option<u32> = Some(11);

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_reset_as_they_come_end_their_connection() {
    let siege = Siege::set(&[]).await;
    for _ in 0..10 {
        let headers = siege.headers(wire::END_HEADERS, 0);
        let reset = |i: u32| {
            let stream = 2 * i + 1;
            let mut headers = headers.clone();
            headers[5..9].copy_from_slice(&stream.to_be_bytes());
            [headers, wire::frame(wire::RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
        };
        match flood(siege.address().to_owned(), vec![], 20_000, reset).await.unwrap() {
            // The reset of a connection with bytes unread may overtake the word about why.
            Flood::Closed(code) => assert!(code.is_none() || code == CALM, "{code:?}"),
            other => panic!("{other:?}"),
        }
    }
    siege.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_end_their_connection() {
    let siege = Siege::set(&[]).await;
    for _ in 0..10 {
        let begin = siege.headers(0, 1);
        let more = |i: u32| {
            let name = format!("x-{i}");
            wire::frame(wire::CONTINUATION, 0, 1, &wire::header(&name, &"x".repeat(1000)))
        };
        let outcome = flood(siege.address().to_owned(), begin, 20_000, more).await.unwrap();
        assert!(matches!(outcome, Flood::Closed(_)), "{outcome:?}");
    }
    siege.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_small_frames_cost_little() {
    type Next = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;
    let siege = Siege::set(&[]).await;
    let open = siege.headers(wire::END_HEADERS, 1);
    let floods: [(&str, Vec<u8>, Next); 6] = [
        ("PING", vec![], Box::new(|i| wire::frame(wire::PING, 0, 0, &u64::from(i).to_be_bytes()))),
        // ENABLE_PUSH, off.
        ("SETTINGS", vec![], Box::new(|_| wire::frame(wire::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0]))),
        ("empty DATA", open.clone(), Box::new(|_| wire::frame(wire::DATA, 0, 1, &[]))),
        ("WINDOW_UPDATE", open.clone(), Box::new(|_| wire::frame(wire::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]))),
        (
            "CONTINUATION, empty",
            siege.headers(0, 1),
            Box::new(|_| wire::frame(wire::CONTINUATION, 0, 1, &[])),
        ),
        ("of a kind that is none", vec![], Box::new(|_| wire::frame(250, 0, 0, &[1; 8]))),
    ];
    for (name, begin, next) in floods {
        let outcome = flood(siege.address().to_owned(), begin, 200_000, next).await.unwrap();
        println!("{name}: {outcome:?}");
    }
    siege.recovers().await;
}

/// What was answered to a message sent as it is: the gRPC status.
async fn post(siege: &Siege, rpc: &str, encoding: &str, body: Vec<u8>) -> String {
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let request = client
        .post(format!("http://{}/{rpc}", siege.address()))
        .header("authorization", format!("Bearer {}", siege.scene.token))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(body);
    let answer = timeout(Duration::from_secs(60), request.send()).await.expect("no answer");
    match answer {
        Ok(answer) => answer
            .headers()
            .get("grpc-status")
            .map_or_else(|| format!("HTTP {}", answer.status()), |code| code.to_str().unwrap().to_owned()),
        Err(error) => format!("{error:?}"),
    }
}

fn framed(compressed: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[compressed][..], &length.to_be_bytes(), bytes].concat()
}

/// A gzip stream of zeros: 1 GiB of them in 7 MB.
fn bomb(most: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    // A block with the fixed codes, which is not the last: one zero, and then copies of it.
    bits.extend([false, true, false]);
    bits.extend([false, false, true, true, false, false, false, false]);
    // Eight times a copy of 258 bytes from a distance of 1 are 13 bytes.
    let copy = [true, true, false, false, false, true, false, true, false, false, false, false, false];
    // To the next whole byte and on: the pattern repeats by bytes from there.
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let head = bits.len();
    for _ in 0..16 {
        bits.extend(copy);
    }
    let packed: Vec<u8> = bits
        .chunks_exact(8)
        .map(|bits| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at))
        .collect();
    assert!(head < 16);
    bytes.extend(&packed[..2]);
    while bytes.len() < most {
        bytes.extend(&packed[2..15]);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_not_what_they_say_are_refused() {
    const OUT_OF_RANGE: &str = "11";
    const RESOURCE_EXHAUSTED: &str = "8";
    const UNIMPLEMENTED: &str = "12";
    const INVALID_ARGUMENT: &str = "3";
    let call = "rota.v1.InvokeService/InvokeLlm";
    let check = "grpc.health.v1.Health/Check";
    let reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let siege = Siege::set(&["--max-message-size", "8MiB"]).await;
    let real = InvokeLlmRequest { key: Some(siege.scene.key.clone()), ..Default::default() }.encode_to_vec();
    let length = real.len() as u32;
    for (rpc, encoding, body, expected) in [
        // A length beyond the bound, said alone and come true.
        (call, "identity", framed(0, u32::MAX, &[]), OUT_OF_RANGE),
        (call, "identity", framed(0, 9 << 20, &vec![0; 9 << 20]), OUT_OF_RANGE),
        (check, "identity", framed(0, u32::MAX, &[]), OUT_OF_RANGE),
        // A length that is not the message's.
        (call, "identity", framed(0, length + 1, &real), INVALID_ARGUMENT),
        (call, "identity", framed(0, length - 1, &real), INVALID_ARGUMENT),
        (call, "identity", framed(0, 8 << 20, &[]), INVALID_ARGUMENT),
        (call, "identity", framed(7, length, &real), INVALID_ARGUMENT),
        (call, "identity", vec![], INVALID_ARGUMENT),
        (call, "identity", vec![0, 0], INVALID_ARGUMENT),
        // Compression that nobody named, that nobody knows, and that is none.
        (call, "identity", framed(1, length, &real), INVALID_ARGUMENT),
        (call, "zstd", framed(1, length, &real), UNIMPLEMENTED),
        (call, "gzip", framed(1, length, &real), INVALID_ARGUMENT),
        // What needs no token is small, and not compressed.
        (check, "identity", framed(0, 5 << 10, &vec![0; 5 << 10]), OUT_OF_RANGE),
        (check, "gzip", framed(1, length, &real), UNIMPLEMENTED),
        (reflection, "gzip", framed(1, length, &real), UNIMPLEMENTED),
    ] {
        let told = post(&siege, rpc, encoding, body).await;
        assert_eq!(told, expected, "{rpc}, {encoding}");
    }
    // 1 GiB of zeros where a call may have 8 MiB.
    let bomb = bomb(7 << 20);
    let body = framed(1, bomb.len() as u32, &bomb);
    assert_eq!(post(&siege, call, "gzip", body).await, RESOURCE_EXHAUSTED);
    // Many calls that say they bring much and bring nothing: a length alone must not cost memory.
    let mut wire = Wire::greeted(siege.address()).await.unwrap();
    for stream in (1..1000).step_by(2) {
        let message = wire::frame(wire::DATA, 0, stream, &framed(0, 8 << 20, &[]));
        wire.send(&[siege.headers(wire::END_HEADERS, stream), message].concat()).await.unwrap();
    }
    eventually(Duration::from_secs(30), async || {
        let text = siege.rota.metrics().await;
        let count = value(&text, "rota_calls_in_flight", &[]);
        if count >= 500 { Ok(()) } else { Err(format!("{count} in flight")) }
    })
    .await;
    let (now, before) = (siege.rota.resident(), siege.resident);
    assert!(now <= before.map(|before| before + ROOM), "{now:?} KiB resident, {before:?} before");
    drop(wire);
    siege.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_beyond_its_bound_reaches_nobody() {
    let siege = Siege::set(&[]).await;
    for size in [64 << 10, 1 << 20] {
        let mut wire = Wire::greeted(siege.address()).await.unwrap();
        let block = wire::call(siege.address(), "InvokeService/InvokeLlm", &siege.scene.token);
        let block = [block, wire::header("x-much", &"x".repeat(size))].concat();
        let mut frames = block.chunks(16 << 10).enumerate().map(|(at, chunk)| {
            let kind = if at == 0 { wire::HEADERS } else { wire::CONTINUATION };
            let end = if (at + 1) * (16 << 10) >= block.len() { wire::END_HEADERS } else { 0 };
            wire::frame(kind, end, 1, chunk)
        });
        // Refused with an answer, a reset or the end of the connection, as far beyond as it is.
        let _ = wire.send(&frames.by_ref().flatten().collect::<Vec<_>>()).await;
        let refused = timeout(Duration::from_secs(30), async {
            while let Some((kind, _, stream, _)) = wire.next().await {
                if kind == wire::GOAWAY || (stream == 1 && [wire::HEADERS, wire::RST_STREAM].contains(&kind))
                {
                    return;
                }
            }
        });
        refused.await.unwrap_or_else(|_| panic!("{size} bytes of metadata are taken"));
    }
    siege.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http2_is_closed() {
    let siege = Siege::set(&[]).await;
    let mut garbage: [u8; 4096] = rand::random::<[u8; 32]>().repeat(128).try_into().unwrap();
    garbage[0] |= 128;
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 64]].concat();
    let headers = siege.headers(wire::END_HEADERS, 1);
    for _ in 0..50 {
        for bytes in [
            &garbage[..],
            &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
            &b"PRI * HT"[..],
            &hello[..],
            // The preface, and then what is no frame of settings.
            &[wire::PREFACE, &garbage[..]].concat()[..],
        ] {
            let mut wire = Wire::connect(siege.address()).await.unwrap();
            let _ = wire.send(bytes).await;
            // One that has only begun is given time; the end of what it sends is the end of it.
            if bytes.len() < wire::PREFACE.len() {
                wire.half_close().await;
            }
            wire.ended(Duration::from_secs(30)).await;
        }
        // Half closed, and reset, with a call on its way.
        for reset in [false, true] {
            let mut wire = Wire::greeted(siege.address()).await.unwrap();
            wire.send(&headers).await.unwrap();
            if reset {
                wire.reset();
            } else {
                wire.half_close().await;
                wire.ended(Duration::from_secs(30)).await;
            }
        }
    }
    siege.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_leave_descriptors_for_calls() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().descriptors(200).start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        if let Ok(wire) = Wire::greeted(rota.address()).await {
            held.push(wire);
        }
    }
    eventually(Duration::from_secs(10), async || {
        let open = value(&rota.metrics().await, "rota_connections", &[]);
        if open == 100 { Ok(()) } else { Err(format!("{open} open")) }
    })
    .await;
    // Each needs a connection to the provider of its own.
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let scene = scene.clone();
            tokio::spawn(async move { scene.ask().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_bound_strangers_give_way_and_callers_stay() {
    let rota = Rota::builder().arg("--max-connections").arg("8").start().await;
    let token = rota.operator_token().await.to_owned();
    // What waited until it served is gone soon.
    let mut held = eventually(Duration::from_secs(10), async || {
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut wire = Wire::greeted(rota.address()).await.map_err(|error| error.to_string())?;
            wire.next().await.ok_or("closed")?;
            held.push(wire);
        }
        Ok(held)
    })
    .await;
    // The oldest that has said nothing gives way to who has a token.
    let mut callers = Vec::new();
    for _ in 0..8 {
        let call = wire::call(rota.address(), "ConfigService/ListProviderKinds", &token);
        let headers = wire::frame(wire::HEADERS, wire::END_HEADERS, 1, &call);
        let message = wire::frame(wire::DATA, wire::END_STREAM, 1, &framed(0, 0, &[]));
        let mut caller = Wire::greeted(rota.address()).await.unwrap();
        caller.send(&[headers, message].concat()).await.unwrap();
        while !matches!(caller.next().await, Some((wire::DATA, ..))) {}
        callers.push(caller);
        held.remove(0).ended(Duration::from_secs(5)).await;
    }
    // Nobody of these does: the next is closed at once.
    let mut tcp = TcpStream::connect(rota.address()).await.unwrap();
    let read = timeout(Duration::from_secs(5), tcp.read(&mut [0; 1])).await.expect("not closed at once");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let text = rota.metrics().await;
    assert_eq!(value(&text, "rota_connections", &[]), 8);
    assert!(value(&text, "rota_connections_refused_total", &[]) >= 9);
    drop(callers);
    eventually(Duration::from_secs(10), async || {
        rota.health("").await.map(drop).map_err(|status| status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_the_admin_port_keeps_no_probe_out() {
    let rota = Rota::builder().start().await;
    let address = rota.probes().await;
    let mut held = Vec::new();
    for _ in 0..400 {
        let mut tcp = TcpStream::connect(&address).await.unwrap();
        tcp.write_all(b"GET /livez HTTP/1.1\r\nhost: ").await.unwrap();
        held.push(tcp);
    }
    for _ in 0..10 {
        assert_eq!(reqwest::get(format!("http://{address}/readyz")).await.unwrap().status().as_u16(), 200);
    }
    // A head that is too large.
    let mut tcp = TcpStream::connect(&address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-much: {}\r\n\r\n", "x".repeat(64 << 10));
    let _ = tcp.write_all(head.as_bytes()).await;
    let mut answer = String::new();
    let _ = timeout(Duration::from_secs(10), tcp.read_to_string(&mut answer)).await.expect("it is read");
    assert!(!answer.contains("alive"), "{answer}");
}
