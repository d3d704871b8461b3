//! Another gateway as the upstream: LiteLLM's proxy, whose models answer what its configuration says. Ignored: it takes
//! 750 MB and a minute to install, and half a minute to start.

use std::{path::Path, process::Command, time::Duration};

use rota::api::pb::{ErrorClass, InvokeTextEmbeddingRequest, ModelKey, ModelType};
use tonic::Code;

use crate::invoke::streaming::content;
use crate::support::{
    eventually,
    failure::{classes, error, told},
    process::{Process, free_port},
    root,
    rota::Rota,
    world::{Scene, config},
};

/// Its master key. Without a database it knows no other.
const KEY: &str = "sk-litellm-test";

/// Models that answer well, and one that is limited.
const CONFIG: &str = r"
model_list:
  - {model_name: chat, litellm_params: {model: openai/m, api_key: none, mock_response: said by litellm}}
  - {model_name: limited, litellm_params: {model: openai/m, api_key: none, mock_response: litellm.RateLimitError}}
  - {model_name: vectors, litellm_params: {model: openai/m, api_key: none, mock_response: [0.5, 0.25]}}
general_settings: {master_key: sk-litellm-test}
router_settings: {num_retries: 0}
";

/// Starts it in that folder, and waits until it answers.
async fn litellm(folder: &Path) -> (Process, String) {
    let program = root().join("target/peers/bin/litellm");
    assert!(program.is_file(), "LiteLLM is missing. Run: make peers");
    let settings = folder.join("config.yaml");
    std::fs::write(&settings, CONFIG).unwrap();
    let port = free_port().to_string();
    let mut command = Command::new(program);
    command.arg("--config").arg(settings).args(["--host", "127.0.0.1", "--port", &port]);
    // Else it fetches the prices of models.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let process = Process::start(command, folder, "KILL");
    let origin = format!("http://127.0.0.1:{port}");
    let alive = format!("{origin}/health/liveliness");
    eventually(Duration::from_secs(120), async || match reqwest::get(&alive).await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        _ => Err(process.log()),
    })
    .await;
    (process, format!("{origin}/v1"))
}

/// That model over two configs: LiteLLM does not know the first one's key.
async fn scene(base_url: &str, model_type: ModelType, model: &str) -> Scene {
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.key = ModelKey { model_type: model_type.into(), model: model.into(), ..scene.key.clone() };
    scene.add_model(base_url).await;
    scene.put_configs(vec![config("stranger", "sk-stranger"), config("known", KEY)]).await;
    scene.enable().await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "installs 750 MB and starts for half a minute: `make peers`"]
async fn litellm_serves_and_its_refusals_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let (_process, base_url) = litellm(folder.path()).await;

    let chat = scene(&base_url, ModelType::Llm, "chat").await;
    let reply = chat.ask().await.unwrap();
    assert_eq!(reply.message.unwrap().content, "said by litellm");
    assert_eq!((reply.finish_reason.as_str(), reply.usage.unwrap().total_tokens), ("stop", 30));
    let attempts = reply.route.unwrap().attempts;
    assert_eq!(classes(&attempts), [ErrorClass::Authentication, ErrorClass::Unspecified]);
    let messages = chat.ask_stream().await.unwrap();
    assert_eq!(content(&messages), "said by litellm");
    assert!(messages.iter().any(|message| message.finish_reason == "stop"));
    assert!(
        messages.iter().any(|message| message.usage.as_ref().is_some_and(|usage| usage.total_tokens > 0))
    );

    let status = scene(&base_url, ModelType::Llm, "limited").await.ask().await.unwrap_err();
    assert_eq!(told(&status), error(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"));
    let status = scene(&base_url, ModelType::Llm, "none").await.ask().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");

    let vectors = scene(&base_url, ModelType::TextEmbedding, "vectors").await;
    let embed = async |texts: &[&str]| {
        let texts = texts.iter().map(ToString::to_string).collect();
        let request =
            InvokeTextEmbeddingRequest { key: Some(vectors.key.clone()), texts, ..Default::default() };
        vectors.clients.invoke.clone().invoke_text_embedding(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(embed(&["a"]).await.unwrap().embeddings[0].values, [0.5, 0.25]);
    // Its mock knows one vector, however many texts there are.
    let status = embed(&["a", "b"]).await.unwrap_err();
    assert_eq!(told(&status), error(Code::Unavailable, "UPSTREAM_SERVER_ERROR"));
}
