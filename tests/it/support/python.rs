//! Runs the Python clients of `tests/clients/python`.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Runs that file with these arguments to its end.
pub async fn run(file: &str, args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python");
    assert!(python.is_file(), "the Python environment is missing. Run: make test");
    let mut client = Command::new(python);
    client.arg(root.join("tests/clients/python").join(file)).args(args).env("PYTHONDONTWRITEBYTECODE", "1");
    tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap()
}
