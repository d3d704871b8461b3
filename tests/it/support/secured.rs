//! A Rota that serves TLS.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

use super::{
    authority::Authority,
    process::{Process, free_port},
};

/// See the module's documentation.
pub struct Secured {
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// The operator's token.
    pub token: String,
    process: Process,
    folder: TempDir,
}

impl Secured {
    /// Starts one with that authority's certificate, which asks clients for theirs where told.
    pub async fn start(authority: &Authority, ask_clients: bool) -> Self {
        Self::start_with(authority, ask_clients, &[]).await
    }

    /// The same with these environment variables.
    pub async fn start_with(authority: &Authority, ask_clients: bool, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
        command.args(["serve", "--listen", &address, "--admin-listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(folder.path().join("data"));
        command.arg("--tls-cert").arg(file("own.pem", authority.own.pem()));
        command.arg("--tls-key").arg(file("key.pem", authority.key.serialize_pem()));
        if ask_clients {
            command.arg("--tls-client-ca").arg(file("ca.pem", authority.ca.pem()));
        }
        command.current_dir(folder.path()).envs(env.iter().copied());
        let mut process = Process::start(command, folder.path(), "KILL");
        process.wait_for_line(|line| line.contains("listening").then_some(())).await.unwrap();
        let token = fs::read_to_string(folder.path().join("data/operator-token")).unwrap();
        Self { address, token: token.trim().to_owned(), process, folder }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Puts another text in the place of one of its files, as in `own.pem`.
    pub fn replace(&self, name: &str, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder.path().join(name)).unwrap();
    }

    /// Writes files for a client and says where they are.
    pub fn files(&self, texts: &[(&str, String)]) -> Vec<PathBuf> {
        let write = |(name, text): &(&str, String)| {
            let path = self.folder.path().join(format!("client-{name}.pem"));
            fs::write(&path, text).unwrap();
            path
        };
        texts.iter().map(write).collect()
    }
}
