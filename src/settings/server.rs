//! The settings of how gRPC is served.

use super::{Problem, RawSettings, read, size};
use crate::api::{ServerOptions, Tls};
use std::path::PathBuf;

/// Checks them and fills in the defaults.
pub(super) fn resolve(raw: &mut RawSettings, problem: Problem<'_>) -> ServerOptions {
    let streams_per_connection = raw.max_calls_per_connection.unwrap_or(1000);
    if streams_per_connection == 0 {
        problem("max-calls-per-connection", "must not be 0");
    }
    let max_message_size = size("max-message-size", raw.max_message_size.take(), 32 << 20, problem);
    let files = [&mut raw.tls_cert, &mut raw.tls_key, &mut raw.tls_client_ca];
    let [certificate, key, client_ca] =
        files.map(|file| file.take().filter(|file| !file.as_os_str().is_empty()));
    match [certificate.is_some(), key.is_some(), client_ca.is_some()] {
        [true, false, _] => problem("tls-key", "goes with --tls-cert"),
        [false, true, _] => problem("tls-cert", "goes with --tls-key"),
        [false, false, true] => problem("tls-cert", "and --tls-key go with --tls-client-ca"),
        _ => {}
    }
    let mut file = |setting: &str, path: Option<PathBuf>| read(setting, &path?, problem);
    let certificate = file("tls-cert", certificate);
    let key = file("tls-key", key);
    let client_ca = file("tls-client-ca", client_ca);
    let tls = certificate.zip(key).map(|(certificate, key)| Tls { certificate, key: key.into(), client_ca });
    ServerOptions { max_message_size, streams_per_connection, tls }
}
