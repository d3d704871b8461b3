//! A server process that cannot outlive the tests.
//!
//! Beside each server runs a shell that waits for the end of its input. That end comes when the test process is gone,
//! killed or not, and then the shell ends the server and removes its folder.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use std::os::unix::process::CommandExt;

use super::eventually;

/// A running server whose output goes to the file `log` in its folder.
pub struct Process {
    server: Child,
    keeper: Child,
    folder: PathBuf,
    signal: &'static str,
}

/// Waits for the end of input, then ends process $2 with signal $1, waits up to 10 s for it and removes the folders
/// $3 and on.
const KEEPER: &str = r#"read -r _
kill -"$1" "$2" 2>/dev/null
tries=0
while kill -0 "$2" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
shift 2
rm -rf "$@""#;

impl Process {
    /// Starts `command`. `signal` (such as `KILL`) is what ends it; `folder` is removed when the test process dies
    /// before it has removed it by itself.
    pub fn start(command: Command, folder: &Path, signal: &'static str) -> Self {
        Self::start_with_data(command, folder, &[], signal)
    }

    /// The same for one that keeps its data in other folders, which are removed in the same way.
    pub fn start_with_data(
        mut command: Command,
        folder: &Path,
        data: &[&Path],
        signal: &'static str,
    ) -> Self {
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        // A group of its own: Ctrl-C in the terminal must reach the tests alone.
        let server = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh", signal, &server.id().to_string()])
            .arg(folder)
            .args(data)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot start sh");
        Self { server, keeper, folder: folder.to_owned(), signal }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// What it has written so far, standard output and standard error together.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(status.expect("cannot run kill").success(), "cannot send {name} to {}", self.id());
    }

    /// How it ended; `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.server.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        eventually(limit, async || self.exited().ok_or_else(|| format!("still running:\n{}", self.log())))
            .await
    }

    /// Waits for a line of its output for which `find` returns something. `Err` holds the output where it ends or
    /// takes longer than 30 s.
    pub async fn wait_for_line<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        self.wait_longer_for_line(Duration::from_secs(30), find).await
    }

    /// The same for one that takes up to so long.
    pub async fn wait_longer_for_line<T>(
        &mut self,
        limit: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, String> {
        eventually(limit, async || {
            // Asked before the log is read, so that the last words of one that has ended are seen.
            let exited = self.exited();
            let log = self.log();
            match (log.lines().find_map(&find), exited) {
                (Some(found), _) => Ok(Ok(found)),
                (None, Some(status)) => Ok(Err(format!("ended with {status}:\n{log}"))),
                (None, None) => Err(format!("waiting for a line of its output:\n{log}")),
            }
        })
        .await
    }

    /// Ends it with its signal and waits until it is gone. Its folder stays.
    pub fn stop(&mut self) {
        if self.exited().is_none() {
            self.signal(self.signal);
            self.server.wait().unwrap();
        }
        self.dismiss_keeper();
    }

    /// Ends it as a crash or `kill -9` would and waits until it is gone. Its folder stays.
    pub fn kill9(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        self.dismiss_keeper();
    }

    /// The server is gone and its process id may be another's soon.
    fn dismiss_keeper(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            let _ =
                Command::new("kill").args([&format!("-{}", self.signal), &self.id().to_string()]).status();
            let _ = self.server.wait();
        }
        self.dismiss_keeper();
    }
}

/// A port of 127.0.0.1 that nothing listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A port of 127.0.0.1 for a server that will end and come back on it: below those that systems hand out by themselves, so
/// that no other test gets it in between.
pub fn lasting_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(15_000..32_000)).find(free).unwrap()
}

/// Where the program `name` is: on the PATH or in one of `folders`.
pub fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
