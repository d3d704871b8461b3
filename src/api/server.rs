//! The services behind one port, and what they share: the gate, limits, compression, health and reflection.

use super::{admin::Admin, config::ConfigApi, invoke::InvokeApi, layer::GateLayer, pb};
use crate::gate::{Connection, Connections, Tls};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{
    codec::CompressionEncoding,
    transport::{
        Server,
        server::{Connected, Router, TcpConnectInfo},
    },
};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};
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
    pub health: HealthServer<HealthService>,
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
        .add_service(health.accept_compressed(gzip))
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
/// Where the router could not be made, the port is closed, or serving fails.
pub async fn serve(
    router: Result<Router<Layers>, Error>,
    connections: &Connections,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let stopped = async {
        stop.cancelled().await;
        connections.close();
    };
    Ok(router?.serve_with_incoming_shutdown(connections.incoming()?, stopped).await?)
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
