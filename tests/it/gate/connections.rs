//! Connections of clients: how long they last, and what is told on them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rota::scripted::{Script, Upstream};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::service_fn;

use crate::support::{
    eventually,
    rota::{Clients, Rota},
    world::Scene,
};

const AGE: Duration = Duration::from_secs(1);

async fn ageing() -> Rota {
    Rota::builder().arg("--max-connection-age").arg("1s").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_moves_to_a_new_connection_and_no_stream_is_cut() {
    let rota = ageing().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    let connected = Arc::new(AtomicUsize::new(0));
    let (address, counted) = (rota.address().to_owned(), connected.clone());
    let connector = service_fn(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let address = address.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(address).await?)) }
    });
    let endpoint = Endpoint::from_static("http://rota");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let scene = Scene { clients: Clients::over(channel, &scene.token), ..scene };

    // Longer than three ages of the connection that it is on.
    upstream.script(&scene.keys[0], Script::Slow(AGE));
    let stream = tokio::spawn({
        let scene = scene.clone();
        async move { scene.ask_stream().await }
    });
    eventually(Duration::from_secs(10), async || match upstream.in_flight() {
        0 => Err("the stream has not begun".to_owned()),
        _ => Ok(()),
    })
    .await;
    upstream.script(&scene.keys[0], Script::Answer);
    let mut calls = 0;
    eventually(Duration::from_secs(20), async || {
        match scene.ask().await {
            Ok(_) => calls += 1,
            // It had not left the client when the connection ended: tonic does not send it on another by itself.
            Err(status) => {
                assert_eq!((status.code(), upstream.in_flight()), (Code::Cancelled, 1), "{status:?}");
            }
        }
        match connected.load(Ordering::SeqCst) {
            count @ ..3 => Err(format!("{count} connections, {calls} calls")),
            _ => Ok(()),
        }
    })
    .await;
    let messages = stream.await.unwrap().unwrap();
    assert!(messages.last().unwrap().usage.is_some() || !messages.last().unwrap().finish_reason.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_began_together_do_not_end_together() {
    let rota = ageing().await;
    let ends = join_all((0..16).map(async |_| {
        let tcp = TcpStream::connect(rota.address()).await.unwrap();
        let shaken = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(tcp)).await;
        let (_sender, connection) = shaken.unwrap();
        let began = Instant::now();
        timeout(AGE * 20, connection).await.expect("it does not end").unwrap();
        began.elapsed()
    }))
    .await;
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    assert!(*first > AGE.mul_f64(0.85), "{first:?}");
    assert!(last.saturating_sub(*first) > AGE.mul_f64(0.02), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_an_unknown_service_is_told_so_and_stays() {
    let rota = Rota::shared().await;
    let mut client = HealthClient::new(rota.channel().await);
    let request = HealthCheckRequest { service: "no.such.Service".to_owned() };
    let mut told = client.watch(request.clone()).await.unwrap().into_inner();
    assert_eq!(told.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    let next = timeout(Duration::from_millis(200), told.message()).await;
    assert!(next.is_err(), "it ended: {next:?}");
    assert_eq!(client.check(request).await.unwrap_err().code(), Code::NotFound);
    let known = HealthCheckRequest { service: "rota.v1.InvokeService".to_owned() };
    let mut told = client.watch(known).await.unwrap().into_inner();
    assert_eq!(told.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
}
