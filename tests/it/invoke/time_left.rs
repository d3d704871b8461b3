//! Timeouts by policy, and calls that have too little time for another attempt.

use std::time::{Duration, Instant};

use rota::{
    api::pb::{BalancingPolicy, ErrorClass, InvokeLlmResponse},
    scripted::{Script, Upstream},
};
use tokio::net::TcpSocket;
use tonic::{Code, Request, Status};

use crate::support::{
    failure::{classes, error, route, told},
    listing::api_key_field,
    rota::Rota,
    world::Scene,
};

fn time(millis: u64) -> Option<prost_types::Duration> {
    Some(Duration::from_millis(millis).try_into().unwrap())
}

async fn ask_within(scene: &Scene, limit: Duration) -> Result<InvokeLlmResponse, Status> {
    let mut request = Request::new(scene.request());
    request.set_timeout(limit);
    scene.clients.invoke.clone().invoke_llm(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_bounds_the_whole_call() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    scene.set_policy(BalancingPolicy { total_timeout: time(300), ..Default::default() }).await;
    for key in &scene.keys {
        upstream.script(key, Script::Hang);
    }
    let began = Instant::now();
    let status = scene.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::DeadlineExceeded, "UPSTREAM_TIMEOUT"));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(scene.hits(&upstream).iter().sum::<u64>(), 1, "the rest of the time went to the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_bounds_connecting_alone() {
    // A listener whose queue is full answers no further connection.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let _listener = socket.listen(1).unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let key = scene.keys[0].clone();
    scene
        .change_configs(|configs| {
            configs[0].base_url = format!("http://{address}/v1");
            configs[0].credentials = api_key_field(&key);
        })
        .await;
    scene.set_policy(BalancingPolicy { connect_timeout: time(200), ..Default::default() }).await;
    // An answer may take longer than a connection.
    upstream.script(&scene.keys[1], Script::Answer.after(Duration::from_millis(500)));
    let began = Instant::now();
    let route = scene.ask().await.unwrap().route.unwrap();
    assert_eq!(classes(&route.attempts), [ErrorClass::Timeout, ErrorClass::Unspecified]);
    assert!(began.elapsed() < Duration::from_secs(5), "the service's own bound is 5 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_cannot_succeed_in_time_is_not_begun() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let usual = Duration::from_secs(4);
    for key in &scene.keys {
        upstream.script(key, Script::Answer.after(usual));
    }
    scene.ask().await.unwrap();
    upstream.script(&scene.keys[1], Script::fail(500));
    let began = Instant::now();
    let status = ask_within(&scene, usual / 4).await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_SERVER_ERROR"));
    assert_eq!(classes(&route(&status).attempts), [ErrorClass::ServerError]);
    assert_eq!(scene.hits(&upstream), [1, 1]);
    assert!(began.elapsed() < usual / 4, "it did not wait for its deadline");
    // With time enough the other serves.
    upstream.script(&scene.keys[0], Script::fail(500));
    upstream.script(&scene.keys[1], Script::Answer);
    let moved = ask_within(&scene, usual * 10).await.unwrap().route.unwrap();
    assert_eq!(classes(&moved.attempts), [ErrorClass::ServerError, ErrorClass::Unspecified]);
}
