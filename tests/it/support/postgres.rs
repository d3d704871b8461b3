//! A real PostgreSQL.
//!
//! It refuses to run as root, so a root harness runs it as the user `postgres`, or `nobody` where that is missing.

use std::{
    fmt::Write,
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    eventually,
    process::{Process, find_program, free_port},
};

/// A PostgreSQL server of its own, with the super user `postgres`, no password, and nothing synced to disk.
pub struct Postgres {
    port: u16,
    process: Process,
    folder: TempDir,
}

impl Postgres {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        // Not TMPDIR: the user it runs as must be able to reach the folder.
        let folder = tempfile::Builder::new().prefix("rota-postgres").tempdir_in("/tmp").unwrap();
        own(folder.path());
        let mut initdb = program("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        done(initdb.current_dir(folder.path()).arg("--pgdata").arg(folder.path().join("data")));
        // A free port may be taken by another test before PostgreSQL has it.
        let mut failure = String::new();
        for _ in 0..5 {
            let port = free_port();
            match run(port, &folder).await {
                Ok(process) => return Self { port, process, folder },
                Err(log) => failure = log,
            }
        }
        panic!("postgres does not start:\n{failure}");
    }

    /// Starts a standby that follows this one and takes no writes until it is [promoted](Self::promote).
    pub async fn standby(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("rota-standby").tempdir_in("/tmp").unwrap();
        own(folder.path());
        let mut backup = program("pg_basebackup");
        let port = self.port.to_string();
        backup.args(["--host=127.0.0.1", "--username=postgres", "--write-recovery-conf", "--no-sync"]);
        backup.args(["--checkpoint=fast", "--port", &port]).current_dir(folder.path());
        done(backup.arg("--pgdata").arg(folder.path().join("data")));
        let port = free_port();
        let process = run(port, &folder).await.unwrap_or_else(|log| panic!("no standby:\n{log}"));
        Self { port, process, folder }
    }

    /// Takes no more writes, hands over to that standby once it has everything, and goes on answering what it knows: as the
    /// old primary of a managed database does.
    pub async fn hand_over_to(&self, standby: &Self) {
        let here = self.url("postgres");
        self.sql(&here, "ALTER SYSTEM SET default_transaction_read_only = on");
        self.sql(&here, "SELECT pg_reload_conf()");
        // Those that are at it may still write.
        let busy =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rota' AND state <> 'idle'";
        eventually(Duration::from_secs(10), async || match self.sql(&here, busy).as_str() {
            "0" => Ok(()),
            count => Err(format!("{count} transactions are open")),
        })
        .await;
        let end = self.sql(&here, "SELECT pg_current_wal_flush_lsn()");
        let there = standby.url("postgres");
        let ask = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn");
        eventually(Duration::from_secs(10), async || match standby.sql(&there, &ask).as_str() {
            "t" => Ok(()),
            _ => Err("the standby lags behind".to_owned()),
        })
        .await;
        assert_eq!(standby.sql(&there, "SELECT pg_promote()"), "t");
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The one that the tests of this process share, each with its [`fresh_database`](Self::fresh_database). Whoever
    /// stops a PostgreSQL starts its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Makes an empty database and returns its address, for `--database-url`.
    pub fn fresh_database(&self) -> String {
        let name = format!("rota_{}", Uuid::new_v4().simple());
        self.sql(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// What `statements` answer in the database at `url`: a line a row, `|` between columns.
    pub fn sql(&self, url: &str, statements: &str) -> String {
        let mut psql = program("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        let output = done(psql.current_dir(self.folder.path()).args(["--command", statements, url]));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Whether `text` stands anywhere in the database at `url`, in a text or in the bytes of a binary column.
    pub fn holds(&self, url: &str, text: &str) -> bool {
        !self.found(url, &[text.to_owned()]).is_empty()
    }

    /// Those of `texts` that stand anywhere in the database at `url`, in a text or in the bytes of a binary column.
    pub fn found(&self, url: &str, texts: &[String]) -> Vec<String> {
        let mut dump = program("pg_dump");
        let output = done(dump.current_dir(self.folder.path()).args(["--inserts", url]));
        let dump = String::from_utf8_lossy(&output.stdout).into_owned();
        // A dump writes binary columns in hexadecimal.
        let hexadecimal = |text: &str| {
            text.bytes().fold(String::new(), |mut all, byte| {
                write!(all, "{byte:02x}").unwrap();
                all
            })
        };
        let stands = |text: &&String| dump.contains(*text) || dump.contains(&hexadecimal(text));
        texts.iter().filter(stands).cloned().collect()
    }

    /// Brings what stands in the database at `from` into the empty one at `to`, as docs/guides/operations.md has it.
    pub fn restore(&self, from: &str, to: &str) {
        let file = self.folder.path().join(format!("{}.dump", Uuid::new_v4().simple()));
        let mut dump = program("pg_dump");
        done(dump.current_dir(self.folder.path()).arg("--format=custom").arg("--file").arg(&file).arg(from));
        let mut restore = program("pg_restore");
        restore.current_dir(self.folder.path()).args(["--no-owner", "--exit-on-error", "--dbname", to]);
        done(restore.arg(&file));
    }

    /// Ends it at once, as a crash would: PostgreSQL recovers from its log at the next start. Not by `kill -9`, after
    /// which its own child processes would hold up that start.
    pub fn crash(&mut self) {
        // Here commits do not wait for the disk. What was committed is kept, as it is where they do.
        self.sql(&self.url("postgres"), "CHECKPOINT");
        self.process.stop();
    }

    /// Stops it and starts it again on the same port, with what it has stored.
    pub async fn restart(&mut self) {
        self.process.stop();
        self.process = run(self.port, &self.folder).await.unwrap_or_else(|log| panic!("no restart:\n{log}"));
    }

    /// Stops it and all its children in their tracks: it accepts, and never answers. Dropped, it goes on.
    pub fn hang(&self) -> Hung<'_> {
        self.signal("STOP");
        Hung(self)
    }

    /// Its children are in sessions of their own: no group has them all.
    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        self.process.signal(name);
        let sent = Command::new("pkill").args([&format!("-{name}"), "-P", &id]).status();
        assert!(sent.expect("cannot run pkill").success(), "postgres has no children");
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

/// A PostgreSQL that hangs.
pub struct Hung<'p>(&'p Postgres);

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.signal("CONT");
    }
}

async fn run(port: u16, folder: &TempDir) -> Result<Process, String> {
    // The log of a run before says that it is ready.
    let _ = fs::remove_file(folder.path().join("log"));
    let mut command = program("postgres");
    command.current_dir(folder.path()).arg("-D").arg(folder.path().join("data"));
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1,::1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "fsync=off".to_owned(),
        "synchronous_commit=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "max_connections=400".to_owned(),
    ] {
        command.args(["-c", &setting]);
    }
    // QUIT is its immediate shutdown, the one that leaves neither children nor shared memory behind.
    let mut process = Process::start(command, folder.path(), "QUIT");
    process.wait_for_line(|line| line.contains("database system is ready to accept").then_some(())).await?;
    Ok(process)
}

/// One of PostgreSQL's programs, to run as an ordinary user.
fn program(name: &str) -> Command {
    // Debian keeps them off the PATH, Homebrew those of a versioned formula.
    let installed = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
    let folders: Vec<PathBuf> = installed
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    let program = find_program(name, &folders).unwrap_or_else(|| {
        panic!("{name} is missing. Run: apt-get install -y postgresql   (macOS: brew install postgresql@17)")
    });
    let mut command = Command::new(program);
    if let Some((uid, gid)) = ordinary_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Gives a folder, and what is in it, to who runs the server.
pub fn own(folder: &Path) {
    let Some((user, group)) = ordinary_user() else { return };
    chown(folder, Some(user), Some(group)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        chown(entry.unwrap().path(), Some(user), Some(group)).unwrap();
    }
}

/// User and group to run as; `None` where this process is an ordinary user itself.
pub fn ordinary_user() -> Option<(u32, u32)> {
    let id = |words: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(words).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let user = |name| Some((id(&["-u", name])?, id(&["-g", name])?));
    Some(user("postgres").or_else(|| user("nobody")).expect("there is neither a user postgres nor nobody"))
}

/// Runs it to its end and fails where it fails.
fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test]
async fn postgres_starts_and_keeps_its_data_over_a_crash() {
    let mut postgres = Postgres::start().await;
    let url = postgres.fresh_database();
    postgres.sql(&url, "CREATE TABLE t (a text, b bytea); INSERT INTO t VALUES ('plain', 'sécret')");
    assert!(postgres.holds(&url, "plain") && postgres.holds(&url, "sécret"));
    assert!(!postgres.holds(&url, "elsewhere"));
    postgres.crash();
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", postgres.port)).await.is_err());
    postgres.restart().await;
    assert_eq!(postgres.sql(&url, "SELECT a, length(b) FROM t"), "plain|7");
}

#[tokio::test]
async fn fresh_databases_are_apart() {
    let postgres = Postgres::shared().await;
    let (first, second) = (postgres.fresh_database(), postgres.fresh_database());
    postgres.sql(&first, "CREATE TABLE only_here (a int)");
    assert_eq!(postgres.sql(&second, "SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'"), "0");
}
