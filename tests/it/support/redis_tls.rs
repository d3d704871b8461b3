//! A real Redis that speaks TLS alone, under an authority of its own.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::{authority::Authority, process::Process, redis::start};

/// See the module's documentation.
pub struct RedisTls {
    port: u16,
    _process: Process,
    folder: TempDir,
}

impl RedisTls {
    /// Starts one and waits until it is ready.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let Authority { ca, own, key, .. } = Authority::new();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let (ca, own, key) =
            (file("ca.pem", ca.pem()), file("own.pem", own.pem()), file("key.pem", key.serialize_pem()));
        let settings = [
            ["--tls-cert-file", &own],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &ca],
            ["--tls-auth-clients", "no"],
        ];
        let (port, process) = start(folder.path(), &settings.concat()).await;
        Self { port, _process: process, folder }
    }

    /// Its address, for `--redis-url`.
    pub fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    /// The authority's certificate, for `--redis-ca`.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}
