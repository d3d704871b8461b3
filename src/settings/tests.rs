//! What settings are taken, and what is said of the others.

use super::{values::bytes, *};
use crate::provider::Networks;

fn raw(change: impl FnOnce(&mut RawSettings)) -> RawSettings {
    let mut raw = RawSettings::default();
    change(&mut raw);
    raw
}

#[test]
fn nothing_given_is_an_embedded_service_on_loopback() {
    let settings = Settings::resolve(RawSettings::default()).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:50051");
    assert!(settings.embedded && settings.redis.is_none());
    assert_eq!(settings.upstream.networks, Networks::Private);
    assert_eq!(settings.server.door.max_message_size, 32 * 1024 * 1024);
}

#[test]
fn listening_beyond_loopback_closes_private_networks() {
    let settings = Settings::resolve(raw(|raw| raw.listen = Some("0.0.0.0:50051".into()))).unwrap();
    assert_eq!(settings.upstream.networks, Networks::Public);
}

#[test]
fn every_door_beyond_loopback_closes_private_networks() {
    let networks = |address: &str| {
        let settings = Settings::resolve(raw(|raw| raw.http_listen = Some(address.into()))).unwrap();
        (settings.http_listen.map(|listen| listen.address.to_string()), settings.upstream.networks)
    };
    assert_eq!(networks("0.0.0.0:80"), (Some("0.0.0.0:80".into()), Networks::Public));
    assert_eq!(networks("[::1]:80"), (Some("[::1]:80".into()), Networks::Private));
    assert_eq!(networks(""), (None, Networks::Private));
    let usual = Settings::resolve(RawSettings::default()).unwrap().http_listen.unwrap();
    assert_eq!((usual.address.to_string(), usual.given), ("127.0.0.1:8080".to_owned(), false));
}

#[test]
fn all_problems_are_told_at_once_and_no_password() {
    let error = Settings::resolve(raw(|raw| {
        raw.listen = Some("here".into());
        raw.database_url = Some("mysql://root:hunter2@db".into());
        raw.redis_url = Some("http://:hunter2@redis".into());
        raw.max_message_size = Some("much".into());
        raw.drain_limit = Some("soon".into());
        raw.http_listen = Some("there".into());
        raw.allowed_hosts = Some("a b".into());
    }))
    .err()
    .unwrap()
    .to_string();
    let settings = ["--listen", "--database-url", "--redis-url", "--max-message-size", "--drain-limit"];
    for setting in settings.into_iter().chain(["--http-listen", "--allowed-hosts"]) {
        assert!(error.contains(setting), "{error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn one_source_of_the_master_key() {
    let file = |raw: &mut RawSettings| raw.master_key_file = Some("ring".into());
    let command = |raw: &mut RawSettings| raw.master_key_command = Some("printf hunter2".into());
    let postgres = |raw: &mut RawSettings| raw.database_url = Some("postgres://db/rota".into());
    let resolved = |raw| Settings::resolve(raw).map(|settings| settings.master_key);
    assert!(matches!(resolved(raw(|_| {})).unwrap(), MasterKey::Own(path) if path.ends_with("master-key")));
    assert!(matches!(resolved(raw(file)).unwrap(), MasterKey::File(_)));
    assert!(matches!(resolved(raw(command)).unwrap(), MasterKey::Command(_)));
    let both = raw(|raw| {
        file(raw);
        command(raw);
    });
    for wrong in [both, raw(postgres)] {
        let error = resolved(wrong).err().unwrap().to_string();
        assert!(error.contains("--master-key-file") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn redis_is_a_server_a_cluster_or_sentinels() {
    let problem = |url: &str| Settings::resolve(raw(|raw| raw.redis_url = Some(url.into()))).err();
    for url in [
        "redis://:hunter2@redis:6379/1",
        "rediss://redis",
        "redis-cluster://user:hunter2@one:7000?node=two:7001&node=three:7002",
        "rediss-cluster://one:7000",
        "redis-sentinel://one:26379?sentinelServiceName=main&node=two:26379&sentinelPassword=hunter2",
        "rediss-sentinel://one?sentinelServiceName=main",
    ] {
        assert!(problem(url).is_none(), "{url}");
    }
    for url in [
        "redis",
        "redis://",
        "rediss+unix:///tmp/hunter2",
        "redis-ring://one:7000",
        "redis://one:hunter2",
        "redis://one/hunter2",
        "redis-cluster://one:7000?node=hunter2",
        "redis-sentinel://one:26379?sentinelPassword=hunter2",
    ] {
        let problem = problem(url).unwrap().to_string();
        assert!(problem.starts_with("--redis-url: ") && !problem.contains("hunter2"), "{url}: {problem}");
    }
}

#[test]
fn sizes_are_read() {
    assert_eq!(bytes("4MiB"), Some(4 << 20));
    assert_eq!(bytes("4096"), Some(4096));
    assert_eq!(bytes("1.5 KiB"), Some(1536));
    assert_eq!(bytes("4MB"), Some(4_000_000));
    for wrong in ["", "MiB", "4 monkeys", "-1", "99999999999999999999GiB"] {
        assert_eq!(bytes(wrong), None, "{wrong}");
    }
}

#[test]
fn traces_go_to_an_address_and_nothing_else() {
    let traces = |endpoint: &str, sample| {
        let given = raw(|raw| {
            raw.otlp_endpoint = Some(endpoint.into());
            raw.trace_sample = sample;
        });
        Settings::resolve(given).map(|settings| settings.traces)
    };
    assert_eq!(traces("", None).unwrap(), None);
    for endpoint in ["http://collector:4317", "https://10.0.0.1", "http://[::1]:4317/"] {
        let expected = TraceOptions { endpoint: endpoint.into(), sample: 0.25 };
        assert_eq!(traces(endpoint, Some(0.25)).unwrap(), Some(expected));
    }
    for endpoint in [
        "collector:4317",
        "collector",
        "grpc://collector:4317",
        "http://user:hunter2@collector:4317",
        "http://collector:4317/v1/traces",
        "http://collector:4317?token=hunter2",
        "http://",
    ] {
        let problem = traces(endpoint, None).err().unwrap().to_string();
        assert!(problem.starts_with("--otlp-endpoint: ") && !problem.contains("hunter2"), "{problem}");
    }
    for sample in [-0.1, 1.1, f64::NAN] {
        let problem = traces("", Some(sample)).err().unwrap().to_string();
        assert!(problem.starts_with("--trace-sample: "), "{problem}");
    }
}
