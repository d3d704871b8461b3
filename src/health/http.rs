//! Probes over plain HTTP, for those that do not speak gRPC: `/livez` says that the process runs, `/readyz` that it
//! takes calls.

use axum::{Router, http::StatusCode, routing::get};
use std::{future::IntoFuture, io, net::SocketAddr};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Serves the probes until the process ends; `/readyz` answers 503 once `draining` is cancelled.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve_probes(
    address: SocketAddr,
    draining: CancellationToken,
) -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let ready = move || async move {
        if draining.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else {
            (StatusCode::OK, "ready\n")
        }
    };
    let router = Router::new().route("/livez", get(|| async { "alive\n" })).route("/readyz", get(ready));
    Ok((address, tokio::spawn(axum::serve(listener, router).into_future())))
}
