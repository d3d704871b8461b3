//! A certificate authority of a test's own, and a server's certificate for 127.0.0.1 and ::1 under it.

use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::{TlsAcceptor, rustls};
use uuid::Uuid;

/// See the module's documentation.
pub struct Authority {
    /// The authority's certificate.
    pub ca: Certificate,
    /// The server's.
    pub own: Certificate,
    /// The server's key.
    pub key: KeyPair,
    /// A client's certificate.
    pub client: Certificate,
    /// Its key.
    pub client_key: KeyPair,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, Uuid::new_v4().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned(), "::1".to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let client_key = KeyPair::generate().unwrap();
        let client =
            CertificateParams::new(["client".to_owned()]).unwrap().signed_by(&client_key, &issuer).unwrap();
        Self { ca, own, key, client, client_key }
    }

    /// Speaks TLS as the server, and offers these protocols.
    pub fn acceptor(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let key = rustls::pki_types::PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.own.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(tls).into()
    }
}
