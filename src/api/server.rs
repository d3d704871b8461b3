//! The services behind one port, and the connections to it.

use super::{
    admin::Admin,
    config::ConfigApi,
    door::{Door, DoorOptions},
    health::HealthApi,
    http2,
    invoke::InvokeApi,
    pb,
};
use crate::gate::{Connections, Gate, Tls};
use std::{io, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::{Builder, Error};

/// The largest message to reflection, in bytes.
const REFLECTION_MESSAGE: usize = 4 << 10;

/// How gRPC is served.
pub struct ServerOptions {
    /// How calls are taken.
    pub door: DoorOptions,
    /// The most connections at once that have shown no valid token.
    pub max_strangers: usize,
    /// The most connections at once.
    pub max_connections: usize,
    /// How long a connection is used, give or take a tenth.
    pub max_connection_age: Duration,
    /// The most calls at once on one connection.
    pub streams_per_connection: u32,
    /// `None` serves plain text.
    pub tls: Option<Tls>,
}

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
pub fn door(gate: Gate, services: Services, options: DoorOptions) -> Result<Door, Error> {
    let Services { health, admin, config, invoke } = services;
    let max_message_size = options.max_message_size;
    // Compressed requests of callers with a token are understood; answers go out as they are, since most are small. The
    // door unpacks them: that a service accepts gzip only makes it say so.
    let gzip = CompressionEncoding::Gzip;
    let routes = Routes::new(HealthServer::from_arc(health))
        .add_service(reflection().build_v1()?.max_decoding_message_size(REFLECTION_MESSAGE))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(REFLECTION_MESSAGE))
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
        );
    Ok(Door::new(gate, routes, options))
}

/// Serves the connections until `stop`, and then until the last of them has ended.
///
/// # Errors
/// Where the port is closed.
pub async fn serve(
    door: Door,
    connections: &Connections,
    options: &ServerOptions,
    stop: CancellationToken,
) -> io::Result<()> {
    let max_calls = options.streams_per_connection;
    let served = connections.serve(options.max_connection_age, stop, |connection, ends| {
        let served = http2::serve(connection, door.clone(), max_calls, ends);
        async move {
            if let Err(error) = served.await {
                tracing::debug!(%error, "a connection has broken off");
            }
        }
    });
    served.await
}

fn reflection() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
