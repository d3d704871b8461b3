//! A real Redis Cluster: three primaries, and a replica of the first, which may die.

use std::time::Duration;

use futures::future::try_join_all;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    eventually,
    process::{Process, free_port},
    redis::{command, start},
};

/// What the primaries hold, by their places.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];
/// The replica's place.
const REPLICA: usize = 3;
/// What setting up and failing over may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Node {
    port: u16,
    bus: u16,
    process: Process,
    _folder: TempDir,
}

/// See the module's documentation.
pub struct RedisCluster {
    nodes: Vec<Node>,
}

impl RedisCluster {
    /// Starts one and waits until it serves every slot.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..=REPLICA {
            let (folder, bus) = (tempfile::tempdir().unwrap(), free_port());
            let bus_port = bus.to_string();
            let (port, process) = start(
                folder.path(),
                &[
                    ["--cluster-enabled", "yes"],
                    ["--cluster-port", &bus_port],
                    ["--cluster-node-timeout", "1000"],
                    ["--repl-diskless-sync-delay", "0"],
                ]
                .concat(),
            )
            .await;
            nodes.push(Node { port, bus, process, _folder: folder });
        }
        let cluster = Self { nodes };
        for place in 0..=REPLICA {
            cluster.command(place, &["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]).await.unwrap();
            if let Some((from, to)) = SLOTS.get(place) {
                let (from, to) = (from.to_string(), to.to_string());
                cluster.command(place, &["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await.unwrap();
            }
            let (port, bus) = (cluster.nodes[place].port.to_string(), cluster.nodes[place].bus.to_string());
            cluster.command(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await.unwrap();
        }
        let first = cluster.id(0).await;
        // Once it has heard of the first.
        eventually(LONG, async || cluster.command(REPLICA, &["CLUSTER", "REPLICATE", &first]).await).await;
        eventually(LONG, async || {
            cluster.serves(&[0, 1, 2, REPLICA]).await?;
            let replication = cluster.command(REPLICA, &["INFO", "replication"]).await?;
            let slots = cluster.command(1, &["CLUSTER", "NODES"]).await?;
            let linked =
                replication.contains("master_link_status:up") && slots.contains(&format!("slave {first}"));
            if linked { Ok(()) } else { Err(format!("{replication}\n{slots}")) }
        })
        .await;
        cluster
    }

    /// Leaves the slots of that range, which the primary at `place` holds, to nobody, and returns when all know it.
    pub async fn give_up_slots(&self, place: usize, from: u16, to: u16) {
        let (from, to) = (from.to_string(), to.to_string());
        for place in 0..=REPLICA {
            self.command(place, &["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await.unwrap();
        }
        let held = format!("-{to}");
        // Each forgets by itself; what the owner has said just before may bring it back.
        for node in [place].into_iter().chain((0..=REPLICA).filter(|&other| other != place)) {
            eventually(LONG, async || {
                let nodes = self.command(node, &["CLUSTER", "NODES"]).await?;
                if !nodes.lines().any(|line| line.ends_with(&held)) {
                    return Ok(());
                }
                self.command(node, &["CLUSTER", "DELSLOTSRANGE", &from, &to]).await?;
                Err(nodes)
            })
            .await;
        }
    }

    /// Its address, for `--redis-url`: the first node alone, the one that may die.
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.nodes[0].port)
    }

    /// The place of the primary that holds a key's slot.
    pub fn place_of(key: &str) -> usize {
        let slot = fred::util::redis_keyslot(key.as_bytes());
        SLOTS.iter().position(|(_, to)| slot <= *to).unwrap()
    }

    /// The answer of the node at that place.
    pub async fn command(&self, place: usize, words: &[&str]) -> Result<String, String> {
        command(self.nodes[place].port, words).await
    }

    /// What the node at that place is called among the nodes.
    pub async fn id(&self, place: usize) -> String {
        self.command(place, &["CLUSTER", "MYID"]).await.unwrap()
    }

    /// Sends a signal, such as `STOP`, to the node at that place.
    pub fn signal(&self, place: usize, name: &str) {
        self.nodes[place].process.signal(name);
    }

    /// How many keys of tenants each primary holds.
    pub async fn keys(&self) -> Vec<usize> {
        let keys = (0..SLOTS.len()).map(|place| self.command(place, &["KEYS", "rota:{*"]));
        try_join_all(keys).await.unwrap().iter().map(|keys| keys.lines().count()).collect()
    }

    /// Kills the first primary as a crash would, and returns when its replica has taken its place in all eyes.
    pub async fn fail_over(&mut self) -> Instant {
        self.nodes[0].process.kill9();
        let places = [1, 2, REPLICA];
        eventually(LONG, async || self.has_promoted(&places).await).await;
        Instant::now()
    }

    /// Lets the replica take the place of the first primary in good order.
    pub async fn hand_over(&self) {
        self.command(REPLICA, &["CLUSTER", "FAILOVER"]).await.unwrap();
        eventually(LONG, async || self.has_promoted(&[0, 1, 2, REPLICA]).await).await;
    }

    /// Whether the replica is a primary in the eyes of those nodes.
    async fn has_promoted(&self, places: &[usize]) -> Result<(), String> {
        self.serves(places).await?;
        let new = format!("127.0.0.1:{}@", self.nodes[REPLICA].port);
        for &place in places {
            let nodes = self.command(place, &["CLUSTER", "NODES"]).await?;
            if !nodes.lines().any(|line| line.contains(&new) && line.contains("master")) {
                return Err(nodes);
            }
        }
        Ok(())
    }

    /// Whether those nodes find every slot served and know all others.
    async fn serves(&self, places: &[usize]) -> Result<(), String> {
        for &place in places {
            let info = self.command(place, &["CLUSTER", "INFO"]).await?;
            if !info.contains("cluster_state:ok") || !info.contains("cluster_known_nodes:4") {
                return Err(info);
            }
        }
        Ok(())
    }
}
