//! Runs clients in Python: those of `tests/clients/python`, and the one of `examples/python`; and reads YAML with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tokio::sync::OnceCell;

use super::root;

/// Runs that file of `tests/clients/python` with these arguments to its end.
pub async fn run(file: &str, args: &[&str]) -> Output {
    let mut client = command();
    client.arg(root().join("tests/clients/python").join(file)).args(args);
    tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap()
}

/// The documents of a text in YAML.
pub async fn yaml(text: &str) -> Vec<Value> {
    let program = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.argv[1])), sys.stdout)";
    let mut python = command();
    python.args(["-c", program, text]);
    let output = tokio::task::spawn_blocking(move || python.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Python, with the packages of `tests/clients/python`.
pub fn command() -> Command {
    let python = root().join("target/python/bin/python");
    assert!(python.is_file(), "the Python environment is missing. Run: make test");
    let mut command = Command::new(python);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Where the stubs of the API are, generated as the readers of `examples/python` do.
pub async fn stubs() -> &'static Path {
    static STUBS: OnceCell<PathBuf> = OnceCell::const_new();
    STUBS
        .get_or_init(async || {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-stubs");
            fs::create_dir_all(&folder).unwrap();
            let mut protoc = command();
            protoc.args(["-m", "grpc_tools.protoc", "-I", "proto"]).current_dir(root());
            protoc.arg(format!("--python_out={}", folder.display()));
            protoc.arg(format!("--grpc_python_out={}", folder.display()));
            protoc.args(["proto/rota/v1/types.proto", "proto/rota/v1/invoke.proto"]);
            let output = tokio::task::spawn_blocking(move || protoc.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            folder
        })
        .await
}
