//! The services behind one port, and what they share: the gate, limits, compression, health and reflection.

use super::{admin::Admin, config::ConfigApi, health::HealthApi, invoke::InvokeApi, layer::GateLayer, pb};
use crate::gate::{Connection, Connections, Tls};
use futures::{StreamExt, future::ready, stream};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    codec::CompressionEncoding,
    transport::{
        Server,
        server::{Connected, Router, TcpConnectInfo},
    },
};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::{Builder, Error};
use tower::{
    BoxError,
    layer::util::{Identity, Stack},
};

/// How often a peer is pinged. A peer that does not answer is gone, and what it held is given back.
const PING: Duration = Duration::from_secs(30);

/// How many streams a connection may reset before they were served (CVE-2023-44487, "rapid reset").
const RESETS: usize = 20;
/// The most metadata of one call, in bytes.
const MAX_METADATA: u32 = 16 << 10;

/// How gRPC is served.
pub struct ServerOptions {
    /// The largest message in, in bytes.
    pub max_message_size: usize,
    /// The most connections at once.
    pub max_connections: usize,
    /// How long a connection is used, give or take a tenth.
    pub max_connection_age: Duration,
    /// The most calls at once on one connection.
    pub streams_per_connection: u32,
    /// `None` serves plain text.
    pub tls: Option<Tls>,
}

/// What every call goes through.
type Layers = Stack<GateLayer, Identity>;

/// What is served. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// `grpc.health.v1`.
    pub health: Arc<HealthApi>,
    /// `rota.v1.AdminService`.
    pub admin: Admin,
    /// `rota.v1.ConfigService`.
    pub config: ConfigApi,
    /// `rota.v1.InvokeService`.
    pub invoke: InvokeApi,
}

/// Puts our services, health and reflection behind the gate.
///
/// # Errors
/// Where the compiled protos cannot be read.
pub fn router(gate: GateLayer, services: Services, options: &ServerOptions) -> Result<Router<Layers>, Error> {
    let Services { health, admin, config, invoke } = services;
    let max_message_size = options.max_message_size;
    // Compressed requests are understood everywhere; answers go out as they are, since most are small.
    let gzip = CompressionEncoding::Gzip;
    Ok(Server::builder()
        .http2_keepalive_interval(Some(PING))
        .max_concurrent_streams(options.streams_per_connection)
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .http2_max_header_list_size(MAX_METADATA)
        .layer(gate)
        .add_service(HealthServer::from_arc(health).accept_compressed(gzip))
        .add_service(reflection().build_v1()?.accept_compressed(gzip))
        .add_service(reflection().build_v1alpha()?.accept_compressed(gzip))
        .add_service(
            pb::admin_service_server::AdminServiceServer::new(admin)
                .max_decoding_message_size(max_message_size)
                .accept_compressed(gzip),
        )
        .add_service(
            pb::config_service_server::ConfigServiceServer::new(config)
                .max_decoding_message_size(max_message_size)
                .accept_compressed(gzip),
        )
        .add_service(
            pb::invoke_service_server::InvokeServiceServer::new(invoke)
                .max_decoding_message_size(max_message_size)
                .accept_compressed(gzip),
        ))
}

/// Serves the connections until `stop`, and then until the last of them has ended.
///
/// # Errors
/// Where the router could not be made, or the port is closed.
pub async fn serve(
    router: Result<Router<Layers>, Error>,
    connections: &Connections,
    max_age: Duration,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let (router, open) = (router?, TaskTracker::new());
    {
        // Dropped before the wait: the port is closed only then.
        let mut incoming = pin!(connections.incoming()?);
        while let Some(Some(connection)) = stop.run_until_cancelled(incoming.next()).await {
            open.spawn(serve_one(router.clone(), connection, jittered(max_age), stop.clone()));
        }
        connections.close();
    }
    open.close();
    open.wait().await;
    Ok(())
}

/// Serves one connection. Once it is old, or on `stop`, the client is told to send no more calls on it (GOAWAY), and it ends
/// with the last of those that it has: none is cut, however long it takes.
///
/// A server of tonic ends all its connections at one age. This one has one connection, so that each has its own.
async fn serve_one(router: Router<Layers>, connection: Connection, age: Duration, stop: CancellationToken) {
    let gone = connection.gone();
    let ends = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(age) => {}
            () = gone => {}
        }
    };
    let connection = stream::once(ready(Ok::<_, io::Error>(connection))).chain(stream::pending());
    if let Err(error) = router.serve_with_incoming_shutdown(connection, ends).await {
        tracing::debug!(%error, "a connection cannot be served");
    }
}

/// A time within a tenth of this one: connections that began together, as after a deployment, do not end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(0.9..1.1))
}

fn reflection() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp().connect_info()
    }
}
