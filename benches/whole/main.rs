//! Rota as a whole under load, beside the floor: `make bench`.
//!
//! Starts, as processes of their own, an upstream that answers at once, the floor (a bare tonic service with the same
//! messages), the built `rota` in embedded mode and on Redis, and nginx as a plain proxy where it is installed. Drives
//! each from a load process, several times in turn, and prints the medians as the tables of docs/measurements/performance.md. A
//! run with any failed call is no run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a program at the terminal; the unexpected ends it"
)]

mod clock;
mod load;
mod measure;
mod peers;
mod report;
mod servers;
mod store;
#[path = "../../tests/it/support/mod.rs"]
#[allow(
    unused_imports,
    unused_macros,
    clippy::assigning_clones,
    clippy::unnecessary_wraps,
    reason = "the tests use the rest; see tests/it/main.rs"
)]
mod support;

use load::{Call, Outcome, Plan};
use std::{
    env, fs,
    process::{Command, Stdio},
    time::Duration,
};
use support::{
    process::Process,
    redis::Redis,
    rota::{Builder, Rota},
    world::Scene,
};
use tempfile::TempDir;

/// Names the program of an earlier version, which is measured beside this one: a pair in each repetition.
const BEFORE: &str = "BENCH_BEFORE";
/// Rota by its HTTP door, which hands the bodies of the same protocol on as they are.
const HTTP: &str = "rota over HTTP, embedded";
const HTTP_REDIS: &str = "rota over HTTP, Redis";
/// Who calls at a time, where nothing else is said.
const CALLERS: usize = 64;
/// Calls that come whatever becomes of those before, half as many as the embedded Rota serves at most.
const HALF: &str = "unary, open loop";
/// Who reads a stream at a time.
const READERS: usize = 16;

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["load", plan] => {
            let outcome = load::run(&serde_json::from_str(plan).unwrap());
            println!("{}", serde_json::to_string(&outcome).unwrap());
        }
        ["store", url, seconds] => {
            let rates = runtime().block_on(async {
                let mut rates = Vec::new();
                for members in store::MEMBERS {
                    rates.push(store::rates(url, CALLERS, members, seconds.parse().unwrap()).await);
                }
                rates
            });
            println!("{}", serde_json::to_string(&rates).unwrap());
        }
        ["upstream"] => runtime().block_on(servers::upstream()),
        ["floor", port] => runtime().block_on(servers::floor(port.parse().unwrap())),
        rows => runtime().block_on(bench(rows)),
    }
}

/// A server under load.
struct Server {
    name: &'static str,
    address: String,
    pid: u32,
    /// By call: whose model is called, and what with.
    scenes: Vec<(Call, Scene)>,
    redis: u16,
    /// Whether it speaks HTTP, and what goes with each request then.
    http: Option<Vec<(String, String)>>,
}

/// A row of the tables: who is asked, and how.
struct Row {
    name: String,
    plan: Plan,
    outcomes: Vec<Outcome>,
}

async fn bench(wanted: &[&str]) {
    let number =
        |name: &str, default: f64| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, reps) = (number("BENCH_SECONDS", 5.0), number("BENCH_REPS", 3.0) as usize);
    let threads = number("BENCH_THREADS", 1.0).to_string();

    let folder = tempfile::tempdir().unwrap();
    let (_upstream, upstream) = helper(&["upstream"], "1", &folder, "upstream").await;
    let port = upstream.rsplit(':').next().unwrap();
    let (echo, echo_address) = helper(&["floor", "0"], &threads, &folder, "echo").await;
    let (relay, relay_address) = helper(&["floor", port], &threads, &folder, "relay").await;
    let redis = Redis::start().await;
    let builder = || Rota::builder().env("TOKIO_WORKER_THREADS", &threads);
    let (embedded, embedded_scenes) = rota(builder(), &upstream).await;
    let (fleet, fleet_scenes) = rota(builder().redis(redis.url()), &upstream).await;
    let before = match env::var(BEFORE) {
        Err(_) => Vec::new(),
        Ok(program) => {
            let builder = || builder().under(&["sh", "-c", &format!(r#"exec "{program}" "$@""#)]);
            vec![
                ("before, embedded", rota(builder(), &upstream).await, 0),
                ("before, Redis", rota(builder().redis(redis.url()), &upstream).await, redis.port()),
            ]
        }
    };
    let nginx = nginx(&upstream, &folder).await;
    let peers = peers::start(&upstream, &folder).await;

    let mut servers = vec![
        Server {
            name: "echo",
            address: echo_address,
            pid: echo.id(),
            scenes: Vec::new(),
            redis: 0,
            http: None,
        },
        Server {
            name: "relay",
            address: relay_address,
            pid: relay.id(),
            scenes: Vec::new(),
            redis: 0,
            http: None,
        },
        Server {
            name: "rota, embedded",
            address: embedded.address().to_owned(),
            pid: embedded.id(),
            scenes: embedded_scenes.clone(),
            redis: 0,
            http: None,
        },
        Server {
            name: "rota, Redis",
            address: fleet.address().to_owned(),
            pid: fleet.id(),
            scenes: fleet_scenes.clone(),
            redis: redis.port(),
            http: None,
        },
    ];
    servers.extend(before.iter().map(|(name, (rota, scenes), redis)| Server {
        name,
        address: rota.address().to_owned(),
        pid: rota.id(),
        scenes: scenes.clone(),
        redis: *redis,
        http: None,
    }));
    // The same replicas by their other door.
    let http = [(HTTP, &embedded, embedded_scenes, 0), (HTTP_REDIS, &fleet, fleet_scenes, redis.port())];
    for (name, rota, scenes, redis) in http {
        let address = rota.http().await;
        servers.push(Server { name, address, pid: rota.id(), scenes, redis, http: Some(Vec::new()) });
    }
    if let Some((process, address)) = &nginx {
        let server = Server {
            name: "nginx",
            address: address.clone(),
            pid: process.id(),
            scenes: Vec::new(),
            redis: 0,
            http: Some(Vec::new()),
        };
        servers.push(server);
    }
    servers.extend(peers.iter().map(|peer| Server {
        name: peer.name,
        address: peer.address.clone(),
        pid: peer.process.id(),
        scenes: Vec::new(),
        redis: 0,
        http: Some(peer.headers.clone()),
    }));

    let mut rows = Vec::new();
    let plan = |server: &Server, call: Call, model: &str, callers: usize, rate: f64| {
        let scene = server.scenes.iter().find(|(_, scene)| scene.key.model == model).map(|(_, scene)| scene);
        Plan {
            server: server.address.clone(),
            token: scene.map(|scene| scene.token.clone()).unwrap_or_default(),
            tenant: scene.map(|scene| scene.tenant.clone()).unwrap_or_default(),
            model: model.to_owned(),
            call: if server.http.is_some() { Call::Http } else { call },
            headers: {
                let token =
                    scene.map(|scene| ("authorization".to_owned(), format!("Bearer {}", scene.token)));
                server.http.iter().flatten().cloned().chain(token).collect()
            },
            callers,
            rate,
            seconds,
            pids: vec![server.pid],
            redis: server.redis,
        }
    };
    for server in &servers {
        let mut row = |what: &str, call, model: &str, callers, rate| {
            let name = format!("{what} · {}", server.name);
            if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted)) {
                let plan = plan(server, call, model, callers, rate);
                rows.push(Row { name, plan, outcomes: Vec::new() });
            }
        };
        row("unary", Call::Unary, "chat", CALLERS, 0.0);
        if let Some(peer) = peers.iter().find(|peer| peer.name == server.name) {
            if peer.streams {
                row("stream of 20", Call::Stream, "chunks-20", READERS, 0.0);
            }
            continue;
        }
        if server.name != "echo" {
            row(HALF, Call::Unary, "chat", CALLERS, 1.0);
            row("stream of 20", Call::Stream, "chunks-20", READERS, 0.0);
            row("stream of 100", Call::Stream, "chunks-100", READERS, 0.0);
            row("stream of 20, one reader", Call::Stream, "chunks-20", 1, 0.0);
        }
        if server.name != "relay" && server.http.is_none() {
            row("lease pair", Call::Lease, "chat", CALLERS, 0.0);
        }
    }
    // The upstream itself, called over HTTP by the same load.
    let direct = Server {
        name: "upstream itself",
        address: upstream.clone(),
        pid: 0,
        scenes: Vec::new(),
        redis: 0,
        http: Some(Vec::new()),
    };
    for (what, model, callers, rate) in
        [(HALF, "chat", CALLERS, 1.0), ("stream of 20, one reader", "chunks-20", 1, 0.0)]
    {
        let name = format!("{what} · upstream itself");
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted)) {
            let mut plan = plan(&direct, Call::Http, model, callers, rate);
            plan.pids.clear();
            rows.push(Row { name, plan, outcomes: Vec::new() });
        }
    }
    // Both of a pair one after the other.
    rows.sort_by_key(|row| row.name.replace("before", "rota"));

    let mut picks = Vec::new();
    // The embedded Rota's own, where that was measured.
    let mut half = number("BENCH_RATE", 2000.0);
    for _ in 0..reps {
        for row in &mut rows {
            if row.plan.rate > 0.0 {
                row.plan.rate = half;
            }
            row.outcomes.push(drive(&row.name, &row.plan));
            if row.name == "unary · rota, embedded" {
                half = row.outcomes.iter().map(|one| one.rate).fold(f64::INFINITY, f64::min) / 2.0;
            }
        }
        if wanted.is_empty() || wanted.contains(&"picks") {
            let output = Command::new(env::current_exe().unwrap())
                .args(["store", &redis.url(), &seconds.to_string()])
                .env("TOKIO_WORKER_THREADS", &threads)
                .output()
                .unwrap();
            picks.push(serde_json::from_slice::<Vec<Vec<f64>>>(&output.stdout).unwrap());
        }
    }
    report::rows(&rows);
    report::ratios(&rows);
    report::against_before(&rows);
    if !picks.is_empty() {
        report::picks(&picks);
    }
}

/// Starts this program again as one of its helpers, and says where it listens.
async fn helper(args: &[&str], threads: &str, folder: &TempDir, name: &str) -> (Process, String) {
    let folder = folder.path().join(name);
    fs::create_dir(&folder).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(args).env("TOKIO_WORKER_THREADS", threads);
    let mut process = Process::start(command, &folder, "KILL");
    let listening = |line: &str| line.strip_prefix("listening on ").map(str::to_owned);
    let address = process.wait_for_line(listening).await.unwrap();
    (process, address)
}

/// A Rota with a tenant a model, each balanced over four keys.
async fn rota(builder: Builder, upstream: &str) -> (Rota, Vec<(Call, Scene)>) {
    let rota = builder.start().await;
    let mut scenes = Vec::new();
    for (call, model) in [(Call::Unary, "chat"), (Call::Stream, "chunks-20"), (Call::Stream, "chunks-100")] {
        let mut scene = Scene::tenant(&rota).await;
        scene.key.model = model.to_owned();
        scene.add_model(&format!("http://{upstream}/v1")).await;
        scene.add_configs(4).await;
        scene.enable().await;
        scenes.push((call, scene));
    }
    (rota, scenes)
}

/// nginx with one worker and the upstream behind it, where it is installed.
async fn nginx(upstream: &str, folder: &TempDir) -> Option<(Process, String)> {
    let folder = folder.path().join("nginx");
    fs::create_dir(&folder).unwrap();
    Command::new("nginx").arg("-v").stderr(Stdio::null()).status().ok()?;
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let here = folder.display();
    let settings = format!(
        "worker_processes 1; daemon off; pid {here}/pid; error_log {here}/errors;
         events {{ worker_connections 16384; }}
         http {{
             access_log off; keepalive_requests 1000000000;
             client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
             uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
             upstream it {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}
             server {{
                 listen {address};
                 location / {{ proxy_pass http://it; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
             }}
         }}"
    );
    fs::write(folder.join("nginx.conf"), settings).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
    let process = Process::start(command, &folder, "QUIT");
    support::eventually(Duration::from_secs(10), async || {
        tokio::net::TcpStream::connect(&address).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    Some((process, address))
}

/// Runs the load in a process of its own. Ends the bench where a call has failed.
fn drive(name: &str, plan: &Plan) -> Outcome {
    let plan = serde_json::to_string(plan).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["load", &plan])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let outcome: Outcome = serde_json::from_slice(&output.stdout).unwrap();
    eprintln!(
        "{name}: {:.0}/s, p50 {:.0} µs, {:.1} µs of CPU a call",
        outcome.rate,
        outcome.p50,
        outcome.cpu.iter().sum::<f64>()
    );
    assert_eq!(outcome.failures, 0, "{name}: {}", outcome.first_failure);
    assert!(outcome.calls > 0, "{name}: no call was answered");
    outcome
}
