//! What can be told of Redis without serving from it, for `rota doctor`. Writes nothing.

use super::{
    connect::{Connection, RedisOptions},
    error::Result,
};
use fred::{
    clients::WithOptions,
    interfaces::{ClientLike, ClusterInterface},
    prelude::{Client, FromValue},
    types::{ClusterHash, CustomCommand, Value},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep};

/// How often each primary is pinged.
const PINGS: usize = 20;
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(50);
/// The slots of a Cluster.
const SLOTS: u32 = 16384;

/// A Redis that was reached: one server, or the primaries of a Cluster.
#[derive(Debug, Clone, Default)]
pub struct RedisFacts {
    /// The versions of the servers, each once.
    pub versions: Vec<String>,
    /// What they do when their memory is full, each once; empty where they do not say.
    pub policies: Vec<String>,
    /// How many primaries a Cluster has; none: it is no Cluster.
    pub primaries: Option<usize>,
    /// How many slots of a Cluster no primary holds.
    pub uncovered: u32,
    /// Whether one of them is a replica, which takes no writes.
    pub replica: bool,
    /// How long pings took, in order.
    pub pings: Vec<Duration>,
    /// How far the clock of the first one is ahead of ours, in milliseconds. None where it does not say.
    pub ahead: Option<i64>,
}

impl RedisFacts {
    /// Connects and asks.
    ///
    /// # Errors
    /// Where the URL is malformed or a server does not answer within `limit`. The text holds no password.
    pub async fn of(options: &RedisOptions, limit: Duration) -> Result<Self> {
        let connection = Connection::open(options)?;
        connection.within(limit, Self::ask(&connection)).await?
    }

    async fn ask(connection: &Connection) -> Result<Self> {
        let client = connection.client();
        // The connection is made in the background.
        while let Err(error) = said::<Value>(&client, "PING", 0).await {
            tracing::debug!(%error, "Redis does not answer yet");
            connection.renew_if_ended();
            sleep(PAUSE).await;
        }
        let mut facts = Self::default();
        let mut primaries = BTreeMap::from([(None, 0)]);
        if let Some(cluster) = client.cached_cluster_state() {
            let held = cluster.slots().iter().map(|range| u32::from(range.end - range.start) + 1).sum();
            facts.uncovered = SLOTS.saturating_sub(held);
            primaries =
                cluster.slots().iter().map(|range| (Some(range.primary.clone()), range.start)).collect();
            facts.primaries = Some(primaries.len());
        }
        let (mut versions, mut policies) = (BTreeSet::new(), BTreeSet::new());
        for (place, &slot) in primaries.values().enumerate() {
            for _ in 0..PINGS {
                let began = Instant::now();
                said::<Value>(&client, "PING", slot).await?;
                facts.pings.push(began.elapsed());
            }
            // Some do not tell everybody; the rest is worth having without.
            let info: String = said(&client, "INFO", slot).await.unwrap_or_default();
            let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            versions.extend(value("redis_version:"));
            policies.extend(value("maxmemory_policy:"));
            facts.replica |= value("role:").is_some_and(|role| role == "slave");
            if place == 0 {
                facts.ahead = ahead(&client, slot).await.ok();
            }
        }
        facts.versions.extend(versions);
        facts.policies.extend(policies);
        facts.pings.sort_unstable();
        Ok(facts)
    }
}

/// How far the clock of the server with that slot is ahead of ours, in milliseconds.
async fn ahead(client: &WithOptions<Client>, slot: u16) -> Result<i64> {
    let before = now();
    let (seconds, micros): (i64, i64) = said(client, "TIME", slot).await?;
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000) - i64::midpoint(before, now()))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The answer of the server with that slot, or of the only one.
async fn said<T: FromValue>(client: &WithOptions<Client>, command: &'static str, slot: u16) -> Result<T> {
    let command = CustomCommand::new_static(command, ClusterHash::Custom(slot), false);
    Ok(client.custom(command, Vec::<Value>::new()).await?)
}
