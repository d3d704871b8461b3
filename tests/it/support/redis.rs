//! A real Redis.

use std::{path::Path, pin::Pin, process::Command, time::Duration};

use rota::redis::RedisOptions;

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::OnceCell,
};

use super::process::{Process, find_program, free_port};

/// A store on the server at `url` that waits for a machine that is busy with other tests.
pub fn patient(url: impl Into<String>) -> RedisOptions {
    RedisOptions { command_timeout: Duration::from_secs(5), ..RedisOptions::new(url) }
}

/// A Redis server of its own, without persistence: killed, it forgets everything.
pub struct Redis {
    port: u16,
    process: Process,
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// The same with these variables in its environment.
    pub async fn start_with(env: Vec<(String, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, process) = start_in(folder.path(), &[], &env).await;
        Self { port, process, folder, env }
    }

    /// The one that the tests of this process share. Whoever kills or floods a Redis starts its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, for `--redis-url`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it as a crash would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Stops it and starts an empty one on the same port.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.process = run(self.port, self.folder.path(), &[], &self.env)
            .await
            .unwrap_or_else(|log| panic!("no restart:\n{log}"));
    }

    /// Stops it in its tracks: it accepts, and never answers.
    pub fn hang(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// The answer to one command. Arrays come as a line an element, nil as an empty text; an error fails the test.
    pub async fn command(&self, words: &[&str]) -> String {
        command(self.port, words).await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// Every key and value as text, raw: what a search for a secret has to look through.
    pub async fn everything(&self) -> String {
        let mut texts = Vec::new();
        for key in self.command(&["KEYS", "*"]).await.lines() {
            let read: &[&str] = match self.command(&["TYPE", key]).await.as_str() {
                "string" => &["GET", key],
                "hash" => &["HGETALL", key],
                "zset" => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
                "set" => &["SMEMBERS", key],
                "list" => &["LRANGE", key, "0", "-1"],
                // It may have expired between the two commands.
                "none" => continue,
                other => panic!("{key} is of type {other}: teach this helper to read it"),
            };
            texts.push(format!("{key}\n{}\n", self.command(read).await));
        }
        texts.concat()
    }
}

/// Starts a server with these settings on a free port of 127.0.0.1, its data in `folder`.
pub async fn start(folder: &Path, settings: &[&str]) -> (u16, Process) {
    start_in(folder, settings, &[]).await
}

async fn start_in(folder: &Path, settings: &[&str], env: &[(String, String)]) -> (u16, Process) {
    // A free port may be taken by another test before Redis has it.
    let mut failure = String::new();
    for _ in 0..5 {
        let port = free_port();
        match run(port, folder, settings, env).await {
            Ok(process) => return (port, process),
            Err(log) => failure = log,
        }
    }
    panic!("redis-server does not start:\n{failure}");
}

async fn run(
    port: u16,
    folder: &Path,
    settings: &[&str],
    env: &[(String, String)],
) -> Result<Process, String> {
    // The log of a run before says that it is ready.
    let _ = std::fs::remove_file(folder.join("log"));
    let port = port.to_string();
    let mut command = program();
    // With TLS it is the only port.
    let encrypted = settings.contains(&"--tls-cert-file");
    command.args(if encrypted { vec!["--port", "0", "--tls-port", &port] } else { vec!["--port", &port] });
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(settings).arg("--dir").arg(folder).envs(env.iter().cloned());
    let mut process = Process::start(command, folder, "KILL");
    process.wait_for_line(|line| line.contains("Ready to accept connections").then_some(())).await?;
    Ok(process)
}

/// redis-server.
pub fn program() -> Command {
    Command::new(find_program("redis-server", &[]).expect(
        "redis-server is missing. Run: apt-get install -y redis-server   (macOS: brew install redis)",
    ))
}

/// The answer to one command of the server on that port. Arrays come as a line an element, nil as an empty text.
pub async fn command(port: u16, words: &[&str]) -> Result<String, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let mut stream = BufReader::new(stream);
    let request: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    let request = format!("*{}\r\n{request}", words.len());
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    read_reply(&mut stream).await.map_err(|why| format!("Redis on {port} says to {words:?}: {why}"))
}

type Stream = BufReader<TcpStream>;

/// One reply of the Redis protocol, version 2 (redis.io/docs/latest/develop/reference/protocol-spec).
fn read_reply(stream: &mut Stream) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
    Box::pin(async move {
        let mut line = String::new();
        stream.read_line(&mut line).await.map_err(|error| error.to_string())?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or("it closed the connection")?;
        match kind {
            "+" | ":" => Ok(rest.to_owned()),
            "$" => {
                let Ok(length) = rest.parse::<usize>() else { return Ok(String::new()) };
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes).await.map_err(|error| error.to_string())?;
                Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
            "*" => {
                let mut lines = Vec::new();
                for _ in 0..rest.parse::<usize>().unwrap_or(0) {
                    lines.push(read_reply(stream).await?);
                }
                Ok(lines.join("\n"))
            }
            _ => Err(line.to_owned()),
        }
    })
}

#[tokio::test]
async fn redis_starts_answers_and_restarts_empty() {
    let mut redis = Redis::start().await;
    assert_eq!(redis.command(&["PING"]).await, "PONG");
    assert_eq!(redis.command(&["HSET", "h", "secret", "two\r\nlines"]).await, "1");
    assert_eq!(redis.command(&["MGET", "absent", "other"]).await, "\n");
    assert_eq!(redis.everything().await, "h\nsecret\ntwo\r\nlines\n");

    redis.kill9();
    assert!(TcpStream::connect(("127.0.0.1", redis.port)).await.is_err());
    let url = redis.url();
    redis.restart().await;
    assert_eq!(redis.url(), url);
    assert_eq!(redis.command(&["DBSIZE"]).await, "0");
}

#[tokio::test]
async fn the_shared_redis_is_one() {
    let first = Redis::shared().await;
    first.command(&["SET", "from", "first"]).await;
    assert_eq!(Redis::shared().await.command(&["GET", "from"]).await, "first");
    first.command(&["DEL", "from"]).await;
}
