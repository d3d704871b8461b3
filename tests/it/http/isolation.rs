//! Tokens, roles and tenants at every path, as at every RPC; and no token goes on or into the log.

use rota::{api::pb::Role, scripted::Upstream};
use serde_json::Value;

use crate::support::{
    http::{Body, Http, model, paths, told},
    rota::Rota,
    world::{Scene, create_token},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_token_nothing_is_told() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let http = Http::of(rota).await;
    for path in paths(&model(&scene)) {
        let wrong = [
            None,
            Some(("authorization", "Bearer rota_wrong".to_owned())),
            Some(("authorization", format!("Basic {}", scene.token))),
            Some(("authorization", "Bearer ".to_owned())),
            Some(("authorization", format!("Bearer {}x", scene.token))),
            Some(("x-api-key", "rota_wrong".to_owned())),
            Some(("x-goog-api-key", "rota_wrong".to_owned())),
        ];
        for header in wrong {
            let request = http.request(&path);
            let request = match &header {
                Some((name, value)) => request.header(*name, value),
                None => request,
            };
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{header:?} at {path:?}");
            let text = answer.text().await.unwrap();
            assert!(!text.contains(&scene.tenant) && !text.contains(&scene.token), "{text}");
            if header.is_none() {
                told(path.protocol(), &serde_json::from_str(&text).unwrap());
            }
        }
    }
    assert_eq!(upstream.total_hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_does_what_it_may() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let http = Http::of(rota).await;
    let mut operator = rota.operator().await;
    let viewer = create_token(&mut operator, &scene.tenant, Role::Viewer).await;
    let invoker = create_token(&mut operator, &scene.tenant, Role::Invoker).await;
    for path in paths(&model(&scene)) {
        let is_call = !matches!(path.body, Body::None);
        let seen = http.request(&path).bearer_auth(&viewer).send().await.unwrap();
        assert_eq!(seen.status(), if is_call { 403 } else { 200 }, "{path:?}");
        if is_call {
            assert_eq!(upstream.total_hits(), 0, "{path:?}");
            told(path.protocol(), &seen.json::<Value>().await.unwrap());
        }
    }
    // An invoker may call what there is: the tenant has a chat, and no model of another type.
    for path in paths(&model(&scene)) {
        let answer = http.request(&path).bearer_auth(&invoker).send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(matches!(status, 200 | 400 | 404), "{path:?}: {status} {}", answer.text().await.unwrap());
    }
    // A stranger's token, which is an operator's, names no tenant: nothing is found, and nothing breaks.
    let operators = rota.operator_token().await.to_owned();
    for path in paths(&model(&scene)) {
        let before = upstream.total_hits();
        let status = http.request(&path).bearer_auth(&operators).send().await.unwrap().status().as_u16();
        assert!(
            (400..500).contains(&status) || status == 200 && !matches!(path.body, Body::Json(_)),
            "{path:?}: {status}"
        );
        assert_eq!(upstream.total_hits(), before, "{path:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_models_are_not_there() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let mut theirs = Scene::tenant(rota).await;
    theirs.provider = "theirs".to_owned();
    theirs.key.provider = "theirs".to_owned();
    theirs.add_model(&upstream.base_url()).await;
    theirs.add_configs(2).await;
    theirs.enable().await;
    let own = Scene::set(rota, &upstream, 2).await;
    let http = Http::of(rota).await;
    for path in paths(&model(&theirs)) {
        let answer = http.request(&path).bearer_auth(&own.token).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        let is_list = path.path.ends_with("/models");
        assert_eq!(status, if is_list { 200 } else { 404 }, "{path:?}: {text}");
        assert!(!is_list || !text.contains("theirs"), "{path:?}: {text}");
        assert!(!text.contains(&theirs.tenant), "{path:?}: {text}");
    }
    // Nor by a header that names the tenant.
    let path = &paths(&model(&theirs))[0];
    let answer = http
        .request(path)
        .bearer_auth(&own.token)
        .header("x-rota-tenant", &theirs.tenant)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_client_error());
    assert_eq!(upstream.total_hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_serves_wherever_clients_put_it_and_goes_nowhere() {
    let rota = Rota::builder().env("RUST_LOG", "debug,h2=info,hyper=info").start().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    let http = Http::of(&rota).await;
    let token = scene.token.as_str();
    for (at, path) in
        paths(&model(&scene)).into_iter().enumerate().filter(|(at, _)| [0, 1, 12, 14, 18, 20].contains(at))
    {
        let sign = if path.path.contains('?') { '&' } else { '?' };
        let mut in_query = path.clone();
        in_query.path = format!("{}{sign}key={token}", path.path);
        let mut more = path.clone();
        more.path = format!("{}{sign}key={token}&trace=1", path.path);
        for (place, request) in [
            ("bearer", http.request(&path).bearer_auth(token)),
            ("x-api-key", http.request(&path).header("x-api-key", token)),
            ("x-goog-api-key", http.request(&path).header("x-goog-api-key", token)),
            ("query", http.request(&in_query)),
            ("query with more", http.request(&more)),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{place} at {at} {path:?}: {}", answer.text().await.unwrap());
            assert!(!answer.text().await.unwrap().contains(token));
        }
    }
    let requests = upstream.requests();
    assert!(!requests.is_empty());
    for request in &requests {
        let headers = format!("{:?}", request.headers);
        let body = String::from_utf8_lossy(&request.raw);
        for seen in [&*headers, &request.query, &request.path, &*body] {
            assert!(!seen.contains(token) && !seen.contains("rota_"), "{} {seen}", request.path);
        }
    }
    let wrong = http
        .client
        .get(format!("{}/v1/models?key=rota_not_a_token_of_anybody", http.origin))
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), 401);
    let log = rota.logs();
    assert!(!log.contains(token) && !log.contains("rota_not_a_token"), "a token stands in the log");
}
