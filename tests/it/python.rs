//! A client in another language that knows nothing but the address: Python, by server reflection.

use std::{path::Path, process::Command};

use rota::scripted::Upstream;

use crate::support::rota::Rota;

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_that_knows_only_reflection_is_balanced_exactly() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python");
    assert!(python.is_file(), "the Python environment is missing. Run: make test");
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;

    let mut client = Command::new(python);
    client
        .arg(root.join("tests/clients/python/balanced_call.py"))
        .args(["--address", rota.address(), "--operator-token", rota.operator_token().await])
        .args(["--upstream", &upstream.base_url()])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();

    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}\nRota's log:\n{}", rota.logs());
    // 30 unary calls, 3,000 concurrent ones, one streamed: all of them reached the upstream, none of them twice.
    assert_eq!(upstream.total_hits(), 3_031, "{said}");
}
