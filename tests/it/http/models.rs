//! Models as each SDK lists them, endpoints beside chats, and HTTP/2.

use rota::{api::pb::ModelType, scripted::Upstream};
use serde_json::{Value, json};

use crate::support::{
    http::{Http, model, paths},
    rota::Rota,
    sdk::{Sdk, question},
    world::Scene,
};

#[tokio::test(flavor = "multi_thread")]
async fn each_sdk_lists_the_models() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    for (program, name) in [
        ("sdk_openai.py", "upstream/chat"),
        ("sdk_anthropic.py", "upstream/chat"),
        ("sdk_gemini.py", "models/upstream/chat"),
    ] {
        let mut sdk = Sdk::python(program).await;
        let asked = question(rota, &scene, json!({"api": "other", "ask": "models"})).await;
        let answer = sdk.ask(&asked).await;
        assert_eq!(answer["models"], json!([name]), "{program}: {answer}");
    }
    let mut sdk = Sdk::python("sdk_openai.py").await;
    let one = json!({"api": "other", "ask": "model"});
    let answer = sdk.ask(&question(rota, &scene, one).await).await;
    assert_eq!(answer["models"], json!(["upstream/chat"]), "{answer}");
    assert_eq!(upstream.total_hits(), 0);
}

/// A call of OpenAI's SDK for a model of another type than a chat.
async fn other(sdk: &mut Sdk, scene: &Scene, model_type: ModelType, ask: &str) -> Value {
    let scene = scene.of_type(model_type, "other").await;
    sdk.ask(&question(Rota::shared().await, &scene, json!({"api": "other", "ask": ask})).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_sdk_reaches_the_other_endpoints() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let mut sdk = Sdk::python("sdk_openai.py").await;
    let vectors = json!([[1.0, 0.0, 1.0], [5.0, 1.0, 1.0]]);
    let answer = other(&mut sdk, &scene, ModelType::TextEmbedding, "embeddings").await;
    assert_eq!(answer["vectors"], vectors, "{answer}");
    let answer = other(&mut sdk, &scene, ModelType::Moderation, "moderations").await;
    assert_eq!(answer["flagged"], true, "{answer}");
    for ask in ["transcriptions", "translations"] {
        let answer = other(&mut sdk, &scene, ModelType::SpeechToText, ask).await;
        assert_eq!(answer["text"], "hello.mp3", "{answer}");
    }
    let answer = other(&mut sdk, &scene, ModelType::Tts, "speech").await;
    assert!(answer["text"].as_str().is_some_and(|text| text.starts_with("ID3served by ")), "{answer}");
    let answer = other(&mut sdk, &scene, ModelType::Rerank, "rerank").await;
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(2), "{answer}");
    let answer = sdk.ask(&question(rota, &scene, json!({"api": "other", "ask": "completions"})).await).await;
    assert!(answer["text"].as_str().is_some_and(|text| text.starts_with("served by ")), "{answer}");
    let answer = sdk.ask(&question(rota, &scene, json!({"api": "other", "ask": "images"})).await).await;
    assert!(answer["text"].is_string(), "{answer}");

    let mut google = Sdk::python("sdk_gemini.py").await;
    let answer = other(&mut google, &scene, ModelType::TextEmbedding, "embeddings").await;
    assert_eq!(answer["vectors"], vectors, "{answer}");
    for program in ["sdk_gemini.py", "sdk_anthropic.py"] {
        let mut sdk = Sdk::python(program).await;
        let answer = sdk.ask(&question(rota, &scene, json!({"api": "other", "ask": "count"})).await).await;
        assert!(answer["tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{program}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_only_the_provider_knows_is_handed_on() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let http = Http::of(rota).await;
    let body = r#"{ "model" : "upstream/chat", "x": 1.0E2 }"#;
    let answer = http.post(&scene.token, "/v1/anything/at/all", body).await;
    assert_eq!(answer.status(), 200);
    let echo: Value = answer.json().await.unwrap();
    assert_eq!((&echo["method"], &echo["path"]), (&json!("POST"), &json!("/v1/anything/at/all")));
    let arrived = String::from_utf8_lossy(&upstream.requests().pop().unwrap().raw).into_owned();
    assert_eq!(arrived, body.replace("upstream/chat", "chat"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_served_without_a_word_before() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let http = Http { client, ..Http::of(rota).await };
    for path in paths(&model(&scene)).iter().take(2) {
        let answer = http.request(path).bearer_auth(&scene.token).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 200));
        assert!(answer.text().await.unwrap().contains("served"));
    }
}
