//! The services behind one port, with what is common to them: the gate, limits, compression, health, reflection.

use super::{Admin, ConfigApi, Gate, InvokeApi, pb};
use secrecy::{ExposeSecret, SecretSlice};
use std::time::Duration;
use tonic::{
    codec::CompressionEncoding,
    transport::{Certificate, Server, ServerTlsConfig, server::Router},
};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::{Builder, Error};
use tower::layer::util::{Identity, Stack};

/// A peer that does not answer a ping is gone, and what it held is given back.
const PING: Duration = Duration::from_secs(30);

/// A connection may reset so many streams before it has made use of any (CVE-2023-44487, "rapid reset").
const RESETS: usize = 20;
/// Metadata of one call, in bytes.
const MAX_METADATA: u32 = 16 << 10;

/// How gRPC is served.
pub struct ServerOptions {
    /// The largest message in, in bytes.
    pub max_message_size: usize,
    /// The most calls at once on one connection.
    pub streams_per_connection: u32,
    /// None: plain text.
    pub tls: Option<Tls>,
}

/// What TLS is served with, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The server's certificate, and those that lead from it to an authority.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: SecretSlice<u8>,
    /// The authorities of clients, who then must show a certificate. None: they need none.
    pub client_ca: Option<Vec<u8>>,
}

impl Tls {
    fn config(&self) -> ServerTlsConfig {
        let identity = tonic::transport::Identity::from_pem(&self.certificate, self.key.expose_secret());
        let config = ServerTlsConfig::new().identity(identity);
        match &self.client_ca {
            Some(ca) => config.client_ca_root(Certificate::from_pem(ca)),
            None => config,
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The compiled protos cannot be read.
    #[error("reflection: {0}")]
    Reflection(#[from] Error),
    /// Certificate and key do not go together, or are none.
    #[error("--tls-cert, --tls-key and --tls-client-ca cannot be used together: {0}")]
    Tls(#[from] tonic::transport::Error),
}

/// Our services, health and reflection.
///
/// # Errors
/// [`ServerError`].
pub fn router(
    gate: Gate,
    health: HealthServer<impl Health>,
    admin: Admin,
    config: ConfigApi,
    invoke: InvokeApi,
    options: &ServerOptions,
) -> Result<Router<Stack<Gate, Identity>>, ServerError> {
    let max_message_size = options.max_message_size;
    // Compressed requests are understood everywhere; answers go out as they are, since most are small.
    let gzip = CompressionEncoding::Gzip;
    let mut server = Server::builder();
    if let Some(tls) = &options.tls {
        server = server.tls_config(tls.config())?;
    }
    Ok(server
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

fn reflection() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
