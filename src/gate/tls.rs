//! TLS on a port. Its files are read again while serving, so a certificate is renewed without a restart.

use crate::tasks::{Task, Tasks};
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use secrecy::{ExposeSecret, SecretSlice};
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{fs, sync::watch, time::sleep};
use tokio_rustls::TlsAcceptor;

/// How often the files are read.
const LOOK: Duration = Duration::from_secs(10);

/// The files that TLS is served with, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate, and the certificates that lead from it to an authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates. `None` asks clients for no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be served with those files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(String, io::Error),
    /// A file does not hold what it should.
    #[error("{0}")]
    Pem(#[from] pem::Error),
    /// The certificate and the key do not go together.
    #[error("{0}")]
    Pair(#[from] rustls::Error),
    /// These authorities cannot tell any client.
    #[error("{0}")]
    ClientCa(#[from] VerifierBuilderError),
}

impl Tls {
    /// What handshakes use: always the files as they were when they last could be used.
    pub(super) async fn follow(self, tasks: &Tasks) -> Result<watch::Receiver<Acceptors>, TlsError> {
        let seen = self.read().await?;
        let (serve, served) = watch::channel(seen.acceptors()?);
        let reload = Arc::new(Reload { files: self, seen: Mutex::new(seen), serve });
        tasks.spawn_endless(Task::TlsReload, move || reload.clone().run());
        Ok(served)
    }

    async fn read(&self) -> Result<Files, TlsError> {
        let client_ca = match &self.client_ca {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        Ok(Files {
            certificate: read(&self.certificate).await?,
            key: read(&self.key).await?.into(),
            client_ca,
        })
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, TlsError> {
    fs::read(path).await.map_err(|error| TlsError::File(path.display().to_string(), error))
}

/// Reads the files again, in a task.
struct Reload {
    files: Tls,
    seen: Mutex<Files>,
    serve: watch::Sender<Acceptors>,
}

impl Reload {
    async fn run(self: Arc<Self>) {
        loop {
            sleep(LOOK).await;
            // A file that is away for a moment is being replaced.
            let Ok(found) = self.files.read().await else { continue };
            if found.is(&self.seen.lock()) {
                continue;
            }
            // Once for each state of the files: certificate and key may be replaced one after the other.
            match found.acceptors() {
                Ok(acceptors) => {
                    let _ = self.serve.send(acceptors);
                    tracing::info!("the TLS files have changed: new connections are served with them");
                }
                Err(error) => {
                    tracing::warn!(%error, "the TLS files have changed and cannot be used: the old ones serve on");
                }
            }
            *self.seen.lock() = found;
        }
    }
}

/// What the files hold.
struct Files {
    certificate: Vec<u8>,
    key: SecretSlice<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    fn is(&self, other: &Self) -> bool {
        self.certificate == other.certificate
            && self.key.expose_secret() == other.key.expose_secret()
            && self.client_ca == other.client_ca
    }

    fn acceptors(&self) -> Result<Acceptors, TlsError> {
        let builder = ServerConfig::builder();
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(ca)? {
                    roots.add(certificate)?;
                }
                builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build()?)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret())?;
        let mut http2 = builder.with_single_cert(certificates(&self.certificate)?, key)?;
        http2.alpn_protocols.push(b"h2".to_vec());
        let mut any = http2.clone();
        any.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Acceptors { http2: Arc::new(http2).into(), any: Arc::new(any).into() })
    }
}

/// What handshakes use: the same files, for each set of versions.
#[derive(Clone)]
pub(super) struct Acceptors {
    http2: TlsAcceptor,
    any: TlsAcceptor,
}

impl Acceptors {
    pub(super) fn of(&self, versions: Versions) -> &TlsAcceptor {
        match versions {
            Versions::Http2 => &self.http2,
            Versions::Any => &self.any,
        }
    }
}

/// The versions of HTTP that a door speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/2 alone, as gRPC has it.
    Http2,
    /// HTTP/1.1 and HTTP/2.
    Any,
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}
