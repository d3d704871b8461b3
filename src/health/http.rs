//! Probes over plain HTTP, for those that do not speak gRPC: `/livez` says that the process runs, `/readyz` that it
//! takes calls.

use super::Readiness;
use axum::{Router, http::StatusCode, routing::get};
use std::{future::IntoFuture, io, net::SocketAddr};
use tokio::{net::TcpListener, task::JoinHandle};

/// Serves the probes until the process ends; `/readyz` answers 503 and why where no calls are taken.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve_probes(
    address: SocketAddr,
    readiness: Readiness,
) -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let ready = move || async move {
        match readiness.why_not() {
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            None => (StatusCode::OK, "ready\n".to_owned()),
        }
    };
    let router = Router::new().route("/livez", get(|| async { "alive\n" })).route("/readyz", get(ready));
    Ok((address, tokio::spawn(axum::serve(listener, router).into_future())))
}
