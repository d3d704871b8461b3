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
use std::{future::IntoFuture, io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};

/// Serves probes and metrics until the process ends; `/readyz` answers 503 and why where no calls are taken.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve_probes(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Arc<Metrics>,
) -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
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
    Ok((address, tokio::spawn(axum::serve(listener, router).into_future())))
}
