//! Addresses that no upstream may have, and secrets that stay with theirs.

use std::{fs, sync::Arc};

use rota::{
    api::pb::{DeleteCredentialRequest, ForwardRequest, LoadBalancingConfig, Provider},
    scripted::Upstream,
};
use tonic::Code;

use crate::support::{
    failure::{error, route, told},
    listing::{api_key_field, link},
    postgres::Postgres,
    process::free_port,
    raw::Raw,
    redis::Redis,
    refusal::refused,
    rota::{Rota, on_both_databases},
    stage::Stage,
    world::{Scene, config},
};

on_both_databases!(
    broken_addresses_are_refused,
    metadata_addresses_are_refused_in_every_disguise,
    secrets_do_not_move_to_another_origin,
);

async fn broken_addresses_are_refused(rota: &'static Rota) {
    let stage = Stage::set(rota).await;
    for address in [
        "nonsense",
        "127.0.0.1:9/v1",
        "/v1",
        "//127.0.0.1/v1",
        "http://",
        "http:///v1",
        "ftp://127.0.0.1/v1",
        "file:///etc/passwd",
        "unix:/run/x",
        "javascript:alert(1)",
        "http://user@127.0.0.1/v1",
        "http://user:password@127.0.0.1/v1",
        "http://:password@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=x",
        "http://127.0.0.1/v1#x",
        "http://a b/v1",
        "http://127.0.0.1:99999/v1",
        "http://[::1/v1",
        "http://127.0.0.256/",
        "http://a%00b/",
        " http://127.0.0.1:9/v1",
        "http://127.0.0.1:9/v1 ",
        "http://127.0.0.1:9/v\n1",
        "ht\ttp://127.0.0.1:9/v1",
        "http://127.0.0.1:9/a b",
        "http:127.0.0.1:9/v1",
        "http:/127.0.0.1:9/v1",
        "http:\\\\127.0.0.1:9\\v1",
        "http://127.0.0.1:9/\0",
    ] {
        stage.refuses_address(address).await;
    }
    stage.refuses_address(&format!("http://127.0.0.1/{}", "x".repeat(3000))).await;
}

async fn metadata_addresses_are_refused_in_every_disguise(rota: &'static Rota) {
    let stage = Stage::set(rota).await;
    for host in [
        "169.254.169.254",
        "169.254.169.254.",
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "0xa9.0xfe.43518",
        "169.254.43518",
        "１６９.254.169.254",
        "①⑥⑨.254.169.254",
        "169。254。169。254",
        "%31%36%39.254.169.254",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b::169.254.169.254]",
        "[2002:a9fe:a9fe::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[FD00:0EC2:0:0::254]",
        "100.100.100.200",
        "168.63.129.16",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata.goog",
        "0.0.0.0",
        "0",
        "[::]",
        "255.255.255.255",
        "224.0.0.1",
    ] {
        stage.refuses_address(&format!("http://{host}/v1")).await;
    }
    stage.refuses_address("https://169.254.169.254:8443/latest").await;
}

async fn secrets_do_not_move_to_another_origin(rota: &'static Rota) {
    const OTHERS: [&str; 4] =
        ["http://127.0.0.1:8/v1", "https://127.0.0.1:9/v1", "http://127.0.0.2:9/v1", "http://localhost:9/v1"];
    let stage = Stage::set(rota).await;
    let id = stage.scene.configs.last().unwrap().id.clone();
    let linked = stage.scene.save(vec![config("own", "key-own"), link(&stage.credential)]).await.unwrap();
    let [own, linked] = <[_; 2]>::try_from(linked.configs).unwrap();
    assert_ne!(own.id, id);
    for other in OTHERS {
        let hidden = LoadBalancingConfig { base_url: other.to_owned(), ..own.clone() };
        let left_out = LoadBalancingConfig { credentials: [].into(), ..hidden.clone() };
        let spelled = LoadBalancingConfig { credentials: api_key_field("[__HIDDEN__]"), ..hidden.clone() };
        let away = LoadBalancingConfig { base_url: other.to_owned(), ..linked.clone() };
        let unnamed = LoadBalancingConfig { credential_id: String::new(), ..away.clone() };
        let table = [
            (stage.update_provider(|provider| provider.base_url = other.to_owned()), "provider.base_url"),
            (stage.save(vec![hidden]), "configs[0].base_url"),
            (stage.save(vec![left_out]), "configs[0].base_url"),
            (stage.save(vec![spelled]), "configs[0].base_url"),
            (stage.save(vec![away]), "configs[0].base_url"),
            (stage.save(vec![unnamed]), "configs[0].base_url"),
            (
                stage.validate(|request| {
                    request.config_id = own.id.clone();
                    request.base_url = other.to_owned();
                }),
                "base_url",
            ),
        ];
        stage.refuses(table).await;
    }
    // Another path of the same place is fine; so is another place with a key given for it.
    let path = LoadBalancingConfig { base_url: "http://127.0.0.1:9/v2".to_owned(), ..own.clone() };
    stage.scene.save(vec![path.clone(), linked]).await.unwrap();
    let fresh =
        LoadBalancingConfig { credentials: api_key_field("key-new"), base_url: OTHERS[0].to_owned(), ..own };
    let set = stage.scene.save(vec![fresh]).await.unwrap();
    // Nor home again without it, nor with a credential of the provider in place of its own key.
    let [away] = <[_; 1]>::try_from(set.configs).unwrap();
    let home = LoadBalancingConfig { base_url: String::new(), ..away.clone() };
    let linked_there = LoadBalancingConfig { base_url: away.base_url.clone(), ..link(&stage.credential) };
    let linked = LoadBalancingConfig { id: away.id.clone(), ..linked_there.clone() };
    // A credential that comes to serve later stays with the provider's address as well.
    let no_key = LoadBalancingConfig { credentials: [].into(), id: String::new(), ..away.clone() };
    let table = [
        (stage.save(vec![home]), "configs[0].base_url"),
        (stage.save(vec![linked_there]), "configs[0].base_url"),
        (stage.save(vec![linked]), "configs[0].base_url"),
        (stage.update_provider(|provider| provider.base_url = OTHERS[0].to_owned()), "provider.base_url"),
    ];
    stage.refuses(table).await;
    let set = stage.scene.save(vec![away, no_key]).await.unwrap();
    assert!(set.configs[1].credentials.is_empty(), "it takes no credential along");
    // An inline key alone holds the provider's address as well.
    let delete = DeleteCredentialRequest {
        tenant_id: stage.scene.tenant.clone(),
        provider: stage.scene.provider.clone(),
        id: stage.credential.id.clone(),
    };
    stage.scene.clients.config.clone().delete_credential(delete).await.unwrap();
    let moved = |stage: &Stage| stage.update_provider(|provider| provider.base_url = OTHERS[0].to_owned());
    stage.refuses([(moved(&stage), "provider.base_url")]).await;
    stage.scene.save(vec![]).await.unwrap();
    stage.send(moved(&stage)).await.unwrap();
}

/// Names that this machine gives to its loopback addresses, beside those that everyone knows.
fn loopback_names() -> Vec<String> {
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names = hosts.lines().filter(|line| line.starts_with("127.0.0.1")).flat_map(|line| {
        line.split('#').next().unwrap_or_default().split_whitespace().skip(1).map(str::to_lowercase)
    });
    names.filter(|name| name != "localhost").chain(["localhost".to_owned()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_public_nothing_private_is_reached() {
    let upstream = Upstream::start().await.unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let private = Rota::builder().data_dir(folder.clone());
    let mut rota = private.start().await;
    let mut stage = Stage::set(&rota).await;
    // Stored while private networks were allowed.
    let port = upstream.base_url().rsplit(':').next().unwrap().to_owned();
    let hosts: Vec<_> = loopback_names().into_iter().chain(["127.0.0.1".to_owned()]).collect();
    let mut scenes = Vec::new();
    for host in &hosts {
        let mut scene = Scene::tenant(&rota).await;
        scene.add_model(&format!("http://{host}:{port}")).await;
        scene.ask().await.unwrap_or_else(|status| panic!("{host}: {status:?}"));
        scenes.push((host, scene));
    }
    let served = upstream.total_hits();
    assert_eq!(served, hosts.len() as u64);
    rota.kill9();
    let rota = private.arg("--upstream-networks").arg("public").start().await;
    for (host, scene) in scenes {
        let scene = scene.through(&rota).await;
        let refusal = refused(scene.ask().await, Code::Unavailable, "UPSTREAM_CONNECTION");
        assert!(refusal.route.is_some_and(|route| route.attempts.len() == 1), "{host}");
        refused(scene.ask_stream().await, Code::Unavailable, "UPSTREAM_CONNECTION");
    }
    assert_eq!(upstream.total_hits(), served, "nothing was reached");

    stage.scene = stage.scene.through(&rota).await;
    stage.raw = Raw::new(&rota.operator().await);
    for host in [
        "127.0.0.1",
        "127.8.8.8",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fc00::1]",
        "[fd12::1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "2130706433",
        "0x7f.1",
        "127.1",
        "198.18.0.1",
        "169.254.169.254",
    ] {
        stage.refuses_address(&format!("http://{host}/v1")).await;
    }
    let public = |provider: &mut Provider| provider.base_url = "https://api.example.com/v1".to_owned();
    stage.send(stage.create_provider(public)).await.unwrap();
}

/// What a call of such an address comes to: the message of its only attempt.
async fn refusal(rota: &Rota, base_url: &str) -> String {
    let mut scene = Scene::tenant(rota).await;
    scene.add_model(base_url).await;
    scene.add_credential("only", "key-only").await;
    let status = scene.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_CONNECTION"), "{base_url}: {status:?}");
    let forward = ForwardRequest {
        key: Some(scene.key.clone()),
        method: "GET".to_owned(),
        path: "x".to_owned(),
        ..ForwardRequest::default()
    };
    let forwarded = scene.clients.invoke.clone().forward(forward).await.map(drop).unwrap_err();
    assert_eq!(
        told(&forwarded),
        error(Code::Unavailable, "UPSTREAM_CONNECTION"),
        "{base_url}: {forwarded:?}"
    );
    route(&status).attempts[0].message.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn own_ports_and_stores_are_reached_under_no_setting() {
    const OWN: &str = "address not allowed: it is Rota's own";
    let (postgres, redis) = (Postgres::shared().await, Redis::start().await);
    let database = postgres.fresh_database();
    let store = url::Url::parse(&database).unwrap().port().unwrap();
    let admin = free_port();
    let settings = Rota::builder()
        .database(&database)
        .redis(redis.url())
        .arg("--upstream-networks")
        .arg("private")
        .arg("--admin-listen")
        .arg(format!("127.0.0.1:{admin}"));
    let rota = settings.start().await;
    let own = rota.address().rsplit(':').next().unwrap().to_owned();
    for port in [own, admin.to_string(), store.to_string(), redis.port().to_string()] {
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1"] {
            assert_eq!(refusal(&rota, &format!("http://{host}:{port}/v1")).await, OWN, "{host}:{port}");
        }
    }
    let other = format!("http://127.0.0.1:{}/v1", free_port());
    assert_ne!(refusal(&rota, &other).await, OWN);
    // The operator's proxy does not lead there either.
    let through = Rota::builder()
        .redis(redis.url())
        .arg("--upstream-proxy")
        .arg(format!("http://127.0.0.1:{}", free_port()))
        .start()
        .await;
    assert_eq!(refusal(&through, &format!("http://localhost:{}/v1", redis.port())).await, OWN);
    assert_eq!(refusal(&through, &format!("http://{}/v1", through.address())).await, OWN);
}
