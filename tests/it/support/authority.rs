//! A certificate authority of a test's own, and a server's certificate for 127.0.0.1 under it.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
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
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let client_key = KeyPair::generate().unwrap();
        let client =
            CertificateParams::new(["client".to_owned()]).unwrap().signed_by(&client_key, &issuer).unwrap();
        Self { ca, own, key, client, client_key }
    }
}
