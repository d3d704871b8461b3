//! What keeps a replica and its callers from harm: TLS on its own port, and a bound on what it serves at once.

use std::{fs, path::Path, time::Duration};

use rota::{
    api::pb::{ListProviderKindsRequest, config_service_client::ConfigServiceClient},
    scripted::{Script, Upstream},
};
use tokio::task::JoinSet;
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::support::{
    authority::Authority,
    eventually,
    failure::{error, retry_after, told},
    rota::Rota,
    secured::Secured,
    wire::{PREFACE, Wire},
    world::Scene,
};

/// Whether a call comes through on a connection of that kind.
async fn serves(server: &Secured, scheme: &str, tls: Option<ClientTlsConfig>) -> bool {
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", server.address)).unwrap();
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).unwrap();
    }
    match endpoint.connect().await {
        Ok(channel) => calls(server, channel).await,
        Err(_) => false,
    }
}

async fn calls(server: &Secured, channel: Channel) -> bool {
    let mut request = Request::new(ListProviderKindsRequest {});
    let bearer = format!("Bearer {}", server.token).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    ConfigServiceClient::new(channel).list_provider_kinds(request).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_served_and_clients_may_have_to_show_a_certificate() {
    let authority = Authority::new();
    let trusting = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.ca.pem()));
    let own = Identity::from_pem(authority.client.pem(), authority.client_key.serialize_pem());
    let stranger = Authority::new();
    let strange = Identity::from_pem(stranger.client.pem(), stranger.client_key.serialize_pem());

    let open = Secured::start(&authority, false).await;
    assert!(serves(&open, "https", Some(trusting())).await);
    assert!(!serves(&open, "http", None).await, "plain text comes through");
    let other = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(stranger.ca.pem()));
    assert!(!serves(&open, "https", Some(other)).await, "the client trusts another authority");

    let closed = Secured::start(&authority, true).await;
    assert!(serves(&closed, "https", Some(trusting().identity(own))).await);
    assert!(!serves(&closed, "https", Some(trusting())).await, "without a certificate");
    assert!(!serves(&closed, "https", Some(trusting().identity(strange))).await, "another authority's");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_while_it_serves() {
    let limit = Duration::from_secs(60);
    let (old, new) = (Authority::new(), Authority::new());
    let trusting = |authority: &Authority| {
        Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.ca.pem())))
    };
    let rota = Secured::start(&old, false).await;
    let standing = Endpoint::from_shared(format!("https://{}", rota.address)).unwrap();
    let standing = standing.tls_config(trusting(&old).unwrap()).unwrap().connect().await.unwrap();

    // A certificate without its key: the old pair serves on, and the log says so once.
    rota.replace("own.pem", &new.own.pem());
    let told = |text: &'static str| rota.log().lines().filter(|line| line.contains(text)).count();
    eventually(limit, async || match told("cannot be used: the old ones serve on") {
        1 => Ok(()),
        count => Err(format!("told {count} times")),
    })
    .await;
    assert!(serves(&rota, "https", trusting(&old)).await);
    assert!(!serves(&rota, "https", trusting(&new)).await);

    rota.replace("key.pem", &new.key.serialize_pem());
    eventually(limit, async || {
        let renewed = serves(&rota, "https", trusting(&new)).await;
        renewed.then_some(()).ok_or("the old certificate is served".to_owned())
    })
    .await;
    assert!(!serves(&rota, "https", trusting(&old)).await);
    // Who is connected stays connected.
    assert!(calls(&rota, standing).await);
    assert_eq!((told("cannot be used"), told("new connections are served with them")), (1, 1));
    assert!(!rota.log().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_do_not_end_are_cut_off() {
    let authority = Authority::new();
    let rota = Secured::start(&authority, false).await;
    let trusting = || Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.ca.pem())));
    let mut slow = JoinSet::new();
    // Nothing, the begin of a ClientHello, and gRPC in plain text.
    for begin in [&[][..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], PREFACE].repeat(50) {
        let address = rota.address.clone();
        slow.spawn(async move {
            let mut wire = Wire::connect(&address).await.unwrap();
            let _ = wire.send(begin).await;
            wire.ended(Duration::from_secs(60)).await;
        });
    }
    while let Some(ended) = slow.join_next().await {
        ended.unwrap();
        if slow.len() % 10 == 0 {
            assert!(serves(&rota, "https", trusting()).await);
        }
    }
}

#[test]
fn tls_files_go_together() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (own, key) = (file("own", &authority.own.pem()), file("key", &authority.key.serialize_pem()));
    let nothing = file("nothing", "nothing");
    let other = file("other", &Authority::new().key.serialize_pem());
    for (args, named) in [
        (vec!["--tls-cert", &own], "--tls-key"),
        (vec!["--tls-key", &key], "--tls-cert"),
        (vec!["--tls-client-ca", &own], "--tls-cert"),
        (vec!["--tls-cert", &own, "--tls-key", "/no/such/file"], "--tls-key"),
        (vec!["--tls-cert", &nothing, "--tls-key", &key], "--tls-cert"),
        (vec!["--tls-cert", &own, "--tls-key", &other], "--tls-key"),
        (vec!["--max-calls", "0"], "--max-calls"),
        (vec!["--max-calls-per-connection", "0"], "--max-calls-per-connection"),
        (vec!["--max-connections", "0"], "--max-connections"),
        (vec!["--receive-timeout", "0s"], "--receive-timeout"),
        (vec!["--tenant-calls-per-second", "1000001"], "--tenant-calls-per-second"),
    ] {
        let data = folder.path().join("data");
        let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"];
        let args = [&serve, &[data.to_str().unwrap()][..], &args].concat();
        let output = Rota::builder().output(&args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(named), "{args:?}: {text}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
    assert!(Path::new(&own).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_bound_a_replica_turns_calls_away_at_once() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().arg("--max-calls").arg("3").start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::Hang);
    }
    let mut hanging = Vec::new();
    for _ in 0..3 {
        let scene = scene.clone();
        hanging.push(tokio::spawn(async move { scene.ask().await }));
    }
    eventually(Duration::from_secs(5), async || match upstream.in_flight() {
        3 => Ok(()),
        count => Err(format!("{count} are on their way")),
    })
    .await;
    let status = scene.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "OVERLOADED"));
    assert!(!retry_after(&status).is_zero());
    // Health is no call: a probe must not find a busy replica dead.
    rota.health("").await.unwrap();
    for call in hanging {
        call.abort();
    }
    for key in &scene.keys {
        upstream.script(key, Script::Answer);
    }
    eventually(Duration::from_secs(5), async || {
        scene.ask().await.map(drop).map_err(|status| status.to_string())
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_core_is_dumped() {
    let unlimited = ["sh", "-c", r#"ulimit -c unlimited 2>/dev/null; exec "$0" "$@""#];
    let rota = Rota::builder().under(&unlimited).start().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", rota.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let bounds: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(bounds, ["0", "0"], "{core}");
}
