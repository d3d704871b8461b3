//! A client in another language that knows nothing but the address: Python, by server reflection.

use rota::scripted::Upstream;

use crate::support::{python, rota::Rota};

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_that_knows_only_reflection_is_balanced_exactly() {
    let upstream = Upstream::start().await.unwrap();
    let rota = Rota::builder().start().await;
    let (token, base_url) = (rota.operator_token().await, upstream.base_url());
    let args = ["--address", rota.address(), "--operator-token", token, "--upstream", &base_url];
    let output = python::run("balanced_call.py", &args).await;

    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}\nRota's log:\n{}", rota.logs());
    // 30 unary calls, 3,000 concurrent ones, one streamed: all of them reached the upstream, none of them twice.
    assert_eq!(upstream.total_hits(), 3_031, "{said}");
}
