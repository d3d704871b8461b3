//! Forward: any endpoint of the provider, balanced, and never beyond its `base_url`.

use std::{collections::HashMap, time::Duration};

use async_compression::tokio::bufread::GzipEncoder;
use rota::{
    api::pb::{ErrorClass, ForwardRequest, ForwardResponse, Route},
    scripted::{Raw, Script, Upstream},
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tonic::{Code, Status, Streaming};

use crate::support::{
    eventually,
    failure::{classes, error, route, told},
    listing::api_key_field,
    on_both_states, read,
    refusal::invalid_fields,
    rota::Rota,
    world::{Scene, config},
};

on_both_states!(
    an_endpoint_that_no_driver_knows_is_reached_and_balanced,
    what_has_done_no_work_moves_on_whatever_the_method,
    other_failures_move_on_only_where_the_request_may_be_repeated,
);

fn request(scene: &Scene, method: &str, path: &str) -> ForwardRequest {
    ForwardRequest {
        key: Some(scene.key.clone()),
        method: method.into(),
        path: path.into(),
        ..Default::default()
    }
}

async fn open(scene: &Scene, request: ForwardRequest) -> Result<Streaming<ForwardResponse>, Status> {
    scene.clients.invoke.clone().forward(request).await.map(tonic::Response::into_inner)
}

/// An answer in one piece.
struct Answer {
    status: i32,
    headers: HashMap<String, String>,
    route: Route,
    body: Vec<u8>,
    pieces: usize,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn forward(scene: &Scene, request: ForwardRequest) -> Result<Answer, Status> {
    let (messages, end) = read(open(scene, request).await?).await;
    end?;
    let mut messages = messages.into_iter();
    let head = messages.next().unwrap();
    let pieces: Vec<_> = messages.collect();
    assert!(head.body.is_empty() && pieces.iter().all(|piece| piece.status == 0 && !piece.body.is_empty()));
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        route: head.route.unwrap(),
        pieces: pieces.len(),
        body: pieces.into_iter().flat_map(|piece| piece.body).collect(),
    })
}

async fn an_endpoint_that_no_driver_knows_is_reached_and_balanced(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let headers = [
        ("content-type", "application/x-own"),
        ("x-own", "1"),
        ("authorization", "Bearer mine"),
        ("x-api-key", "mine"),
        ("host", "elsewhere.example"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
    ];
    let send = || ForwardRequest {
        query: "a=1&b=%20&pieces=5".into(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: b"\"some body\"".to_vec(),
        ..request(&scene, "PATCH", "/anything/a b/c%2Fd")
    };
    for round in 0..4 {
        let answer = forward(&scene, send()).await.unwrap();
        assert_eq!((answer.status, answer.pieces), (200, 5));
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.route.config_name, format!("config-{}", round % 2));
        let echo = answer.json();
        assert_eq!((&echo["method"], &echo["body"]), (&json!("PATCH"), &json!("some body")));
        assert_eq!(echo["path"], "/v1/anything/a%20b/c%2Fd");
        assert_eq!(echo["query"], json!([["a", "1"], ["b", " "], ["pieces", "5"]]));
        let seen = &echo["headers"];
        assert_eq!((&seen["x-own"], &seen["content-type"]), (&json!("1"), &json!("application/x-own")));
        assert_eq!(seen["x-hop"], Value::Null);
        assert!(upstream.base_url().contains(seen["host"].as_str().unwrap()), "{seen}");
    }
    assert_eq!(scene.hits(&upstream), [2, 2]);
    let head = forward(&scene, request(&scene, "HEAD", "anything")).await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
}

async fn what_has_done_no_work_moves_on_whatever_the_method(rota: &Rota) {
    for (script, class) in [
        (Script::fail(401), ErrorClass::Authentication),
        (Script::fail_for(429, "60"), ErrorClass::RateLimited),
    ] {
        let upstream = Upstream::start().await.unwrap();
        let scene = Scene::set(rota, &upstream, 2).await;
        upstream.script(&scene.keys[0], script.clone());
        let answer = forward(&scene, request(&scene, "POST", "anything")).await.unwrap();
        assert_eq!(classes(&answer.route.attempts), [class, ErrorClass::Unspecified]);
        assert!(scene.configs_now().await[0].in_cooldown);
        upstream.script(&scene.keys[1], script);
        let status = forward(&scene, request(&scene, "POST", "anything")).await.map(drop).unwrap_err();
        assert_eq!(
            told(&status).1,
            format!("UPSTREAM_{}", class.as_str_name().trim_start_matches("ERROR_CLASS_"))
        );
        assert_eq!(route(&status).attempts.len(), 1);
    }
    // Nobody listens at the first.
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    let key = scene.keys[0].clone();
    scene
        .change_configs(|configs| {
            configs[0].base_url = "http://127.0.0.1:9/v1".into();
            configs[0].credentials = api_key_field(&key);
        })
        .await;
    let answer = forward(&scene, request(&scene, "POST", "anything")).await.unwrap();
    assert_eq!(classes(&answer.route.attempts), [ErrorClass::Connection, ErrorClass::Unspecified]);
}

async fn other_failures_move_on_only_where_the_request_may_be_repeated(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let post = |scene: &Scene| request(scene, "POST", "anything");
    let repeatable = |scene: &Scene| {
        [
            request(scene, "GET", "anything"),
            request(scene, "HEAD", "anything"),
            ForwardRequest { idempotent: true, ..post(scene) },
        ]
    };
    for (script, class) in [
        (Script::fail(500), ErrorClass::ServerError),
        (Script::fail(503), ErrorClass::ServerError),
        (Script::fail(408), ErrorClass::Timeout),
        (Script::fail(402), ErrorClass::QuotaExhausted),
        (Script::Close, ErrorClass::Connection),
    ] {
        let what = format!("{script:?}");
        for request in repeatable(&Scene::set(rota, &upstream, 2).await) {
            // To HEAD the upstream's server says all before the script can close.
            if request.method == "HEAD" && matches!(script, Script::Close) {
                continue;
            }
            let scene = Scene::set(rota, &upstream, 2).await;
            upstream.script(&scene.keys[0], script.clone());
            let request = ForwardRequest { key: Some(scene.key.clone()), ..request };
            let answer = forward(&scene, request).await.unwrap();
            assert_eq!(answer.status, 200, "{what}");
            assert_eq!(classes(&answer.route.attempts), [class, ErrorClass::Unspecified], "{what}");
        }
        let scene = Scene::set(rota, &upstream, 2).await;
        upstream.script(&scene.keys[0], script.clone());
        if let Script::Fail { status, .. } = script {
            let answer = forward(&scene, post(&scene)).await.unwrap();
            assert_eq!(answer.status, i32::from(status));
            assert!(answer.json()["error"]["message"].is_string());
            assert_eq!(classes(&answer.route.attempts), [class], "{what}");
        } else {
            let status = forward(&scene, post(&scene)).await.map(drop).unwrap_err();
            assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
            assert_eq!(classes(&route(&status).attempts), [class], "{what}");
        }
        assert_eq!(scene.hits(&upstream), [1, 0], "{what}");
    }
    // Of an endpoint that is not known, it is not known either what these mean.
    let refusals = [400, 403, 404, 410, 422].map(|status| (status, json!({"message": "no"})));
    let too_long = json!({"message": "no", "code": "context_length_exceeded"});
    for (status, error) in refusals.into_iter().chain([(413, too_long)]) {
        let scene = Scene::set(rota, &upstream, 2).await;
        upstream.script(&scene.keys[0], Script::fail_with(status, &error));
        let answer = forward(&scene, request(&scene, "GET", "anything")).await.unwrap();
        assert_eq!((answer.status, answer.json()["error"]["message"].as_str()), (status.into(), Some("no")));
        assert!(!scene.configs_now().await[0].in_cooldown, "{status}");
        assert_eq!(scene.hits(&upstream), [1, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_leaves_the_base() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let escapes = [
        "",
        "/",
        "..",
        "../admin",
        "/anything/../../admin",
        "%2e%2e/admin",
        "..%2fadmin",
        "..%5cadmin",
        "%252e%252e%252fadmin",
        "..;/admin",
        "..\\admin",
        "//elsewhere.example/x",
        "http://elsewhere.example/x",
        "anything?x=1",
        "anything#x",
        "anything\r\nx: y",
        "anything%00",
    ];
    for escape in escapes {
        let answer = forward(&scene, request(&scene, "GET", escape)).await.map(drop);
        assert_eq!(invalid_fields(answer), ["path"], "{escape:?}");
    }
    for method in ["", "TRACE", "CONNECT", "GET /x", "GE\nT"] {
        assert_eq!(
            invalid_fields(forward(&scene, request(&scene, method, "anything")).await.map(drop)),
            ["method"]
        );
    }
    let with = |name: &str, value: &str| ForwardRequest {
        headers: [(name.to_owned(), value.to_owned())].into(),
        ..request(&scene, "GET", "anything")
    };
    assert_eq!(invalid_fields(forward(&scene, with("a b", "c")).await.map(drop)), ["headers"]);
    assert_eq!(invalid_fields(forward(&scene, with("a", "b\r\nc: d")).await.map(drop)), ["headers[a]"]);
    let odd = ForwardRequest { query: "a=\n".into(), ..request(&scene, "GET", "anything") };
    assert_eq!(invalid_fields(forward(&scene, odd).await.map(drop)), ["query"]);
    let long = ForwardRequest { query: "a".repeat(8193), ..request(&scene, "GET", "anything") };
    assert_eq!(invalid_fields(forward(&scene, long).await.map(drop)), ["query"]);
    assert_eq!(invalid_fields(forward(&scene, with("a", &"b".repeat(40_000))).await.map(drop)), ["headers"]);
    let endless = request(&scene, "GET", &format!("%{}", "25".repeat(1 << 20)));
    assert_eq!(invalid_fields(forward(&scene, endless).await.map(drop)), ["path"]);
    // As long as it may be, and as much longer as encoding makes it, it is sent.
    let longest = ForwardRequest { query: "ä".repeat(4096), ..request(&scene, "GET", "anything") };
    forward(&scene, ForwardRequest { path: format!("anything/{}", "ä".repeat(2040)), ..longest })
        .await
        .unwrap();
    assert_eq!(upstream.total_hits(), 1);
    let mut nameless = request(&scene, "GET", "anything");
    nameless.key.as_mut().unwrap().model_type = 0;
    assert_eq!(invalid_fields(forward(&scene, nameless).await.map(drop)), ["key.model_type"]);
    assert_eq!(upstream.total_hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_repeats_the_key() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    // The upstream tells what came in, the query too, which holds the key here.
    for (key, pieces) in scene.keys.iter().cycle().zip([1, 2, 40]) {
        let query = format!("said={key}&pieces={pieces}");
        let answer =
            forward(&scene, ForwardRequest { query, ..request(&scene, "GET", "anything") }).await.unwrap();
        assert_eq!(answer.json()["query"][0][1], "*".repeat(key.len()));
    }
    for (key, status) in scene.keys.iter().rev().zip([400, 500]) {
        upstream.script(key, Script::fail_with(status, &json!({"message": format!("wrong key {key}.")})));
        let answer = forward(&scene, request(&scene, "POST", "anything")).await.unwrap();
        assert_eq!(answer.status, i32::from(status));
        assert!(!String::from_utf8_lossy(&answer.body).contains(key.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_streams_and_its_end_is_told() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let send = || ForwardRequest { query: "pieces=6".into(), ..request(&scene, "GET", "anything") };
    upstream.script(&scene.keys[0], Script::BreakAfter(3));
    let (messages, end) = read(open(&scene, send()).await.unwrap()).await;
    assert_eq!(messages[0].status, 200);
    assert_eq!(told(&end.unwrap_err()), error(Code::Unavailable, "UPSTREAM_CONNECTION"));
    eventually(Duration::from_secs(2), async || {
        let config = scene.configs_now().await.remove(0);
        if config.cooldown_reason() == ErrorClass::Connection { Ok(()) } else { Err(format!("{config:?}")) }
    })
    .await;

    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    upstream.script(&scene.keys[0], Script::StallAfter(3));
    let send = ForwardRequest { key: Some(scene.key.clone()), ..send() };
    let mut stream = open(&scene, send).await.unwrap();
    for _ in 0..4 {
        stream.message().await.unwrap().unwrap();
    }
    assert_eq!(scene.configs_now().await[0].in_flight, 1);
    drop(stream);
    eventually(Duration::from_secs(2), async || match upstream.in_flight() {
        0 => Ok(()),
        left => Err(format!("{left} still run upstream")),
    })
    .await;
}

// Packed, it could not be searched for the key.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_packed_unasked_is_unpacked_and_holds_no_key() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    for key in &scene.keys {
        let mut packed = Vec::new();
        let text = format!("you sent {key}.");
        GzipEncoder::new(text.as_bytes()).read_to_end(&mut packed).await.unwrap();
        upstream.script(key, Script::Raw(Raw::new("text/plain", packed).header("content-encoding", "gzip")));
    }
    let answer = forward(&scene, request(&scene, "GET", "/own")).await.unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(text, format!("you sent {}.", "*".repeat(scene.keys[0].len())));
    assert!(
        !answer.headers.contains_key("content-encoding") && !answer.headers.contains_key("content-length")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_of_the_caller_says_who_pays_or_where_it_goes() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.add_model(&upstream.base_url()).await;
    let mut own = config("one", "key-one");
    own.credentials.insert("organization".to_owned(), "org-own".to_owned());
    scene.put_configs(vec![own, config("two", "key-two")]).await;
    scene.enable().await;
    let dropped = [
        "OpenAI-Organization",
        "OpenAI-Project",
        "x-goog-user-project",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Host",
        "Forwarded",
        "X-HTTP-Method-Override",
    ];
    let headers = dropped.iter().map(|name| ((*name).to_owned(), "theirs".to_owned()));
    for _ in 0..2 {
        let mut request = request(&scene, "GET", "anything");
        request.headers = headers.clone().chain([("x-kept".to_owned(), "kept".to_owned())]).collect();
        forward(&scene, request).await.unwrap();
        let got = upstream.requests().pop().unwrap();
        for name in dropped {
            let value = got.headers.get(name).map(|value| value.to_str().unwrap());
            let own = (name == "OpenAI-Organization" && got.key == "key-one").then_some("org-own");
            assert_eq!(value, own, "{name} with {}", got.key);
        }
        assert_eq!(got.headers["x-kept"], "kept");
    }
    assert_eq!((upstream.hits("key-one"), upstream.hits("key-two")), (1, 1));
}
