//! A page in a browser must not reach the door by accident.

use reqwest::Method;
use rota::scripted::Upstream;

use crate::support::{
    http::{Http, model, paths},
    rota::Rota,
    world::Scene,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_and_a_foreign_origin_are_refused_at_every_path() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let http = Http::of(rota).await;
    for path in paths(&model(&scene)) {
        for (name, value) in [
            ("host", "evil.example"),
            ("host", "127.0.0.1.evil.example:8080"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:1"),
        ] {
            let answer =
                http.request(&path).bearer_auth(&scene.token).header(name, value).send().await.unwrap();
            assert_eq!(answer.status(), 403, "{name}: {value} at {path:?}");
            assert!(!answer.headers().keys().any(|name| name.as_str().starts_with("access-control-")));
        }
    }
    assert_eq!(upstream.total_hits(), 0);
    // Its own origin, as of a page that it would serve itself.
    let own = &paths(&model(&scene))[0];
    let answer =
        http.request(own).bearer_auth(&scene.token).header("origin", &http.origin).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().keys().any(|name| name.as_str().starts_with("access-control-")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_browser_is_told_that_it_may() {
    let rota = Rota::shared().await;
    let http = Http::of(rota).await;
    for path in paths("m") {
        for origin in ["https://evil.example", http.origin.as_str()] {
            let asked = http.client.request(Method::OPTIONS, format!("{}{}", http.origin, path.path));
            let asked = asked.header("origin", origin).header("access-control-request-method", "POST");
            let answer =
                asked.header("access-control-request-headers", "authorization").send().await.unwrap();
            assert!(answer.status().is_client_error(), "{path:?}: {}", answer.status());
            assert!(!answer.headers().keys().any(|name| name.as_str().starts_with("access-control-")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_host_is_served() {
    let rota = Rota::builder().arg("--allowed-hosts").arg("rota.example,*.svc.example").start().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    let http = Http::of(&rota).await;
    let path = &paths(&model(&scene))[0];
    for (host, status) in [
        ("rota.example", 200),
        ("rota.example:8080", 200),
        ("a.svc.example", 200),
        ("localhost", 200),
        ("other.example", 403),
        ("svc.example.evil", 403),
    ] {
        let answer = http.request(path).bearer_auth(&scene.token).header("host", host).send().await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
    }
}
