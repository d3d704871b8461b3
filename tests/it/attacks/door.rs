//! Attacks on the door: before the token, with requests that do not end or become large, with answers that nobody reads,
//! with many watches.

use std::{fs, io::Write as _, time::Duration};

use prost::Message as _;
use rota::{
    api::pb::{
        GetLoadBalancingConfigsRequest, InvokeLlmRequest, ListTenantsRequest, Message, WatchPoolRequest,
    },
    scripted::{Script, Upstream},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::Code;

use super::beside::{assert_undisturbed, beside, ordinary};
use crate::support::{
    eventually,
    failure::{error, retry_after, told},
    prometheus::value,
    rota::Rota,
    wire::{self, Wire},
    world::{Scene, config, hi},
};

/// How much what comes without a token may make memory grow, in KiB: a quarter of the 1 GiB that a replica has on Kubernetes.
const QUARTER: u64 = 256 << 10;
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// An attacker's tenant and another.
struct Field {
    upstream: Upstream,
    rota: Rota,
    attacker: Scene,
    other: Scene,
}

impl Field {
    async fn set(args: &[&str]) -> Self {
        let upstream = Upstream::start().await.unwrap();
        let rota = args.iter().fold(Rota::builder(), |builder, arg| builder.arg(*arg)).start().await;
        let attacker = Scene::set(&rota, &upstream, 2).await;
        let other = Scene::set(&rota, &upstream, 2).await;
        other.ask().await.unwrap();
        Self { upstream, rota, attacker, other }
    }

    /// The slowest hundredth of the other's calls beside ordinary ones of the attacker.
    async fn ordinary(&self, callers: usize) -> Duration {
        beside(&self.other, ordinary(&self.attacker, callers, Duration::from_secs(2))).await.0
    }

    fn resident(&self) -> u64 {
        self.rota.resident().unwrap_or_default()
    }

    async fn in_flight(&self) -> u64 {
        value(&self.rota.metrics().await, "rota_calls_in_flight", &[])
    }

    /// Waits until no call has a place.
    async fn all_given_back(&self, limit: Duration) {
        eventually(limit, async || match self.in_flight().await {
            0 => Ok(()),
            count => Err(format!("{count} calls in flight")),
        })
        .await;
    }

    /// The head of the attacker's call.
    fn call(&self, flags: u8, stream: u32) -> Vec<u8> {
        let block = wire::call(self.rota.address(), "InvokeService/InvokeLlm", &self.attacker.token);
        wire::frame(wire::HEADERS, wire::END_HEADERS | flags, stream, &block)
    }

    fn message(&self, stream: u32) -> Vec<u8> {
        wire::frame(
            wire::DATA,
            wire::END_STREAM,
            stream,
            &framed(0, &self.attacker.request().encode_to_vec()),
        )
    }
}

fn framed(packed: u8, bytes: &[u8]) -> Vec<u8> {
    [&[packed][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// The head of a call without a token, with so many bytes of metadata.
fn stranger(address: &str, path: &str, stream: u32, encoding: &str, metadata: usize) -> Vec<u8> {
    let padding = "x".repeat(metadata);
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", address),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-encoding", encoding),
        ("x-much", &padding),
    ];
    let block: Vec<u8> = headers.into_iter().flat_map(|(name, value)| wire::header(name, value)).collect();
    wire::frame(wire::HEADERS, wire::END_HEADERS, stream, &block)
}

/// Reads until the end of that stream's answer: its status as the headers hold it, where they are not compressed.
async fn status(wire: &mut Wire, stream: u32, limit: Duration) -> Vec<u8> {
    let reading = async {
        while let Some((kind, flags, at, payload)) = wire.next().await {
            if at == stream && kind == wire::HEADERS && flags & wire::END_STREAM != 0 {
                return payload;
            }
        }
        panic!("closed before stream {stream} was answered");
    };
    timeout(limit, reading).await.unwrap_or_else(|_| panic!("stream {stream} is not answered in {limit:?}"))
}

/// Every kind of thing that a connection can leave unfinished without a token: checks whose message never ends, watches,
/// reflection that reads no answers, calls with a wrong token whose bodies nobody should read.
async fn unfinished(address: String) -> Option<Wire> {
    let mut wire = Wire::connect(&address).await.ok()?;
    // A window of nothing for every answer.
    let settings = wire::frame(wire::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    wire.send(&[wire::PREFACE, &settings].concat()).await.ok()?;
    let mut bytes = Vec::new();
    for (at, path) in
        [CHECK, WATCH, REFLECTION, "/rota.v1.InvokeService/InvokeLlm"].repeat(12).iter().enumerate()
    {
        let stream = 2 * at as u32 + 1;
        bytes.extend(stranger(&address, path, stream, "identity", 8 << 10));
        // A message that says it is long, and comes in part.
        let part = [&[0, 0, 0, 0x0f, 0xa0][..], &[1; 1000]].concat();
        bytes.extend(wire::frame(wire::DATA, 0, stream, &part));
    }
    wire.send(&bytes).await.ok()?;
    Some(wire)
}

async fn strangers(connections: usize) {
    let field = Field::set(&[]).await;
    let normal = field.ordinary(8).await;
    let before = field.resident();
    let attack = async {
        let (mut held, mut most) = (Vec::new(), 0);
        let mut coming = JoinSet::new();
        for _ in 0..connections {
            coming.spawn(unfinished(field.rota.address().to_owned()));
            if coming.len() >= 64 {
                held.extend(coming.join_next().await.unwrap().unwrap());
                most = most.max(field.resident());
            }
        }
        held.extend(coming.join_all().await.into_iter().flatten());
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            most = most.max(field.resident());
            sleep(Duration::from_millis(50)).await;
        }
        (held.len(), most)
    };
    let (attacked, (held, most)) = beside(&field.other, attack).await;
    let grown = most.saturating_sub(before);
    println!("{held} connections without a token: {grown} KiB more");
    assert!(grown < QUARTER, "{grown} KiB more with {held} connections");
    assert_undisturbed(attacked, normal);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_without_a_token_holds_little() {
    strangers(150).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: takes thousands of connections"]
async fn what_comes_without_a_token_holds_little_in_full() {
    strangers(4000).await;
}

async fn reflections(connections: usize) {
    const SOME: Duration = Duration::from_secs(30);
    let field = Field::set(&[]).await;
    let normal = field.ordinary(8).await;
    let before = field.resident();
    let attack = async {
        let mut attackers = JoinSet::new();
        for _ in 0..connections {
            let address = field.rota.address().to_owned();
            attackers.spawn(async move {
                let mut wire = Wire::greeted(&address).await.unwrap();
                // Compressed: refused as soon as its head is there.
                wire.send(&stranger(&address, REFLECTION, 1, "gzip", 0)).await.unwrap();
                status(&mut wire, 1, SOME).await;
                // Two, each with more questions than it reads answers to; a third is refused at once.
                let everything = framed(0, &[&[0x3a, 1][..], b"*"].concat()).repeat(100);
                for stream in [3, 5] {
                    wire.send(&stranger(&address, REFLECTION, stream, "identity", 0)).await.unwrap();
                    wire.send(&wire::frame(wire::DATA, 0, stream, &everything)).await.unwrap();
                }
                wire.begun(&[3, 5], SOME).await;
                wire.send(&stranger(&address, REFLECTION, 7, "identity", 0)).await.unwrap();
                let refused = status(&mut wire, 7, SOME).await;
                assert!(refused.len() > 20);
                // None lasts.
                wire.ended_streams(&[3, 5], SOME).await;
            });
        }
        attackers.join_all().await;
        field.resident()
    };
    let (attacked, most) = beside(&field.other, attack).await;
    assert!(most < before + QUARTER, "{before} KiB before, {most} then");
    assert_undisturbed(attacked, normal);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_is_small_and_short() {
    reflections(20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: takes many connections"]
async fn reflection_is_small_and_short_in_full() {
    reflections(500).await;
}

/// Calls whose answers nobody reads: the window of each is nothing.
async fn unread(calls: u32) {
    let field = Field::set(&["--send-timeout", "3s"]).await;
    let normal = field.ordinary(200).await;
    let before = field.resident();
    let attack = async {
        let (began, mut held) = (Instant::now(), Vec::new());
        for first in (0..calls).step_by(500) {
            let mut wire = Wire::connect(field.rota.address()).await.unwrap();
            let settings = wire::frame(wire::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
            wire.send(&[wire::PREFACE, &settings].concat()).await.unwrap();
            for at in 0..500.min(calls - first) {
                let call = [field.call(0, 2 * at + 1), field.message(2 * at + 1)].concat();
                wire.send(&call).await.unwrap();
            }
            held.push(wire);
        }
        // They hold their places for as long as somebody may read slowly, and no longer.
        eventually(Duration::from_secs(60), async || match field.in_flight().await {
            count if count > 5 => Ok(()),
            count => Err(format!("{count} in flight")),
        })
        .await;
        let most = field.resident();
        field.settled(began).await;
        // Whoever reads then is told why.
        let mut told = status(&mut held[0], 1, Duration::from_secs(10)).await;
        told.truncate(2000);
        (held, most)
    };
    let (attacked, (held, most)) = beside(&field.other, attack).await;
    println!("{calls} unread answers: {} KiB more", most.saturating_sub(before));
    assert!(most < before + QUARTER, "{before} KiB before, {most} then");
    assert_undisturbed(attacked, normal);
    // The connections still serve.
    for mut wire in held {
        let stream = 100_001;
        wire.send(&field.call(0, stream)).await.unwrap();
        wire.send(&wire::frame(wire::DATA, wire::END_STREAM, stream, &framed(7, b""))).await.unwrap();
        status(&mut wire, stream, Duration::from_secs(10)).await;
    }
    field.all_given_back(Duration::from_secs(10)).await;
}

impl Field {
    /// Waits until hardly any call has a place: the other's go on.
    async fn settled(&self, began: Instant) {
        eventually(Duration::from_secs(120), async || match self.in_flight().await {
            count if count <= 2 => Ok(()),
            count => Err(format!("{count} in flight after {:?}", began.elapsed())),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_end() {
    unread(300).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: takes 10,000 calls"]
async fn answers_that_nobody_reads_end_in_full() {
    unread(10_000).await;
}

/// Heads of calls whose messages never come, with as much metadata as goes.
async fn headless(calls: u32, max_calls: &str) {
    let field = Field::set(&["--receive-timeout", "3s", "--max-calls", max_calls]).await;
    let normal = field.ordinary(8).await;
    let before = field.resident();
    let attack = async {
        let (began, mut held) = (Instant::now(), Vec::new());
        let padding = wire::header("x-much", &"x".repeat(12 << 10));
        for first in (0..calls).step_by(500) {
            let mut wire = Wire::greeted(field.rota.address()).await.unwrap();
            for at in 0..500.min(calls - first) {
                let block =
                    wire::call(field.rota.address(), "InvokeService/InvokeLlm", &field.attacker.token);
                let block = [block, padding.clone()].concat();
                wire.send(&wire::frame(wire::HEADERS, wire::END_HEADERS, 2 * at + 1, &block)).await.unwrap();
            }
            held.push(wire);
        }
        let most = field.resident();
        // The operator acts meanwhile.
        let mut operator = field.rota.operator().await;
        operator.admin.list_tenants(ListTenantsRequest::default()).await.unwrap();
        field.rota.health("").await.unwrap();
        let shed = value(&field.rota.metrics().await, "rota_sheds_total", &[("reason", "tenant_calls")]);
        field.settled(began).await;
        (held, most, shed)
    };
    let (attacked, (_held, most, shed)) = beside(&field.other, attack).await;
    println!("{calls} heads without a body: {} KiB more, {shed} refused", most.saturating_sub(before));
    assert!(most < before + QUARTER, "{before} KiB before, {most} then");
    assert!(shed > 0, "none was refused");
    assert_undisturbed(attacked, normal);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_a_body_leave_room() {
    headless(400, "100").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: takes 12,000 calls"]
async fn heads_without_a_body_leave_room_in_full() {
    headless(12_000, "10000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_fills_everything_leaves_room_for_others_and_operators() {
    let field = Field::set(&["--max-calls", "48"]).await;
    for key in &field.attacker.keys {
        field.upstream.script(key, Script::Hang);
    }
    // The other calls all the while: half is for it.
    let attack = async {
        let mut hanging = JoinSet::new();
        for _ in 0..100 {
            let attacker = field.attacker.clone();
            hanging.spawn(async move { attacker.ask().await });
        }
        for _ in 0..76 {
            let status = hanging.join_next().await.unwrap().unwrap().unwrap_err();
            assert_eq!(told(&status), error(Code::ResourceExhausted, "TENANT_LIMIT"));
            assert!(!retry_after(&status).is_zero());
        }
        let in_flight = field.in_flight().await;
        assert!((24..=25).contains(&in_flight), "{in_flight} in flight");
        let mut operator = field.rota.operator().await;
        for _ in 0..20 {
            operator.admin.list_tenants(ListTenantsRequest::default()).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
    };
    beside(&field.other, attack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_alone_may_use_everything_and_who_comes_finds_room() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().arg("--max-calls").arg("16").start().await;
    let alone = Scene::set(&rota, &upstream, 2).await;
    let mut other = Scene::tenant(&rota).await;
    other.add_model(&format!("{}/v1", upstream.origin())).await;
    for key in &alone.keys {
        upstream.script(key, Script::Hang);
    }
    // Beside another that has called lately it has half; alone, everything.
    let mut hanging = JoinSet::new();
    eventually(Duration::from_secs(60), async || {
        sleep(Duration::from_millis(200)).await;
        let in_flight = upstream.in_flight();
        if in_flight < 16 {
            let alone = alone.clone();
            hanging.spawn(async move { alone.ask().await });
            return Err(format!("{in_flight} in flight"));
        }
        Ok(())
    })
    .await;
    let status = alone.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "OVERLOADED"));
    assert!(!retry_after(&status).is_zero());
    let list = GetLoadBalancingConfigsRequest { key: Some(other.key.clone()), ..Default::default() };
    for _ in 0..5 {
        other.clients.config.get_load_balancing_configs(list.clone()).await.unwrap();
        rota.operator().await.admin.list_tenants(ListTenantsRequest::default()).await.unwrap();
    }
}

/// Bytes of memory that so many requests would take, packed into some KiB each.
async fn packed(callers: usize, mib: usize) {
    let (message, all) = (format!("{mib}MiB"), format!("{}MiB", 8 * mib));
    let field = Field::set(&["--max-message-size", &message, "--max-request-bytes", &all]).await;
    let large = (mib << 20) - 1024;
    let normal = field.ordinary(8).await;
    let before = field.resident();
    let zeros = InvokeLlmRequest {
        messages: vec![Message { content: "0".repeat(large), ..hi() }],
        ..field.attacker.request()
    };
    // Messages of nothing: two bytes each, and some hundred once they are decoded.
    let nothing = [field.attacker.request().encode_to_vec(), [0x12, 0].repeat(large / 2)].concat();
    let bodies = [zeros.encode_to_vec(), nothing].map(|bytes| framed(1, &gzipped(&bytes)));
    let (mut most, mut refused) = (0, 0);
    let attack = async {
        let end = Instant::now() + Duration::from_secs(3);
        let mut attackers = JoinSet::new();
        for caller in 0..callers {
            let (address, token) = (field.rota.address().to_owned(), field.attacker.token.clone());
            let body = bodies[caller % 2].clone();
            attackers.spawn(async move {
                let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
                let mut codes = Vec::new();
                while Instant::now() < end {
                    let request = client
                        .post(format!("http://{address}/rota.v1.InvokeService/InvokeLlm"))
                        .header("authorization", format!("Bearer {token}"))
                        .header("content-type", "application/grpc")
                        .header("grpc-encoding", "gzip")
                        .body(body.clone());
                    let answer = request.send().await.unwrap();
                    codes.extend(
                        answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned()),
                    );
                    drop(answer.bytes().await);
                }
                codes
            });
        }
        while !attackers.is_empty() {
            tokio::select! {
                codes = attackers.join_next() => refused += codes.map_or(0, |codes| codes.unwrap().len()),
                () = sleep(Duration::from_millis(5)) => most = most.max(field.resident()),
            }
        }
    };
    let (attacked, ()) = beside(&field.other, attack).await;
    let grown = most.saturating_sub(before);
    println!("{callers} callers with packed requests: {grown} KiB more, {refused} refused");
    assert!(refused > 0);
    // What is counted, its encoded form on the way to the provider, and what the allocator keeps.
    assert!(grown < 3 * QUARTER, "{grown} KiB more");
    assert_undisturbed(attacked, normal);
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip is not installed");
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_requests_count_as_what_they_become() {
    packed(6, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: takes much memory and time"]
async fn packed_requests_count_as_what_they_become_in_full() {
    packed(64, 32).await;
}

/// The processor's time that a process has taken so far.
fn worked(rota: &Rota) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", rota.id())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn watches(watches: usize, configs: usize) {
    const TIME: Duration = Duration::from_secs(4);
    let mut field = Field::set(&[]).await;
    let many = (0..configs).map(|i| config(&format!("config-{i}"), &format!("key-{i}"))).collect();
    field.attacker.put_configs(many).await;
    let normal = field.ordinary(4).await;
    let request = || WatchPoolRequest { key: Some(field.attacker.key.clone()) };
    let mut open = Vec::new();
    let clients: Vec<_> =
        futures::future::join_all((0..10).map(|_| field.rota.clients(&field.attacker.token))).await;
    let mut cost = Vec::new();
    let mut slowest = Duration::ZERO;
    for count in [1, watches] {
        while open.len() < count {
            let client = clients[open.len() % clients.len()].config.clone();
            let mut client = client.max_decoding_message_size(64 << 20);
            let mut watch = client.watch_pool(request()).await.unwrap().into_inner();
            let state = watch.message().await.unwrap().unwrap().state.unwrap();
            assert_eq!(state.configs.len(), configs);
            open.push(watch);
        }
        let before = worked(&field.rota);
        let (attacked, ()) = beside(&field.other, sleep(TIME)).await;
        slowest = slowest.max(attacked);
        cost.push(worked(&field.rota).checked_sub(before).unwrap());
    }
    println!(
        "{configs} configs watched for {TIME:?}: one watch {:?}, {watches} watches {:?}",
        cost[0], cost[1]
    );
    assert!(cost[1] <= cost[0].mul_f32(1.5) + Duration::from_millis(600), "{cost:?}");
    assert_undisturbed(slowest, normal);
    // A change reaches all.
    field.attacker.change_configs(|configs| configs[0].name = "changed".to_owned()).await;
    for watch in &mut open {
        loop {
            let state = watch.message().await.unwrap().unwrap().state.unwrap();
            if state.configs.iter().any(|config| config.name == "changed") {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watches_of_a_pool_cost_what_one_costs() {
    watches(60, 300).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: takes 300 watches of 1,000 configs"]
async fn many_watches_of_a_pool_cost_what_one_costs_in_full() {
    watches(300, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_so_many_watches() {
    let field = Field::set(&["--tenant-max-watches", "3"]).await;
    let watch = async |scene: &Scene| {
        let request = WatchPoolRequest { key: Some(scene.key.clone()) };
        scene.clients.config.clone().watch_pool(request).await.map(tonic::Response::into_inner)
    };
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(watch(&field.attacker).await.unwrap());
    }
    let status = watch(&field.attacker).await.unwrap_err();
    assert_eq!(told(&status), error(Code::ResourceExhausted, "TENANT_LIMIT"));
    assert!(!retry_after(&status).is_zero());
    let mut of_other = watch(&field.other).await.unwrap();
    assert!(of_other.message().await.unwrap().is_some());
    open.pop();
    eventually(Duration::from_secs(10), async || match watch(&field.attacker).await {
        Ok(_) => Ok(()),
        Err(status) => Err(status.to_string()),
    })
    .await;
}
