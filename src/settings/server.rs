//! The settings of how gRPC is served.

use super::{Problem, RawSettings, read, size, time};
use crate::{
    api::ServerOptions,
    gate::{CallLimits, Tls},
};
use std::time::Duration;

/// Far beyond what a process has descriptors for.
const MOST_CONNECTIONS: usize = 1_000_000;

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
    for (setting, path) in [("tls-cert", &certificate), ("tls-key", &key), ("tls-client-ca", &client_ca)] {
        // Read again when they are used; what cannot be read now is told with the other problems.
        if let Some(path) = path {
            drop(read(setting, path, problem));
        }
    }
    let tls = certificate.zip(key).map(|(certificate, key)| Tls { certificate, key, client_ca });
    let max_connections = raw.max_connections.unwrap_or(10_000);
    if max_connections == 0 || max_connections > MOST_CONNECTIONS {
        problem("max-connections", "is a number from 1 to 1000000");
    }
    ServerOptions { max_message_size, max_connections, streams_per_connection, tls }
}

/// Checks how many calls may be served, and fills in the defaults.
pub(super) fn limits(raw: &mut RawSettings, problem: Problem<'_>) -> CallLimits {
    let max_calls = raw.max_calls.unwrap_or(10_000);
    if max_calls == 0 {
        problem("max-calls", "must not be 0");
    }
    let tenant_calls_per_second = raw.tenant_calls_per_second.unwrap_or_default();
    if tenant_calls_per_second > 1_000_000 {
        problem("tenant-calls-per-second", "is at most 1000000");
    }
    let tenant_max_calls = raw.tenant_max_calls.unwrap_or_default();
    let receive_timeout =
        time("receive-timeout", raw.receive_timeout.take(), Duration::from_secs(60), problem);
    CallLimits { max_calls, tenant_max_calls, tenant_calls_per_second, receive_timeout }
}
