//! Reads the master key ring: from the environment, a file, or the output of a command (such as a key service's client).
//!
//! The ring is read once, at the start. No error and no log line holds any of it.

use super::key_ring::{Key, KeyRing, KeyRingError};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The longest ring that is read.
const MOST: u64 = 64 << 10;
/// How much of a command's standard error is logged.
const MOST_SAID: u64 = 4 << 10;
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(10);

/// Where the master key comes from.
pub enum MasterKeySource {
    /// The setting's value: base64, or `id:base64[,id:base64]`.
    Value(SecretString),
    /// A file that holds the same.
    File(PathBuf),
    /// A file that is made, mode 0600, where it is not there.
    OwnFile(PathBuf),
    /// What `sh -c` writes to standard output when it runs this.
    Command(String),
}

impl fmt::Debug for MasterKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::OwnFile(path) => f.debug_tuple("OwnFile").field(path).finish(),
            Self::Command(_) => f.write_str("Command(..)"),
        }
    }
}

impl MasterKeySource {
    /// Reads the ring.
    ///
    /// # Errors
    /// [`KeyRingError`].
    pub async fn ring(&self) -> Result<KeyRing, KeyRingError> {
        match self {
            Self::Value(text) => KeyRing::parse(text.expose_secret()),
            Self::File(path) => read_file(path),
            Self::OwnFile(path) => load_or_create(path),
            Self::Command(command) => run(command, COMMAND).await,
        }
    }
}

/// Reads the master key file, and makes one, mode 0600, where there is none.
fn load_or_create(path: &Path) -> Result<KeyRing, KeyRingError> {
    let failed = |error| KeyRingError::File(path.to_owned(), error);
    match read_file(path) {
        Err(KeyRingError::File(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut text = Key::random_text().map_err(|_| failed(io::Error::other("no random bytes")))?;
    text.push('\n');
    // Linked into place when complete: another start sees the whole file or none, and never overwrites it.
    let draft = path.with_extension(format!("{}.draft", Uuid::new_v4().simple()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    let written = write();
    // A draft that could not even be made is not there to remove.
    let _ = fs::remove_file(&draft);
    written.map_err(failed)?;
    read_file(path)
}

fn read_file(path: &Path) -> Result<KeyRing, KeyRingError> {
    let failed = |error| KeyRingError::File(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    // A warning alone: a mounted secret of a container is often readable by its group.
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others than its owner may read the master key file");
    }
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize + 1));
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<KeyRing, KeyRingError> {
    if bytes.len() as u64 > MOST {
        return Err(KeyRingError::TooLong);
    }
    KeyRing::parse(std::str::from_utf8(bytes).map_err(|_| KeyRingError::NotText)?)
}

/// Runs the command to its end. What it says on standard error goes to the log, on standard output nowhere else.
async fn run(command: &str, limit: Duration) -> Result<KeyRing, KeyRingError> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(KeyRingError::Command)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended =
        timeout(limit, async { tokio::try_join!(read(stdout, MOST), read(stderr, MOST_SAID), child.wait()) });
    let (out, said, status) =
        ended.await.map_err(|_| KeyRingError::CommandSlow)?.map_err(KeyRingError::Command)?;
    for line in String::from_utf8_lossy(&said).lines() {
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        tracing::warn!("the master key command says: {line}");
    }
    if !status.success() {
        return Err(KeyRingError::CommandFailed(status));
    }
    parse(&out)
}

/// Up to one byte more than `most`; the rest is read and dropped, so that the writer can end.
async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(most as usize + 1));
    if let Some(mut from) = from {
        (&mut from).take(most + 1).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, prelude::BASE64_STANDARD};

    fn ring() -> String {
        let mut bytes = [7; 32];
        bytes[0] = 1;
        BASE64_STANDARD.encode(bytes)
    }

    async fn refused(source: &MasterKeySource) -> String {
        source.ring().await.err().expect("refused").to_string()
    }

    #[tokio::test]
    async fn a_key_file_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("master.key");
        let given = MasterKeySource::File(path.clone());
        assert!(refused(&given).await.contains("master.key"), "only the own one is made");
        let own = MasterKeySource::OwnFile(path.clone());
        let first = own.ring().await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for source in [own, given] {
            assert!(source.ring().await.unwrap().opens(&first.check_value().unwrap()));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays behind");
        fs::write(&path, "short").unwrap();
        assert!(load_or_create(&path).is_err(), "a bad file is not overwritten");
        fs::write(&path, "A".repeat(70_000)).unwrap();
        assert!(refused(&MasterKeySource::File(path)).await.contains("64 KiB"));
    }

    #[tokio::test]
    async fn a_command_gives_the_ring() {
        let good = MasterKeySource::Command(format!("printf '2:%s' {}; echo hint >&2", ring()));
        assert_eq!(good.ring().await.unwrap().first_id(), "2");
        for (command, reason) in [
            ("true", "is empty"),
            ("exit 3", "exit status: 3"),
            ("printf hunter2", "not base64"),
            ("printf '\\377'", "not text"),
            ("yes hunter2 | head -c 70000", "64 KiB"),
            ("no-such-command-hunter2", "exit status: 127"),
        ] {
            let error = refused(&MasterKeySource::Command(command.to_owned())).await;
            assert!(error.contains(reason) && !error.contains("hunter2"), "{command}: {error}");
        }
        for endless in ["sleep 600", "yes hunter2"] {
            let error = run(endless, Duration::from_millis(200)).await.err().expect("refused").to_string();
            assert!(error.contains("10 seconds"), "{endless}: {error}");
        }
    }
}
