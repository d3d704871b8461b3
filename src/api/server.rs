//! The services behind one port, with what is common to them: the gate, limits, compression, health, reflection.

use super::{Admin, ConfigApi, Gate, InvokeApi, pb};
use std::time::Duration;
use tonic::{
    codec::CompressionEncoding,
    transport::{Server, server::Router},
};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::{Builder, Error};
use tower::layer::util::{Identity, Stack};

/// A peer that does not answer a ping is gone, and what it held is given back.
const PING: Duration = Duration::from_secs(30);

/// Our services, health and reflection. A gRPC message in may have `max_message_size` bytes.
///
/// # Errors
/// Where the compiled protos cannot be read.
pub fn router(
    gate: Gate,
    health: HealthServer<impl Health>,
    admin: Admin,
    config: ConfigApi,
    invoke: InvokeApi,
    max_message_size: usize,
) -> Result<Router<Stack<Gate, Identity>>, Error> {
    // Compressed requests are understood everywhere; answers go out as they are, since most are small.
    let gzip = CompressionEncoding::Gzip;
    Ok(Server::builder()
        .http2_keepalive_interval(Some(PING))
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

fn reflection() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
