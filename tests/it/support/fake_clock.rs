//! A wall clock that a test sets: libfaketime in front of the system's, which only processes with its environment see.
//! As when an administrator sets the time, what counts from the start of the machine goes on unmoved.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

/// See the module's documentation.
pub struct FakeClock {
    folder: TempDir,
    library: PathBuf,
}

impl FakeClock {
    /// One that shows the right time.
    pub fn new() -> Self {
        let library = fs::read_dir("/usr/lib")
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
            .find(|library| library.is_file())
            .expect("libfaketime is missing. Run: apt-get install -y faketime");
        let clock = Self { folder: tempfile::tempdir().unwrap(), library };
        clock.set("+0");
        clock
    }

    /// What a process that is to see it has in its environment.
    pub fn env(&self) -> Vec<(String, String)> {
        let preload = format!("{} libc.so.6", self.library.display());
        [
            // The other one is for Redis: its allocator asks for the time before libfaketime is ready.
            ("LD_PRELOAD", preload.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Jumps to so far from the right time, such as `-1h`.
    pub fn set(&self, offset: &str) {
        // In one step: a reader must not meet half a file.
        let new = self.folder.path().join("new");
        fs::write(&new, offset).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}
