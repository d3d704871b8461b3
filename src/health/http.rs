//! Probes over plain HTTP, for those that do not speak gRPC: `/livez` says that the process runs, `/readyz` that it
//! takes calls, `/readyz?verbose` what that depends on. And `/metrics`, in the text format of OpenMetrics.

use super::{Dependency, Readiness, scrape::scrape};
use crate::telemetry::Metrics;
use axum::{
    Router,
    extract::RawQuery,
    http::{StatusCode, header},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The most connections at once; others are closed at once.
const CONNECTIONS: usize = 1024;
/// How long a request's head may take to come, and a connection be idle.
const HEADERS: Duration = Duration::from_secs(10);
/// How long a connection may last, whatever happens on it. Who wants more connects again.
const CONNECTION: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Serves probes and metrics until the process ends; `/readyz` answers 503 and why where no calls are taken.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve_probes(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Arc<Metrics>,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let scraped = readiness.clone();
    let metrics = move || async move {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], scrape(&scraped, &metrics).await)
    };
    let ready = move |RawQuery(query): RawQuery| async move {
        let (status, word) = match readiness.why_not() {
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            None => (StatusCode::OK, "ready"),
        };
        let mut text = String::new();
        if query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose"))) {
            for Dependency { name, there, means } in readiness.dependencies() {
                text += &format!("[{}] {name}: {means}\n", if there { '+' } else { '-' });
            }
        }
        (status, text + word + "\n")
    };
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    Ok((address, tokio::spawn(serve(listener, router))))
}

/// One connection after the other, each within bounds: a prober or scraper needs a fraction of them, and who holds one
/// for no good is cut off.
async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            // Where the system has no descriptors left, it has none a moment later either.
            sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADERS);
            let _ = timeout(CONNECTION, http.serve_connection(TokioIo::new(tcp), service)).await;
            drop(place);
        });
    }
}
