//! The settings of how gRPC is served.

use super::{
    RawSettings,
    values::{Problems, given_path, read, size, time},
};
use crate::{
    api::ServerOptions,
    gate::{CallLimits, Tls},
};
use std::time::Duration;

/// Far beyond what a process has descriptors for.
const MOST_CONNECTIONS: usize = 1_000_000;

/// The connections, with the defaults filled in.
pub(super) fn resolve(raw: &mut RawSettings, problems: &mut Problems) -> ServerOptions {
    let streams_per_connection = raw.max_calls_per_connection.unwrap_or(1000);
    if streams_per_connection == 0 {
        problems.add("max-calls-per-connection", "must not be 0");
    }
    let max_message_size = size("max-message-size", raw.max_message_size.take(), 32 << 20, problems);
    let [certificate, key, client_ca] =
        [raw.tls_cert.take(), raw.tls_key.take(), raw.tls_client_ca.take()].map(given_path);
    match [certificate.is_some(), key.is_some(), client_ca.is_some()] {
        [true, false, _] => problems.add("tls-key", "goes with --tls-cert"),
        [false, true, _] => problems.add("tls-cert", "goes with --tls-key"),
        [false, false, true] => problems.add("tls-cert", "and --tls-key go with --tls-client-ca"),
        _ => {}
    }
    for (setting, path) in [("tls-cert", &certificate), ("tls-key", &key), ("tls-client-ca", &client_ca)] {
        // They are read again when they are used. A file that cannot be read is a problem like the others.
        if let Some(path) = path {
            drop(read(setting, path, problems));
        }
    }
    let tls = certificate.zip(key).map(|(certificate, key)| Tls { certificate, key, client_ca });
    let max_connections = raw.max_connections.unwrap_or(10_000);
    if max_connections == 0 || max_connections > MOST_CONNECTIONS {
        problems.add("max-connections", "is a number from 1 to 1000000");
    }
    let max_connection_age =
        time("max-connection-age", raw.max_connection_age.take(), Duration::from_mins(10), problems);
    ServerOptions { max_message_size, max_connections, max_connection_age, streams_per_connection, tls }
}

/// How many calls are served, with the defaults filled in.
pub(super) fn limits(raw: &mut RawSettings, problems: &mut Problems) -> CallLimits {
    let max_calls = raw.max_calls.unwrap_or(10_000);
    if max_calls == 0 {
        problems.add("max-calls", "must not be 0");
    }
    let tenant_calls_per_second = raw.tenant_calls_per_second.unwrap_or_default();
    if tenant_calls_per_second > 1_000_000 {
        problems.add("tenant-calls-per-second", "is at most 1000000");
    }
    let tenant_max_calls = raw.tenant_max_calls.unwrap_or_default();
    let receive_timeout =
        time("receive-timeout", raw.receive_timeout.take(), Duration::from_secs(60), problems);
    CallLimits { max_calls, tenant_max_calls, tenant_calls_per_second, receive_timeout }
}
