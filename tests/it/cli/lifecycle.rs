//! Start and end of the process: commands, settings, signals, and what is served without a token.

use std::{io::ErrorKind, os::unix::process::ExitStatusExt, sync::Arc, time::Duration};

use rota::{
    api::pb::ListProviderKindsRequest,
    scripted::{Script, Upstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{
    eventually,
    failure::{error, told},
    postgres::Postgres,
    redis::Redis,
    rota::{Clients, Rota},
    tools::said,
    world::Scene,
};

const SERVICES: [&str; 4] =
    ["grpc.health.v1.Health", "rota.v1.AdminService", "rota.v1.ConfigService", "rota.v1.InvokeService"];

async fn watched(rota: &Rota) -> tonic::Streaming<HealthCheckResponse> {
    let mut health = HealthClient::new(rota.channel().await);
    health.watch(HealthCheckRequest::default()).await.unwrap().into_inner()
}

async fn upstream_has(upstream: &Upstream, calls: usize) {
    eventually(Duration::from_secs(5), async || match upstream.in_flight() {
        count if count == calls => Ok(()),
        other => Err(format!("{other} in flight")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_exits_with_0() {
    ends_well("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_drains_and_exits_with_0() {
    ends_well("INT").await;
}

async fn ends_well(signal: &str) {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::Answer.after(Duration::from_secs(1)));
    }
    let mut health = watched(&rota).await;
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let caller = scene.clone();
    let unary = tokio::spawn(async move { caller.ask().await });
    let caller = scene.clone();
    let streamed = tokio::spawn(async move { caller.ask_stream().await });
    upstream_has(&upstream, 2).await;

    rota.signal(signal);
    let began = Instant::now();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // One that comes while the listener closes may still be accepted, or reset.
    eventually(Duration::from_secs(10), async || match TcpStream::connect(rota.address()).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(!unary.is_finished(), "the call was not in flight while draining");
    // Told that its connection ends, the client connects again, in vain. A call that crosses that word is served, or the
    // client gives it up by itself (with INTERNAL).
    let mut crossing = 0;
    let refused = loop {
        match scene.ask().await {
            Ok(_) => crossing += 1,
            Err(refused) => break refused,
        }
    };
    let crossed = refused.code() == Code::Internal && refused.message().contains("h2 protocol error");
    assert!(crossed || matches!(refused.code(), Code::Unavailable | Code::Cancelled), "{refused:?}");
    unary.await.unwrap().unwrap();
    assert!(streamed.await.unwrap().unwrap().len() > 2);
    let status = rota.wait_exit(Duration::from_secs(10)).await;
    assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", rota.logs());
    // The Watch was open all the time.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(upstream.total_hits(), 2 + crossing);
}

/// Where `address` can be reached by one connection, whose way back is held up while the sender says so.
async fn way_to(address: &str) -> (String, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = listener.local_addr().unwrap().to_string();
    let (hold, mut held) = watch::channel(false);
    let (mut from_server, mut to_server) = TcpStream::connect(address).await.unwrap().into_split();
    tokio::spawn(async move {
        let (mut from_client, mut to_client) = listener.accept().await.unwrap().0.into_split();
        let there = tokio::io::copy(&mut from_client, &mut to_server);
        let back = async {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                held.wait_for(|held| !held).await.unwrap();
                to_client.write_all(&buffer[..length]).await.unwrap();
            }
        };
        tokio::join!(there, back)
    });
    (way, hold)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_crosses_the_word_of_the_drain_is_served() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().start().await;
    let mut scene = Scene::set(&rota, &upstream, 2).await;
    let (way, hold) = way_to(rota.address()).await;
    let channel = Endpoint::from_shared(format!("http://{way}")).unwrap().connect().await.unwrap();
    scene.clients = Clients::over(channel, &scene.token);
    scene.ask().await.unwrap();

    hold.send(true).unwrap();
    rota.sigterm();
    eventually(Duration::from_secs(5), async || {
        let logs = rota.logs();
        if logs.contains("draining") { Ok(()) } else { Err(logs) }
    })
    .await;
    // The replica has said that the connection ends; the client does not know yet.
    let calls: Vec<_> = (0..4).map(|_| scene.clone()).collect();
    let calls: Vec<_> =
        calls.into_iter().map(|scene| tokio::spawn(async move { scene.ask().await })).collect();
    eventually(Duration::from_secs(5), async || match upstream.total_hits() {
        5 => Ok(()),
        hits => Err(format!("{hits} hits")),
    })
    .await;
    hold.send(false).unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(rota.wait_exit(Duration::from_secs(10)).await.code(), Some(0), "{}", rota.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_longer_than_the_drain_limit_is_ended() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().arg("--drain-limit").arg("1s").start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::StallAfter(1));
    }
    let mut stream = scene.open_stream().await.unwrap();
    stream.message().await.unwrap().unwrap();
    let caller = scene.clone();
    let hanging = tokio::spawn(async move { caller.ask().await });
    upstream_has(&upstream, 2).await;

    let began = Instant::now();
    rota.sigterm();
    let cut = stream.message().await.unwrap_err();
    assert_eq!(told(&cut), error(Code::Unavailable, "DRAINING"));
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    hanging.await.unwrap().unwrap_err();
    let status = rota.wait_exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", rota.logs());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    upstream_has(&upstream, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_service_ends_at_once() {
    let mut rota = Rota::builder().start().await;
    // Connected, but without a call.
    let idle = rota.channel().await;
    rota.sigterm();
    let began = Instant::now();
    assert_eq!(rota.wait_exit(Duration::from_secs(10)).await.code(), Some(0), "{}", rota.logs());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(idle);
}

#[test]
fn every_command_explains_itself() {
    let settings =
        ["--listen", "--database-url", "--redis-url", "--data-dir", "--drain-limit", "ROTA_LISTEN"];
    for (args, words) in [
        (&["--help"][..], &["serve", "migrate", "token", "keys"][..]),
        (&["serve", "--help"], &settings),
        (&["migrate", "--help"], &settings),
        (&["token", "create", "--help"], &["--role", "--tenant", "operator", "--expires-in"]),
        (&["keys", "rotate", "--help"], &["--dry-run", "--master-key-file", "--master-key-command"]),
        (&["--version"], &[env!("CARGO_PKG_VERSION")]),
    ] {
        let output = Rota::builder().output(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        for word in words {
            assert!(text.contains(word), "{word} is not in {args:?}:\n{text}");
        }
    }
}

#[test]
fn a_demo_into_a_pipe_ends_well() {
    let output = Rota::builder().output(&["demo", "--exit", "--calls", "60"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("60 calls"), "{}", said(&output));
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "control characters in a pipe: {text:?}");
}

#[test]
fn bad_settings_are_all_named_and_no_password_is_shown() {
    let output = Rota::builder()
        .env("ROTA_REDIS_URL", "http://:hunter2@redis")
        .env("ROTA_DEFAULT_DEADLINE", "soon")
        .output(&[
            "serve",
            "--listen=here",
            "--database-url=mysql://root:hunter2@db",
            "--upstream-networks=all",
            "--max-message-size=much",
            "--drain-limit=later",
            "--database-connections=0",
            "--upstream-connect-timeout=never",
            "--upstream-idle-time=0s",
            "--upstream-max-answer=1B",
            "--upstream-ca=/no/such/file",
            "--upstream-proxy=socks5://root:hunter2@proxy",
        ]);
    let text = said(&output);
    assert!(output.status.code().is_some_and(|code| code != 0), "{text}");
    for setting in [
        "--listen",
        "--database-url",
        "--redis-url",
        "--upstream-networks",
        "--max-message-size",
        "--default-deadline",
        "--drain-limit",
        "--database-connections",
        "--upstream-connect-timeout",
        "--upstream-idle-time",
        "--upstream-max-answer",
        "--upstream-ca",
        "--upstream-proxy",
    ] {
        assert!(text.contains(setting), "{setting} is not named:\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_removed_setting_is_a_warning_but_its_flag_is_refused() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("rota.toml"), "turns = \"64\"\nlog = \"info\"\n").unwrap();
    let rota = env!("CARGO_BIN_EXE_rota");
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(rota);
        command
            .args(args)
            .current_dir(folder.path())
            .env_clear()
            .env("ROTA_TURNS", "64")
            .env("NO_COLOR", "1");
        command.output().unwrap()
    };
    for (args, level) in [(&["migrate"], "WARN"), (&["doctor"], "warning")] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        for name in ["rota.toml: `turns` was removed", "ROTA_TURNS was removed"] {
            let text = said(&output);
            let line = text.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{text}"));
            assert!(line.contains(level), "{line}");
        }
    }
    let output = run(&["serve", "--turns", "64"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("unexpected argument '--turns'"), "{}", said(&output));
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rota.toml"), "listen = \"here\"\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rota"));
    command.arg("migrate").current_dir(folder.path()).env_clear();
    let output = command.env("ROTA_LISTEN", "").env("ROTA_MAX_CALLS", " ").output().unwrap();
    // Neither an error of ROTA_MAX_CALLS nor the default of --listen.
    assert!(!output.status.success());
    assert_eq!(said(&output).trim(), "rota: --listen: is not an address and port, such as 127.0.0.1:50051");
}

#[test]
fn log_settings_are_checked_too() {
    for (args, setting) in [
        (["serve", "--log-format=xml"], "--log-format"),
        (["serve", "--log=rota=loud"], "--log"),
        (["serve", "--no-such-flag"], "--no-such-flag"),
    ] {
        let output = Rota::builder().output(&args);
        assert!(!output.status.success() && said(&output).contains(setting), "{args:?}: {}", said(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_runs_twice_on_postgres() {
    let postgres = Postgres::shared().await;
    let url = postgres.fresh_database();
    let settings = Rota::builder().database(&url);
    for _ in 0..2 {
        let output = settings.output(&["migrate"]);
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(postgres.sql(&url, "SELECT count(*) FROM tenants"), "0");
    // And under a service that runs.
    let rota = settings.start().await;
    let output = settings.output(&["migrate"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(rota.health("").await.unwrap(), ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_migrate_once() {
    let url = Postgres::shared().await.fresh_database();
    let settings = Rota::builder().database(&url);
    let starts = (0..3).map(|_| settings.start());
    let replicas = futures::future::join_all(starts).await;
    for rota in &replicas {
        assert_eq!(rota.health("rota.v1.ConfigService").await.unwrap(), ServingStatus::Serving);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_needs_the_master_key_it_was_begun_with() {
    let url = Postgres::shared().await.fresh_database();
    let none = Rota::builder().arg("--database-url").arg(&url);
    let refused = none.try_start().await.err().expect("started without a master key");
    assert!(refused.contains("ROTA_MASTER_KEY"), "{refused}");

    let right = Rota::builder().database(&url);
    drop(right.start().await);
    let other = Rota::builder().database(&url);
    let refused = other.try_start().await.err().expect("started with another master key");
    assert!(refused.contains("master key") || refused.contains("ROTA_MASTER_KEY"), "{refused}");
    let malformed = Rota::builder().database(&url).env("ROTA_MASTER_KEY", "dG9vIHNob3J0LWh1bnRlcjI=");
    let refused = malformed.try_start().await.err().expect("started with a short master key");
    assert!(refused.contains("master key") && !refused.contains("dG9vIHN"), "{refused}");
    right.start().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_needs_the_master_key_it_was_begun_with() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let settings = Rota::builder().data_dir(folder.clone());
    drop(settings.start().await);
    std::fs::remove_file(folder.path().join("master-key")).unwrap();
    let refused = settings.try_start().await.err().expect("started with a new master key");
    assert!(refused.contains("master"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_our_services_in_both_versions() {
    let channel = Rota::shared().await.channel().await;
    let ask = |message| v1::ServerReflectionRequest { message_request: Some(message), ..Default::default() };
    let requests = [
        ask(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ask(v1::server_reflection_request::MessageRequest::FileContainingSymbol(
            "rota.v1.InvokeService".into(),
        )),
    ];
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(tokio_stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let listed = match answers.message().await.unwrap().unwrap().message_response {
        Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) => list.service,
        other => panic!("{other:?}"),
    };
    let names: Vec<_> = listed.into_iter().map(|service| service.name).collect();
    assert!(SERVICES.iter().all(|service| names.iter().any(|name| name == service)), "{names:?}");
    match answers.message().await.unwrap().unwrap().message_response {
        Some(v1::server_reflection_response::MessageResponse::FileDescriptorResponse(files)) => {
            assert!(!files.file_descriptor_proto.is_empty());
        }
        other => panic!("{other:?}"),
    }

    let message = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { message_request: Some(message), ..Default::default() };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await;
    let listed = match answers.unwrap().into_inner().message().await.unwrap().unwrap().message_response {
        Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) => {
            list.service
        }
        other => panic!("{other:?}"),
    };
    let names: Vec<_> = listed.into_iter().map(|service| service.name).collect();
    assert!(SERVICES.iter().all(|service| names.iter().any(|name| name == service)), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_knows_each_service_and_needs_no_token() {
    let rota = Rota::shared().await;
    for service in [
        "",
        "liveness",
        "readiness",
        "rota.v1.AdminService",
        "rota.v1.ConfigService",
        "rota.v1.InvokeService",
    ] {
        // Those that need the database follow it a moment after the start.
        eventually(Duration::from_secs(3), async || match rota.health(service).await {
            Ok(ServingStatus::Serving) => Ok(()),
            other => Err(format!("{service:?} is {other:?}")),
        })
        .await;
    }
    assert_eq!(rota.health("rota.v1.NoSuchService").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_over_http_answer_where_they_are_asked_for() {
    let rota = Rota::builder().arg("--admin-listen").arg("127.0.0.1:0").start().await;
    let address = rota.probes().await;
    for (path, status) in [("livez", 200), ("readyz", 200), ("nothing", 404)] {
        let answer = reqwest::get(format!("http://{address}/{path}")).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    let verbose = reqwest::get(format!("http://{address}/readyz?verbose")).await.unwrap();
    let expected =
        "[+] calls: the first snapshot is loaded\n[+] database: configuration can be changed\nready\n";
    assert_eq!(verbose.text().await.unwrap(), expected);
    // Asked for by name, an address that is taken ends the start; the default does not.
    let taken = Rota::builder().arg("--admin-listen").arg(&address).try_start().await.map(drop).unwrap_err();
    assert!(taken.contains("cannot listen on"), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_its_database_and_says_so() {
    let mut postgres = Postgres::start().await;
    let url = postgres.fresh_database();
    postgres.crash();
    // Each try to connect takes as long as this.
    let settings = Rota::builder().database(&url).arg("--database-wait").arg("1s");
    let hasty = settings.clone().arg("--start-wait").arg("3s").try_start().await.map(drop).unwrap_err();
    assert!(hasty.contains("waiting for the database"), "{hasty}");
    let (started, ()) = tokio::join!(settings.try_start(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        postgres.restart().await;
    });
    let rota = started.unwrap();
    assert!(rota.logs().contains("waiting for the database"), "{}", rota.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_redis_where_it_is_required_and_there_alone() {
    let mut redis = Redis::start().await;
    let settings = Rota::builder().redis(redis.url()).arg("--admin-listen").arg("127.0.0.1:0");
    let (relaxed, strict) = (settings.start().await, settings.clone().arg("--redis-required").start().await);
    let (relaxed_probes, strict_probes) = (relaxed.probes().await, strict.probes().await);
    let told = async |rota: &Rota, probes: &str| {
        let http = reqwest::get(format!("http://{probes}/readyz")).await.unwrap().status().as_u16();
        (rota.health("").await.unwrap(), rota.health("rota.v1.InvokeService").await.unwrap(), http)
    };
    let (up, down) = (ServingStatus::Serving, ServingStatus::NotServing);
    let both = async |wanted| {
        eventually(Duration::from_secs(10), async || match told(&strict, &strict_probes).await {
            now if now == wanted => Ok(()),
            now => Err(format!("{now:?}")),
        })
        .await;
        assert_eq!(told(&relaxed, &relaxed_probes).await, (up, up, 200));
        assert_eq!(strict.health("rota.v1.ConfigService").await.unwrap(), up);
    };
    both((up, up, 200)).await;
    redis.kill9();
    both((down, down, 503)).await;
    redis.restart().await;
    both((up, up, 200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_wait_for_acknowledgements() {
    let rota = Rota::shared().await;
    let mut client = rota.operator().await.config;
    let mut took = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        client.list_provider_kinds(ListProviderKindsRequest {}).await.unwrap();
        took.push(began.elapsed());
    }
    // A delayed acknowledgement comes after 40 ms, each time. A busy machine is slow now and then.
    took.sort_unstable();
    assert!(took[5] < Duration::from_millis(30), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_leaves_says_so_before_it_turns_calls_away() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().arg("--drain-delay").arg("3s").start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    rota.sigterm();
    eventually(Duration::from_secs(2), async || match rota.health("readiness").await {
        Ok(ServingStatus::NotServing) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(rota.health("liveness").await.unwrap(), ServingStatus::Serving);
    scene.ask().await.unwrap();
    assert_eq!(rota.wait_exit(Duration::from_secs(10)).await.code(), Some(0));
    assert!(rota.logs().contains("still taking calls"), "{}", rota.logs());
}
