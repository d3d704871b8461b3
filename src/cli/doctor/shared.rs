//! What several checks share.

use super::report::Report;
use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// The time limit of one check.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// The largest difference between two clocks that is no problem, in milliseconds.
const CLOCKS_APART: i64 = 2000;

/// Whether somebody else than the owner may read or write, and the mode.
pub(super) fn open_to_others(path: &Path) -> Option<(PathBuf, u32)> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| (path.to_owned(), mode))
}

/// Why somebody else than the user and root could have written that file, where it is there.
pub(super) fn changeable_by_others(file: &Path) -> Option<String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let user = rustix::process::geteuid().as_raw();
    file.metadata().ok()?;
    for (place, what) in [(file, "it"), (folder, "its folder")] {
        let facts = place.metadata().ok()?;
        if facts.uid() != user && facts.uid() != 0 {
            return Some(format!("{what} belongs to another user"));
        }
        let mode = facts.permissions().mode() & 0o777;
        if mode & 0o022 != 0 {
            return Some(format!("others may write {what}: mode {mode:o}"));
        }
    }
    None
}

/// How far another clock is ahead of ours, in milliseconds.
pub(super) fn clock(report: &mut Report, name: &str, ahead: i64) {
    if ahead.saturating_abs() > CLOCKS_APART {
        let found = format!("{ahead} ms ahead of this machine");
        report.warning(name, found, "let NTP set both clocks: `timedatectl set-ntp true`");
    } else {
        report.ok(name, format!("{ahead} ms ahead of this machine"));
    }
}
