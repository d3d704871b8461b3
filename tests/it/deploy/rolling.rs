//! A fleet is restarted, one replica after the other, under clients that balance by themselves and repeat nothing.

use std::{
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rota::scripted::{Script, Upstream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::support::{
    eventually, example,
    failure::{error, told},
    load::Load,
    postgres::Postgres,
    process::lasting_port,
    python,
    redis::Redis,
    root,
    rota::{Clients, Rota},
    world::Scene,
};

/// How the example in Rust connects.
#[path = "../../../examples/rust/connect.rs"]
#[allow(dead_code, reason = "here is no TLS")]
mod connect;

/// Replicas of one service, each of which comes back where it was.
async fn fleet(replicas: usize, args: &[&str]) -> Vec<Rota> {
    let redis = Redis::shared().await.url();
    let database = Postgres::shared().await.fresh_database();
    let mut settings = Rota::builder().redis(redis).database(database);
    for &arg in args {
        settings = settings.arg(arg);
    }
    let mut fleet = Vec::new();
    for _ in 0..replicas {
        let address = format!("127.0.0.1:{}", lasting_port());
        fleet.push(settings.clone().arg("--listen").arg(address).start().await);
    }
    fleet
}

/// A scene that all of them know.
async fn scene(fleet: &[Rota], upstream: &Upstream) -> Scene {
    let scene = Scene::set(&fleet[0], upstream, 3).await;
    for replica in &fleet[1..] {
        let mirror = scene.through(replica).await;
        eventually(Duration::from_secs(5), async || match mirror.ask().await {
            Ok(reply) if reply.route.as_ref().is_some_and(|route| route.config_id != "__inherit__") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    scene
}

/// Callers in a process of their own, which go on until its input ends.
struct Callers(Child);

impl Callers {
    fn start(mut client: Command, fleet: &[Rota], scene: &Scene) -> Self {
        let addresses: Vec<_> = fleet.iter().map(Rota::address).collect();
        client.args([&scene.provider, &scene.key.model]);
        client.env("ROTA_TARGET", format!("ipv4:{}", addresses.join(","))).env("ROTA_TOKEN", &scene.token);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(client.spawn().unwrap())
    }

    /// How many calls and streams were served; fails where one was not.
    async fn end(mut self) -> (u64, u64) {
        drop(self.0.stdin.take());
        let ended = tokio::task::spawn_blocking(move || self.0.wait_with_output()).await.unwrap();
        let Output { status, stdout, stderr } = ended.unwrap();
        let (said, complaints) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{said}{complaints}");
        let count = |what: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(what));
            line.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
        };
        (count("calls: "), count("streams: "))
    }
}

/// How many calls that replica has served: whole ones and streams.
async fn served(rota: &Rota) -> u64 {
    let metrics = rota.metrics().await;
    let counts = metrics.lines().filter(|line| {
        line.starts_with("rpc_server_call_duration_seconds_count")
            && (line.contains("/InvokeLlm\"") || line.contains("/StreamLlm\""))
    });
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Waits until each of them serves more than now.
async fn all_serve(fleet: &[Rota]) {
    for replica in fleet {
        let before = served(replica).await;
        eventually(Duration::from_secs(30), async || match served(replica).await {
            now if now >= before + 3 => Ok(()),
            now => Err(format!("{} served {before} and then {now}", replica.address())),
        })
        .await;
    }
}

/// Callers by the client of `examples/python`.
async fn in_python() -> Command {
    let folders = [python::stubs().await, &root().join("examples/python")];
    let mut client = python::command();
    client.env("PYTHONPATH", std::env::join_paths(folders).unwrap());
    client.arg(root().join("tests/clients/python/rolling.py"));
    client
}

/// Callers by the client of `examples/node`.
fn in_node() -> Command {
    example::node(&root().join("tests/clients/node/rolling.js"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_call_of_a_python_client() {
    a_rolling_restart_fails_no_call(in_python().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_call_of_a_node_client() {
    a_rolling_restart_fails_no_call(in_node()).await;
}

async fn a_rolling_restart_fails_no_call(client: Command) {
    let (mut fleet, scene, _upstream) = under_load().await;
    let callers = Callers::start(client, &fleet, &scene);
    restart_each(&mut fleet).await;
    let (calls, streams) = callers.end().await;
    assert!(calls > 50 && streams > 20, "{calls} calls and {streams} streams");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_call_of_a_rust_client() {
    let (mut fleet, scene, _upstream) = under_load().await;
    let scene = balanced(&fleet, scene);
    let load = Load::on([&scene], 4);
    let over = CancellationToken::new();
    let mut streams = JoinSet::new();
    for _ in 0..4 {
        let (scene, over) = (scene.clone(), over.clone());
        streams.spawn(async move {
            let mut count = 0;
            while !over.is_cancelled() {
                let pieces = scene.ask_stream().await.unwrap();
                assert!(pieces.iter().any(|piece| piece.finish_reason == "stop"), "{pieces:?}");
                count += 1;
            }
            count
        });
    }
    restart_each(&mut fleet).await;
    over.cancel();
    let (calls, streams) = (load.end().await.len(), streams.join_all().await.iter().sum::<u32>());
    assert!(calls > 50 && streams > 20, "{calls} calls and {streams} streams");
}

/// The scene through the client of `examples/rust`.
fn balanced(fleet: &[Rota], scene: Scene) -> Scene {
    let urls = fleet.iter().map(|replica| format!("http://{}", replica.address()));
    let channel = connect::connect(urls.map(|url| connect::replica(&url, None).unwrap()).collect());
    Scene { clients: Clients::over(channel, &scene.token), ..scene }
}

/// Three replicas, and a model whose streams take most of a second, so that some are under way at each signal.
async fn under_load() -> (Vec<Rota>, Scene, Upstream) {
    let upstream = Upstream::start().await.unwrap();
    let fleet = fleet(3, &["--drain-delay", "1s"]).await;
    let scene = scene(&fleet, &upstream).await;
    for key in &scene.keys {
        upstream.script(key, Script::Slow(Duration::from_millis(100)));
    }
    (fleet, scene, upstream)
}

/// Restarts one replica after the other, each when all serve calls.
async fn restart_each(fleet: &mut [Rota]) {
    all_serve(fleet).await;
    for index in 0..fleet.len() {
        let replica = &mut fleet[index];
        replica.sigterm();
        let status = replica.wait_exit(Duration::from_secs(20)).await;
        // Read before the restart, which begins a log of its own.
        let logs = replica.logs();
        assert!(status.code() == Some(0) && !logs.contains("the drain limit is over"), "{status}: {logs}");
        replica.restart().await;
        all_serve(fleet).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_says_not_serving_is_left_though_it_would_serve() {
    let upstream = Upstream::start().await.unwrap();
    let fleet = fleet(2, &["--drain-delay", "120s"]).await;
    let scene = scene(&fleet, &upstream).await;
    let in_python = Callers::start(in_python().await, &fleet, &scene);
    let in_rust = Load::on([&balanced(&fleet, scene.clone())], 2);
    all_serve(&fleet).await;
    fleet[0].sigterm();
    eventually(Duration::from_secs(20), async || {
        let before = served(&fleet[0]).await;
        all_serve(&fleet[1..]).await;
        match served(&fleet[0]).await {
            now if now == before => Ok(()),
            now => Err(format!("{before} calls and then {now}")),
        }
    })
    .await;
    scene.ask().await.unwrap();
    in_python.end().await;
    in_rust.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outlasts_the_drain_is_ended_and_its_config_free_again() {
    let upstream = Upstream::start().await.unwrap();
    let mut fleet = fleet(2, &["--drain-limit", "2s"]).await;
    let scene = scene(&fleet, &upstream).await;
    for key in &scene.keys {
        upstream.script(key, Script::StallAfter(1));
    }
    let mut stream = scene.open_stream().await.unwrap();
    stream.message().await.unwrap().unwrap();
    let other = scene.through(&fleet[1]).await;
    let in_flight = async || other.configs_now().await.iter().map(|config| config.in_flight).sum::<i32>();
    assert_eq!(in_flight().await, 1);
    fleet[0].sigterm();
    let cut = stream.message().await.unwrap_err();
    assert_eq!(told(&cut), error(Code::Unavailable, "DRAINING"));
    assert_eq!(fleet[0].wait_exit(Duration::from_secs(20)).await.code(), Some(0), "{}", fleet[0].logs());
    // What it held was given back before it ended, not after a lease has run out.
    assert_eq!(in_flight().await, 0);
    assert!(other.configs_now().await.iter().all(|config| !config.in_cooldown));
    for key in &scene.keys {
        upstream.script(key, Script::Answer);
    }
    other.ask().await.unwrap();
}
