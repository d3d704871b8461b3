//! The vendors' own Python clients take the scripted upstream for their vendor: so its formats are theirs, and what our
//! drivers show against it holds against them. What each client checks stands in `tests/clients/python/vendor_….py`.

use rota::scripted::{ErrorForm, Framing, Script, Upstream};
use serde_json::{Value, json};

use crate::support::python;

/// Runs that client; `in_band` is an error as this vendor reports one in the middle of a stream.
async fn holds(client: &str, in_band: Value) {
    let upstream = Upstream::start().await.unwrap();
    for status in [400, 401, 403, 404, 429, 500, 503, 529] {
        upstream.script(format!("key-{status}"), Script::fail(status));
    }
    for framing in Framing::ALL {
        upstream.script(format!("key-{framing:?}"), Script::Framed(framing));
    }
    for form in ErrorForm::ALL {
        upstream.script(format!("key-{form:?}"), Script::ErrorAs(form, 1, in_band.clone()));
    }
    upstream.script("key-in-band", Script::ErrorAfter(1, in_band));
    let output = python::run(client, &[&upstream.origin()]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_and_azure() {
    let busy = json!({"message": "busy", "type": "rate_limit_error", "code": "rate_limit_exceeded"});
    holds("vendor_openai.py", busy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic() {
    holds("vendor_anthropic.py", json!({"type": "overloaded_error", "message": "busy"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cohere() {
    holds("vendor_cohere.py", json!({"message": "busy"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini() {
    holds("vendor_gemini.py", json!({"code": 503, "message": "busy", "status": "UNAVAILABLE"})).await;
}
