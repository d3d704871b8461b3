//! The operator's settings of how providers are called.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rota::{
    api::pb::{ErrorClass, InvokeTextEmbeddingRequest, ModelType},
    scripted::Upstream,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tonic::Code;

use crate::support::{
    authority::Authority,
    failure::{classes, error, route, told},
    rota::Rota,
    world::Scene,
};

/// Where an upstream is, without the scheme.
fn address(upstream: &Upstream) -> String {
    upstream.origin().trim_start_matches("http://").to_owned()
}

/// The upstream behind TLS, under an authority whose PEM is in that file: the address.
pub async fn behind_tls(upstream: &Upstream, file: &Path) -> SocketAddr {
    let authority = Authority::new();
    fs::write(file, authority.ca.pem()).unwrap();
    let acceptor = authority.acceptor(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (own, to) = (listener.local_addr().unwrap(), address(upstream));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let mut inside = acceptor.accept(stream).await?;
                let mut outside = TcpStream::connect(to).await?;
                copy_bidirectional(&mut inside, &mut outside).await
            });
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_where_it_is_given() {
    let upstream = Upstream::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let base_url = format!("https://{}/v1", behind_tls(&upstream, &file).await);

    let scene = async |rota: &Rota| {
        let mut scene = Scene::tenant(rota).await;
        scene.add_model(&base_url).await;
        scene.add_configs(2).await;
        scene.enable().await;
        scene
    };
    let trusting = Rota::builder().arg("--upstream-ca").arg(file.to_string_lossy()).start().await;
    scene(&trusting).await.ask().await.unwrap();
    let status = scene(Rota::shared().await).await.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
    // Another key would not be trusted any more.
    assert_eq!(classes(&route(&status).attempts), [ErrorClass::Connection]);
    // What holds no certificate is refused at the start.
    fs::write(&file, "nothing").unwrap();
    let output = Rota::builder().output(&["serve", "--upstream-ca", &file.to_string_lossy()]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("--upstream-ca"), "{text}");
}

/// A proxy that leads to that upstream, whatever it is asked for: its address, and the heads of the requests that it gets.
async fn proxy_to(upstream: &Upstream) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (to, seen) = (address(upstream), heads.clone());
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let (to, seen) = (to.clone(), seen.clone());
            tokio::spawn(async move {
                // The start of the request is what a proxy goes by; the upstream takes it as it is.
                let mut head = vec![0; 8192];
                let length = inside.read(&mut head).await?;
                head.truncate(length);
                seen.lock().push(String::from_utf8_lossy(&head).into_owned());
                let mut outside = TcpStream::connect(to).await?;
                outside.write_all(&head).await?;
                copy_bidirectional(&mut inside, &mut outside).await
            });
        }
    });
    (own, heads)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_goes_through_the_proxy() {
    let upstream = Upstream::start().await.unwrap();
    let (proxy, heads) = proxy_to(&upstream).await;
    let proxy = format!("http://user:hunter2@{proxy}");
    let rota = Rota::builder().env("ROTA_UPSTREAM_PROXY", &proxy).start().await;
    let mut scene = Scene::tenant(&rota).await;
    // A name that only the proxy can know.
    scene.add_model("http://models.invalid/v1").await;
    scene.add_configs(2).await;
    scene.enable().await;
    scene.ask().await.unwrap();
    let head = heads.lock().remove(0);
    assert!(head.starts_with("POST http://models.invalid/v1/chat/completions HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic "), "{head}");
    assert!(!rota.logs().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_have_proxies_of_their_own() {
    let upstream = Upstream::start().await.unwrap();
    let (some, others) = (proxy_to(&upstream).await, proxy_to(&upstream).await);
    let rules = format!("models.invalid=http://user:hunter2@{},http://{}", some.0, others.0);
    let rota = Rota::builder().env("ROTA_UPSTREAM_PROXY", &rules).arg("--upstream-no-proxy");
    let rota = rota.arg("127.0.0.0/8").start().await;
    let table = [
        ("http://a.models.invalid/v1".to_owned(), [1, 0]),
        ("http://else.invalid/v1".to_owned(), [0, 1]),
        (upstream.base_url(), [0, 0]),
    ];
    for (base_url, expected) in table {
        let mut scene = Scene::tenant(&rota).await;
        scene.add_model(&base_url).await;
        scene.add_configs(1).await;
        scene.ask().await.unwrap();
        let heads = [&some, &others].map(|(_, heads)| std::mem::take(&mut *heads.lock()));
        assert_eq!(heads.each_ref().map(Vec::len), expected, "{base_url}: {heads:?}");
        // A password is for its own proxy.
        let told = |head: &String| head.to_ascii_lowercase().contains("proxy-authorization");
        assert!(heads[0].iter().all(told) && !heads[1].iter().any(told), "{heads:?}");
    }
    assert!(upstream.requests().iter().any(|sent| !sent.headers.contains_key("proxy-authorization")));
    // What cannot be read is refused at the start, by its name and without its value.
    for (flag, value) in [("--upstream-proxy", "a=hunter2"), ("--upstream-no-proxy", "10.0.0.0/hunter2")] {
        let output = Rota::builder().output(&["serve", flag, value]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(flag) && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_goes_through_the_proxy_in_a_tunnel() {
    let upstream = Upstream::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let sealed = behind_tls(&upstream, &file).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://user:hunter%322@{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::<u8>::new()));
    let all = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let seen = all.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let length = inside.read(&mut head).await?;
                seen.lock().extend(&head[..length]);
                inside.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                let mut outside = TcpStream::connect(sealed).await?;
                let length = inside.read(&mut head).await?;
                seen.lock().extend(&head[..length]);
                outside.write_all(&head[..length]).await?;
                copy_bidirectional(&mut inside, &mut outside).await
            });
        }
    });
    let rota = Rota::builder().env("ROTA_UPSTREAM_PROXY", &proxy).arg("--upstream-ca");
    let rota = rota.arg(file.to_string_lossy()).start().await;
    let mut scene = Scene::tenant(&rota).await;
    scene.add_model(&format!("https://{sealed}/v1")).await;
    scene.add_configs(2).await;
    scene.enable().await;
    scene.ask().await.unwrap();
    let seen = String::from_utf8_lossy(&seen.lock()).into_owned();
    assert!(seen.starts_with(&format!("CONNECT {sealed} HTTP/1.1\r\n")), "{seen}");
    // user:hunter22
    assert!(seen.contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIyMg==\r\n"), "{seen}");
    assert!(!seen.contains("chat/completions") && !seen.contains(&scene.keys[0]), "{seen}");
    // The proxy's password is not for providers.
    let requests = upstream.requests();
    assert!(requests.iter().all(|sent| !sent.headers.contains_key("proxy-authorization")));
    assert!(!requests.is_empty() && !rota.logs().contains("hunter"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_bounded_and_idle_connections_are_kept_as_set() {
    let upstream = Upstream::start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let (to, count) = (address(&upstream), connections.clone());
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let to = to.clone();
            tokio::spawn(async move {
                let mut outside = TcpStream::connect(to).await?;
                copy_bidirectional(&mut inside, &mut outside).await
            });
        }
    });
    // A connection is idle a moment after its answer is read, so a next call may now and then make one more.
    for (kept, expected) in [("0", 20..=20), ("1", 1..=10)] {
        let rota = Rota::builder();
        let rota = rota.arg("--upstream-idle-connections").arg(kept).arg("--upstream-max-answer").arg("2KiB");
        let rota = rota.start().await;
        let mut scene = Scene::tenant(&rota).await;
        scene.key.model_type = ModelType::TextEmbedding.into();
        scene.add_model(&base_url).await;
        scene.add_configs(2).await;
        scene.enable().await;
        let embed = async |count: usize| {
            let request = InvokeTextEmbeddingRequest {
                key: Some(scene.key.clone()),
                texts: vec!["text".to_owned(); count],
                ..Default::default()
            };
            scene.clients.invoke.clone().invoke_text_embedding(request).await
        };
        connections.store(0, Ordering::SeqCst);
        for _ in 0..20 {
            embed(1).await.unwrap();
        }
        let made = connections.load(Ordering::SeqCst);
        assert!(expected.contains(&made), "{made} connections, {kept} kept");
        let status = embed(1000).await.unwrap_err();
        assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_SERVER_ERROR"));
    }
}
