//! A real PgBouncer.

use std::{fs, os::unix::process::CommandExt, process::Command};

use tempfile::TempDir;

use super::{
    postgres::{Postgres, ordinary_user, own},
    process::{Process, find_program, lasting_port},
};

/// A PgBouncer with few connections to PostgreSQL and PgBouncer's own defaults otherwise. It lets anybody in as the user
/// `postgres`.
pub struct PgBouncer {
    port: u16,
    process: Process,
    folder: TempDir,
}

impl PgBouncer {
    /// Starts one before that PostgreSQL, in a mode such as `transaction`, with so many connections to each database.
    pub async fn start(postgres: &Postgres, mode: &str, connections: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("rota-pgbouncer").tempdir_in("/tmp").unwrap();
        let port = lasting_port();
        let path = folder.path().display();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\nauth_file = {path}/users\n\
             pool_mode = {mode}\ndefault_pool_size = {connections}\n",
            postgres.port()
        );
        fs::write(folder.path().join("settings"), settings).unwrap();
        fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").unwrap();
        own(folder.path());
        let process = run(&folder).await;
        Self { port, process, folder }
    }

    /// The address of a database that it leads to.
    pub fn url(&self, database: &str) -> String {
        let name = database.rsplit('/').next().unwrap();
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Ends it at once, with all connections, and starts it again on the same port.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.process = run(&self.folder).await;
    }
}

async fn run(folder: &TempDir) -> Process {
    let _ = fs::remove_file(folder.path().join("log"));
    let program = find_program("pgbouncer", &["/usr/sbin".into(), "/opt/homebrew/bin".into()]);
    let mut command =
        Command::new(program.expect(
            "pgbouncer is missing. Run: apt-get install -y pgbouncer   (macOS: brew install pgbouncer)",
        ));
    // It refuses to run as root, as PostgreSQL does.
    if let Some((user, group)) = ordinary_user() {
        command.uid(user).gid(group);
    }
    command.arg(folder.path().join("settings"));
    let mut process = Process::start(command, folder.path(), "KILL");
    let up = process.wait_for_line(|line| line.contains("process up").then_some(())).await;
    up.unwrap_or_else(|log| panic!("pgbouncer does not start:\n{log}"));
    process
}
