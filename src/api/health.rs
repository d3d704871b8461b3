//! `grpc.health.v1`, with the one answer that tonic-health leaves out: whoever watches a service that is not known is told
//! so and stays (SERVICE_UNKNOWN), where the library ends the call with an error that clients take for "no health here".

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tonic::{Code, Request, Response, Status, async_trait};
use tonic_health::{
    pb::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
    },
    server::HealthService,
};

/// The health service.
pub struct HealthApi(HealthService);

impl HealthApi {
    /// Tells what `known` knows.
    #[must_use]
    pub fn new(known: HealthService) -> Self {
        Self(known)
    }
}

#[async_trait]
impl Health for HealthApi {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        match self.0.watch(request).await {
            Ok(known) => Ok(known.map(StreamExt::boxed)),
            // All that we serve is known from the start, so nothing follows.
            Err(status) if status.code() == Code::NotFound => {
                let mut unknown = HealthCheckResponse::default();
                unknown.set_status(ServingStatus::ServiceUnknown);
                let told = stream::iter([Ok(unknown)]).chain(stream::pending());
                Ok(Response::new(told.boxed()))
            }
            Err(status) => Err(status),
        }
    }
}
