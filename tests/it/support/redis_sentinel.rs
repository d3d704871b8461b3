//! A real Redis primary with two replicas, watched by three Sentinels.

use std::{fs, time::Duration};

use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    eventually,
    process::{Process, free_port},
    redis::{command, program, start},
};

const NAME: &str = "rota-state";
/// What setting up and failing over may take on a busy machine.
const LONG: Duration = Duration::from_secs(90);

struct Node {
    port: u16,
    process: Process,
    _folder: TempDir,
}

/// See the module's documentation.
pub struct RedisSentinel {
    primary: Node,
    replicas: Vec<Node>,
    sentinels: Vec<Node>,
}

impl RedisSentinel {
    /// Starts all and waits until the Sentinels know everybody.
    pub async fn start() -> Self {
        let primary = server(&[]).await;
        let port = primary.port.to_string();
        let mut replicas = Vec::new();
        for _ in 0..2 {
            replicas.push(server(&["--replicaof", "127.0.0.1", &port]).await);
        }
        for replica in &replicas {
            eventually(LONG, async || {
                let replication = command(replica.port, &["INFO", "replication"]).await?;
                let linked = replication.contains("master_link_status:up");
                if linked { Ok(()) } else { Err(replication) }
            })
            .await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(sentinel(primary.port).await);
        }
        for sentinel in &sentinels {
            eventually(LONG, async || {
                let seen = command(sentinel.port, &["SENTINEL", "MASTER", NAME]).await?;
                let known = seen.contains("num-slaves\n2\n") && seen.contains("num-other-sentinels\n2\n");
                if known { command(sentinel.port, &["SENTINEL", "CKQUORUM", NAME]).await } else { Err(seen) }
            })
            .await;
        }
        Self { primary, replicas, sentinels }
    }

    /// Its address, for `--redis-url`.
    pub fn url(&self) -> String {
        let [first, second, third] = [0, 1, 2].map(|place| self.sentinels[place].port);
        format!(
            "redis-sentinel://127.0.0.1:{first}?sentinelServiceName={NAME}&node=127.0.0.1:{second}\
             &node=127.0.0.1:{third}"
        )
    }

    /// Kills the primary as a crash would, and returns when all Sentinels name another one and that one takes writes.
    pub async fn fail_over(&mut self) -> Instant {
        self.primary.process.kill9();
        self.promoted().await
    }

    /// The same with a primary that lives: returns when it has become a replica, some ten seconds later.
    pub async fn hand_over(&self) -> Instant {
        command(self.sentinels[0].port, &["SENTINEL", "FAILOVER", NAME]).await.unwrap();
        self.promoted().await;
        eventually(LONG, async || {
            let role = command(self.primary.port, &["ROLE"]).await?;
            if role.starts_with("slave") { Ok(()) } else { Err(role) }
        })
        .await;
        Instant::now()
    }

    async fn promoted(&self) -> Instant {
        eventually(LONG, async || {
            let mut named = Vec::new();
            for sentinel in &self.sentinels {
                let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
                named.push(command(sentinel.port, &ask).await?);
            }
            let new = self.replicas.iter().find(|node| named[0] == format!("127.0.0.1\n{}", node.port));
            let Some(new) = new else { return Err(format!("{named:?}")) };
            if named.iter().any(|other| *other != named[0]) {
                return Err(format!("{named:?}"));
            }
            command(new.port, &["SET", "written", "1"]).await
        })
        .await;
        Instant::now()
    }
}

async fn server(settings: &[&str]) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let settings = [settings, &["--repl-diskless-sync-delay", "0"]].concat();
    let (port, process) = start(folder.path(), &settings).await;
    Node { port, process, _folder: folder }
}

async fn sentinel(primary: u16) -> Node {
    let mut failure = String::new();
    for _ in 0..5 {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("sentinel.conf");
        let settings = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 5000\n",
            folder.path().display()
        );
        fs::write(&file, settings).unwrap();
        let mut command = program();
        command.arg(&file).arg("--sentinel");
        let mut process = Process::start(command, folder.path(), "KILL");
        match process.wait_for_line(|line| line.contains("+monitor").then_some(())).await {
            Ok(()) => return Node { port, process, _folder: folder },
            Err(log) => failure = log,
        }
    }
    panic!("the Sentinel does not start:\n{failure}");
}
