//! How values are read, and how problems with them are collected.

use clap::ValueEnum;
use std::{fs, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

/// What is wrong with the settings: a line for each problem, with the setting's name. No line holds the value of a URL.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(pub(super) Vec<String>);

/// What is wrong with the settings, a line each. No line repeats a value that may hold a secret.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<String>);

impl Problems {
    /// Adds a problem with the flag `--setting`.
    pub(super) fn add(&mut self, setting: &str, what: &str) {
        self.0.push(format!("--{setting}: {what}"));
    }
}

/// The value, unless it is empty: an empty value means "not given", which is how compose files and shells leave a
/// variable out.
pub(super) fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.trim().is_empty())
}

/// The same for paths.
pub(super) fn given_path(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// An address and port to listen on.
pub(super) fn address(setting: &str, text: &str, problems: &mut Problems) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        problems.add(setting, "is not an address and port, such as 127.0.0.1:50051");
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

/// A time above 0.
pub(super) fn time(
    setting: &str,
    value: Option<String>,
    default: Duration,
    problems: &mut Problems,
) -> Duration {
    match given(value).as_deref().map(humantime::parse_duration) {
        None => default,
        Some(Ok(time)) if !time.is_zero() => time,
        Some(_) => {
            problems.add(setting, "is a time above 0, such as 30s");
            default
        }
    }
}

/// A size of at least 1 KiB, in bytes.
pub(super) fn size(setting: &str, value: Option<String>, default: usize, problems: &mut Problems) -> usize {
    match given(value).as_deref().map(bytes) {
        None => default,
        Some(Some(size)) if size >= 1024 => size,
        Some(_) => {
            problems.add(setting, "is a size of at least 1KiB, such as 32MiB");
            default
        }
    }
}

/// A size in bytes. None if `text` is no size, or one that memory cannot hold.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let size: bytesize::ByteSize = text.trim().parse().ok()?;
    // The library gives the largest number for a size that is larger.
    isize::try_from(size.as_u64()).ok()?;
    usize::try_from(size.as_u64()).ok()
}

/// One of the values of `T`, by its name.
pub(super) fn choice<T: ValueEnum>(
    setting: &str,
    value: Option<String>,
    problems: &mut Problems,
) -> Option<T> {
    let chosen = T::from_str(&given(value)?, false);
    if chosen.is_err() {
        let names: Vec<_> = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value)
            .map(|name| format!("`{}`", name.get_name()))
            .collect();
        problems.add(setting, &format!("is {}", names.join(" or ")));
    }
    chosen.ok()
}

/// What a file holds.
pub(super) fn read(setting: &str, file: &Path, problems: &mut Problems) -> Option<Vec<u8>> {
    fs::read(file).map_err(|error| problems.add(setting, &format!("{}: {error}", file.display()))).ok()
}

/// The certificates in a PEM file.
pub(super) fn authorities(
    setting: &str,
    file: &Path,
    is_ca: impl Fn(&[u8]) -> bool,
    problems: &mut Problems,
) -> Option<Vec<u8>> {
    let pem = read(setting, file, problems)?;
    if is_ca(&pem) {
        return Some(pem);
    }
    problems.add(setting, &format!("{}: is not certificates in PEM", file.display()));
    None
}
