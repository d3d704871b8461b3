//! The settings of how gRPC and HTTP are served.

use super::{
    RawSettings,
    values::{Problems, given_path, read, size, time},
};
use crate::{
    api::{DoorOptions, ServerOptions},
    gate::{Bound, CallLimits, Tls},
    http::{AllowedHosts, DoorOptions as HttpOptions},
};
use std::time::Duration;

/// Far beyond what a process has descriptors for.
const MOST_CONNECTIONS: usize = 1_000_000;

/// What the largest message is, unless that is set, in bytes.
const MESSAGE: usize = 32 << 20;
/// What requests take together, unless that is set: this much, or so many of the largest messages.
const REQUESTS: (usize, usize) = (256 << 20, 8);

/// The connections, with the defaults filled in.
pub(super) fn resolve(
    raw: &mut RawSettings,
    default_deadline: Duration,
    problems: &mut Problems,
) -> ServerOptions {
    let streams_per_connection = raw.max_calls_per_connection.unwrap_or(1000);
    if streams_per_connection == 0 {
        problems.add("max-calls-per-connection", "must not be 0");
    }
    let max_message_size = size("max-message-size", raw.max_message_size.clone(), MESSAGE, problems);
    let send_timeout = time("send-timeout", raw.send_timeout.take(), Duration::from_secs(60), problems);
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
    let max_connections = connections(raw, problems);
    let max_strangers = raw.max_connections_without_token.unwrap_or(500);
    if max_strangers == 0 || max_strangers > MOST_CONNECTIONS {
        problems.add("max-connections-without-token", "is a number from 1 to 1000000");
    }
    let max_connection_age =
        time("max-connection-age", raw.max_connection_age.take(), Duration::from_mins(10), problems);
    let door = DoorOptions { max_message_size, send_timeout, default_deadline };
    ServerOptions { door, max_strangers, max_connections, max_connection_age, streams_per_connection, tls }
}

/// How vendors' protocols are served over HTTP: as gRPC is, where they have the same settings.
pub(super) fn http(raw: &mut RawSettings, grpc: &DoorOptions, problems: &mut Problems) -> HttpOptions {
    let allowed = raw.allowed_hosts.take().unwrap_or_default();
    let allowed_hosts = AllowedHosts::read(&allowed).unwrap_or_else(|entry| {
        problems.add("allowed-hosts", &format!("{entry} is no name of a host"));
        AllowedHosts::default()
    });
    let DoorOptions { max_message_size, send_timeout, default_deadline } = *grpc;
    HttpOptions { max_body: max_message_size, send_timeout, default_deadline, allowed_hosts }
}

fn connections(raw: &RawSettings, problems: &mut Problems) -> usize {
    let max_connections = raw.max_connections.unwrap_or(10_000);
    if max_connections == 0 || max_connections > MOST_CONNECTIONS {
        problems.add("max-connections", "is a number from 1 to 1000000");
    }
    max_connections
}

/// How many pools one tenant may watch at once.
pub(super) fn watches(raw: &RawSettings, problems: &mut Problems) -> usize {
    let watches = raw.tenant_max_watches.unwrap_or(500);
    if watches == 0 {
        problems.add("tenant-max-watches", "must not be 0");
    }
    watches
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
    let receive_timeout =
        time("receive-timeout", raw.receive_timeout.take(), Duration::from_secs(60), problems);
    // A problem with it is told where it is resolved.
    let largest = size("max-message-size", raw.max_message_size.clone(), MESSAGE, &mut Problems::default());
    let (least, times) = REQUESTS;
    let default = largest.saturating_mul(times).max(least);
    let most = size("max-request-bytes", raw.max_request_bytes.take(), default, problems);
    if most < largest.saturating_mul(2) {
        problems.add("max-request-bytes", "is at least twice --max-message-size");
    }
    CallLimits {
        calls: Bound { most: max_calls, each: raw.tenant_max_calls },
        tenant_calls_per_second,
        request_bytes: Bound { most, each: None },
        connections: Bound { most: connections(raw, &mut Problems::default()), each: None },
        receive_timeout,
    }
}
