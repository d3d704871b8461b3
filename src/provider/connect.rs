//! Bounds the making of a connection by the policy of the call that makes it: reqwest has one bound for all.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::{BoxError, Layer, Service};

tokio::task_local! {
    /// How long the calls of this task may take to connect.
    static WITHIN: Duration;
}

/// Runs an attempt whose new connections may take so long; none: as the service is set.
pub async fn connect_within<F: Future>(bound: Option<Duration>, attempt: F) -> F::Output {
    match bound {
        Some(bound) => WITHIN.scope(bound, attempt).await,
        None => attempt.await,
    }
}

/// A layer around whatever makes connections. The default holds where the task says nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectBound {
    pub(super) default: Duration,
}

impl<S> Layer<S> for ConnectBound {
    type Service = Bounded<S>;

    fn layer(&self, connector: S) -> Bounded<S> {
        Bounded { connector, default: self.default }
    }
}

/// A connector with a bound.
#[derive(Debug, Clone)]
pub(super) struct Bounded<S> {
    connector: S,
    default: Duration,
}

impl<R, S> Service<R> for Bounded<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let bound = WITHIN.try_with(|within| *within).unwrap_or(self.default);
        let connecting = self.connector.call(request);
        Box::pin(async move {
            match tokio::time::timeout(bound, connecting).await {
                Ok(made) => made,
                // A kind that the HTTP client takes for a timeout.
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
