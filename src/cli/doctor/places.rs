//! Checks the places that Rota uses: its data directory, Redis, the collector and the providers.

use super::{
    report::Report,
    shared::{LIMIT, clock, open_to_others},
};
use crate::{
    catalog::DatabaseFacts,
    provider::{Networks, Reach, Refused, Unreachable, check_url, probe},
    redis::{RedisFacts, RedisOptions},
    settings::Settings,
    state::RedisStore,
};
use futures::StreamExt;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

/// Below this much free space, in bytes, there is a warning.
const LITTLE_SPACE: u64 = 256 << 20;
/// Providers asked at once.
const AT_ONCE: usize = 16;
/// How long asking all providers may take.
const ALL_PROVIDERS: Duration = Duration::from_secs(30);

/// Whether the data directory can be used.
pub(super) fn data_directory(settings: &Settings, report: &mut Report) {
    const NAME: &str = "data directory";
    let path = &settings.data_dir;
    let shown = path.display();
    if !settings.embedded {
        return report.ok(NAME, "not used: configuration lies in PostgreSQL");
    }
    if !path.exists() {
        let found = format!("{shown} is not there yet");
        return report.warning(NAME, found, "`rota serve` makes it at its first start");
    }
    // It has no name, and is gone when it is closed.
    if let Err(error) = tempfile::tempfile_in(path) {
        let found = format!("{shown}: {}", error.kind());
        return report.failure(NAME, found, "let the user that runs rota write there, or set --data-dir");
    }
    if let Some((_, mode)) = open_to_others(path) {
        let found = format!("others may look into {shown}: mode {mode:o}");
        report.warning(NAME, found, format!("chmod 700 {shown}"));
    } else {
        report.ok(NAME, format!("{shown}, writable"));
    }
    if let Ok(space) = rustix::fs::statvfs(path) {
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let found = format!("{} MiB free", free >> 20);
        if free < LITTLE_SPACE {
            report.warning("free space", found, format!("make room on the file system of {shown}"));
        } else {
            report.ok("free space", found);
        }
    }
}

/// Whether Redis can be used.
pub(super) async fn redis(settings: &Settings) -> Report {
    let mut report = Report::default();
    let Some(options) = &settings.redis else {
        report.ok("redis", "not set: state lies in the process");
        return report;
    };
    let facts = match RedisFacts::of(options, LIMIT.max(options.command_timeout)).await {
        Ok(facts) => facts,
        Err(error) => {
            report.failure("redis", error.to_string(), "start it, or correct --redis-url");
            return report;
        }
    };
    let versions = facts.versions.join(", ");
    if facts.replica {
        let found = format!("Redis {versions}, a replica, which takes no writes");
        report.failure("redis", found, "give the primary's address in --redis-url");
    } else {
        report.ok("redis", format!("Redis {versions}"));
    }
    match (facts.primaries, facts.uncovered) {
        (Some(primaries), 0) => report.ok("redis slots", format!("{primaries} primaries hold all")),
        (Some(_), missing) => {
            let found = format!("{missing} slots are held by no primary");
            report.failure("redis slots", found, "redis-cli --cluster fix HOST:PORT");
        }
        (None, _) => {}
    }
    if facts.policies.is_empty() {
        let next = "let rota's user call INFO";
        report.warning("redis memory", "it does not say what it does when memory is full", next);
    } else if facts.policies.iter().all(|policy| policy == "noeviction") {
        report.ok("redis memory", "noeviction");
    } else {
        let found = format!("{}: cooldowns may be dropped when memory is full", facts.policies.join(", "));
        report.warning("redis memory", found, "redis-cli CONFIG SET maxmemory-policy noeviction");
    }
    let median = facts.pings.get(facts.pings.len() / 2).copied().unwrap_or_default();
    let most = facts.pings.last().copied().unwrap_or_default();
    let found = format!(
        "median {:.2} ms, at most {:.2} ms of {} pings",
        median.as_secs_f64() * 1e3,
        most.as_secs_f64() * 1e3,
        facts.pings.len()
    );
    if most * 2 > options.command_timeout {
        report.warning("redis latency", found, "bring Redis nearer, or raise --redis-timeout");
    } else {
        report.ok("redis latency", found);
    }
    if let Some(ahead) = facts.ahead {
        clock(&mut report, "redis clock", ahead);
    }
    if !facts.replica {
        permissions(options, &mut report).await;
    }
    report
}

/// Whether Redis lets its user run what Rota needs.
async fn permissions(options: &RedisOptions, report: &mut Report) {
    const NAME: &str = "redis permissions";
    let next = "give rota's user the commands, keys and channels of deploy/redis/users.acl";
    let asked = async {
        let store = RedisStore::connect(options).await?;
        store.probe().await?;
        store.change_feed().try_out(options).await
    };
    match timeout(2 * LIMIT.max(options.command_timeout), asked).await {
        Ok(Ok(())) => report.ok(NAME, "all that is needed"),
        Ok(Err(error)) if error.is_refusal() => report.failure(NAME, error.to_string(), next),
        Ok(Err(error)) => report.warning(NAME, error.to_string(), "see Redis"),
        Err(_) => report.warning(NAME, "not told in time", "see Redis"),
    }
}

/// Whether the collector of traces takes connections, where there is one. Calls go on without.
pub(super) async fn collector(settings: &Settings, report: &mut Report) {
    const NAME: &str = "trace collector";
    let Some(url) = settings.traces.as_ref().and_then(|traces| Url::parse(&traces.endpoint).ok()) else {
        return;
    };
    let next = "start it, or correct --otlp-endpoint; calls are served without";
    match timeout(LIMIT, probe(&url, None, LIMIT)).await {
        Ok(Ok(address)) => report.ok(NAME, format!("{address} takes connections")),
        Ok(Err(error)) => report.warning(NAME, error.to_string(), next),
        Err(_) => report.warning(NAME, "no connection in time", next),
    }
}

/// Whether each address that tenants configured takes a connection, once an origin.
pub(super) async fn providers(settings: &Settings, facts: &DatabaseFacts, report: &mut Report) {
    let Ok(Ok(addresses)) = timeout(LIMIT, facts.addresses()).await else {
        return report.failure("providers", "their addresses cannot be read", "see the database");
    };
    let networks = settings.upstream.networks;
    let reach = &Reach { networks, reserved: settings.upstream.reserved.clone() };
    let mut origins: BTreeMap<String, (Url, String)> = BTreeMap::new();
    for address in addresses {
        let who = format!("{}/{}", address.tenant, address.provider);
        let Ok(url) = Url::parse(&address.url) else { continue };
        // Scheme, host and port: nothing secret can stand there.
        let origin = format!("provider {}", url.origin().ascii_serialization());
        origins.entry(origin).or_insert((url, who));
    }
    origins.retain(|origin, (url, who)| match check_url(url.as_str(), networks) {
        Ok(_) => true,
        Err(why) => {
            let may_be_allowed = check_url(url.as_str(), Networks::Private).is_ok();
            report.failure(origin, format!("{why} (of {who})"), elsewhere(may_be_allowed));
            false
        }
    });
    let proxies = &settings.upstream.proxies;
    for url in proxies.addresses() {
        let name = format!("proxy {}", url.origin().ascii_serialization());
        match timeout(LIMIT, probe(&url, None, LIMIT)).await {
            Ok(Ok(_)) => report.ok(name, "takes connections; it reaches the providers"),
            _ => report.failure(name, "takes no connection", "start it, or correct --upstream-proxy"),
        }
    }
    if origins.is_empty() {
        return report.ok("providers", "none to be reached");
    }
    origins.retain(|_, (url, _)| !proxies.lead_to(url));
    let end = Instant::now() + ALL_PROVIDERS;
    let asked = futures::stream::iter(origins).map(|(origin, (url, who))| async move {
        let limit = end.min(Instant::now() + LIMIT);
        (origin, who, timeout_at(limit, probe(&url, Some(reach), LIMIT)).await)
    });
    let mut asked = asked.buffered(AT_ONCE);
    while let Some((origin, who, outcome)) = asked.next().await {
        match outcome {
            Ok(Ok(address)) => report.ok(origin, format!("{address} takes connections")),
            Ok(Err(error)) => {
                let next = match error {
                    Unreachable::Refused(why) => {
                        elsewhere(networks == Networks::Public && why != Refused::OWN)
                    }
                    _ => {
                        "see that it runs and that no firewall is between, or UpdateProvider with another base_url"
                    }
                };
                report.failure(origin, format!("{error} (of {who})"), next);
            }
            Err(_) => {
                let next = "see that no firewall is between, or UpdateProvider with another base_url";
                report.failure(origin, format!("no connection in time (of {who})"), next);
            }
        }
    }
}

/// What helps where an address is forbidden.
fn elsewhere(may_be_allowed: bool) -> &'static str {
    if may_be_allowed {
        "UpdateProvider with another base_url, or --upstream-networks private"
    } else {
        "UpdateProvider with another base_url: no setting allows this one"
    }
}
