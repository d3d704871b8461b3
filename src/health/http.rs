//! The admin port, for programs that do not speak gRPC. `/livez` says that the process runs, `/readyz` that it takes calls,
//! and `/readyz?verbose` what that depends on. `/metrics` is in the text format of OpenMetrics.

use super::{
    readiness::{Dependency, Readiness},
    scrape::scrape,
};
use crate::{
    net::{Places, Port},
    tasks::Tasks,
    telemetry::Metrics,
};
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
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// The most connections at once. The oldest is closed for a further one: whoever holds many keeps no probe out.
const CONNECTIONS: usize = 128;
/// The most bytes of a request's head.
const HEAD: usize = 16 << 10;
/// How long a request's head may take to come, and a connection be idle.
const HEADERS: Duration = Duration::from_secs(10);
/// How long a connection may last. A client that needs more connects again.
const CONNECTION: Duration = Duration::from_secs(60);

/// Serves probes and metrics on that port; `/readyz` answers 503 and why where no calls are taken.
///
/// Connections are bounded in number and time. A prober or scraper needs a fraction of that.
pub async fn serve_http(port: Arc<Port>, readiness: Readiness, metrics: Arc<Metrics>, tasks: Tasks) {
    let mut accept = match port.accept() {
        Ok(accept) => accept,
        Err(error) => return tracing::warn!(%error, "probes and metrics cannot be served"),
    };
    let router = router(readiness, metrics, tasks);
    let places = Arc::new(Places::new(CONNECTIONS));
    loop {
        let tcp = accept.next().await;
        let (place, _) = places.enter();
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEAD);
            let served = timeout(CONNECTION, http.serve_connection(TokioIo::new(tcp), service));
            let _ = place.closed.run_until_cancelled(served).await;
        });
    }
}

fn router(readiness: Readiness, metrics: Arc<Metrics>, tasks: Tasks) -> Router {
    let scraped = readiness.clone();
    let metrics = move || async move {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], scrape(&scraped, &metrics, &tasks).await)
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
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}
