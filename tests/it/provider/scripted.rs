//! The scripted upstream's endpoints that no other test shows: spoken text, Azure's paths, and the one that tells what
//! came in.

use std::time::Duration;

use rota::scripted::{Script, Upstream};
use serde_json::{Value, json};

async fn post(upstream: &Upstream, path: &str, key: (&str, &str), body: &Value) -> reqwest::Response {
    let request = reqwest::Client::new().post(upstream.origin() + path).header(key.0, key.1).json(body);
    request.send().await.unwrap()
}

#[tokio::test]
async fn spoken_text_names_the_key_and_misbehaves_between_pieces() {
    let upstream = Upstream::start().await.unwrap();
    let speak = || post(&upstream, "/v1/audio/speech", ("authorization", "Bearer k"), &Value::Null);
    let answer = speak().await;
    assert_eq!(answer.headers()["content-type"], "audio/mpeg");
    assert_eq!(answer.bytes().await.unwrap(), "ID3served by k");
    upstream.script("k", Script::EndAfter(2));
    assert_eq!(speak().await.bytes().await.unwrap(), "ID3served ");
    upstream.script("k", Script::BreakAfter(1));
    assert!(speak().await.bytes().await.is_err());
    upstream.script("k", Script::Slow(Duration::from_millis(1)));
    assert_eq!(speak().await.bytes().await.unwrap(), "ID3served by k");
}

#[tokio::test]
async fn azures_paths_take_azures_header() {
    let upstream = Upstream::start().await.unwrap();
    for path in ["/openai/deployments/d/chat/completions?api-version=v", "/openai/v1/chat/completions"] {
        let answer: Value = post(&upstream, path, ("api-key", "k"), &json!({})).await.json().await.unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], "served by k", "{path}");
    }
    assert_eq!((upstream.hits("k"), upstream.requests()[0].query.as_str()), (2, "api-version=v"));
    post(&upstream, "/v1/chat/completions", ("api-key", "k"), &json!({})).await;
    assert_eq!(upstream.hits("k"), 2);
}

#[tokio::test]
async fn an_echo_holds_no_credential_and_comes_in_pieces() {
    let upstream = Upstream::start().await.unwrap();
    for key in [("authorization", "Bearer secret"), ("x-api-key", "secret"), ("api-key", "secret")] {
        let path = "/v1/anything/at/all?a=b&key=secret";
        let whole = post(&upstream, path, key, &json!({"some": "body"})).await.text().await.unwrap();
        assert!(!whole.contains("secret"), "{whole}");
        let echo: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!((&echo["method"], &echo["path"]), (&json!("POST"), &json!("/v1/anything/at/all")));
        assert_eq!((&echo["query"], &echo["body"]), (&json!([["a", "b"]]), &json!({"some": "body"})));
        assert_eq!(echo["headers"]["content-type"], "application/json");
    }
    let path = "/v1/anything?pieces=4";
    let echo: Value =
        post(&upstream, path, ("authorization", "Bearer k"), &json!(1)).await.json().await.unwrap();
    assert_eq!(echo["body"], 1);
    upstream.script("k", Script::BreakAfter(3));
    assert!(post(&upstream, path, ("authorization", "Bearer k"), &json!(1)).await.bytes().await.is_err());
}
