//! Other gateways, from the registries of their languages, in front of the same upstream with four keys: LiteLLM's proxy and
//! Portkey's gateway. `BENCH_PEERS=1 make bench` installs and measures them.

use super::support::{
    eventually,
    process::{Process, free_port},
};
use std::{env, fs, path::Path, process::Command, time::Duration};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// LiteLLM starts with no key but one of its own.
const MASTER_KEY: &str = "sk-bench";
/// Python and Node take their time.
const START: Duration = Duration::from_secs(120);

/// A gateway that is up.
pub struct Peer {
    pub name: &'static str,
    pub address: String,
    pub process: Process,
    /// What goes with every request.
    pub headers: Vec<(String, String)>,
    /// Whether it is asked for streams too.
    pub streams: bool,
}

/// Those that were asked for.
pub async fn start(upstream: &str, folder: &TempDir) -> Vec<Peer> {
    if env::var_os("BENCH_PEERS").is_none() {
        return Vec::new();
    }
    vec![litellm(upstream, folder).await, portkey(upstream, folder).await]
}

async fn litellm(upstream: &str, folder: &TempDir) -> Peer {
    let folder = folder.path().join("litellm");
    fs::create_dir(&folder).unwrap();
    let models = ["chat", "chunks-20"].map(|model| {
        let entry = |key| {
            format!(
                "  - {{model_name: {model}, litellm_params: {{model: openai/{model}, api_key: key-{key}, \
                 api_base: \"http://{upstream}/v1\"}}}}\n"
            )
        };
        (0..4).map(entry).collect::<String>()
    });
    let settings = folder.join("config.yaml");
    let text = format!("model_list:\n{}general_settings: {{master_key: {MASTER_KEY}}}\n", models.concat());
    fs::write(&settings, text).unwrap();
    let port = free_port().to_string();
    let mut command = Command::new(installed("bin/litellm"));
    command.arg("--config").arg(settings).args(["--host", "127.0.0.1", "--port", &port]);
    // Else it fetches the prices of models.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let headers = vec![("authorization".to_owned(), format!("Bearer {MASTER_KEY}"))];
    up("LiteLLM", command, &folder, port, headers, true).await
}

async fn portkey(upstream: &str, folder: &TempDir) -> Peer {
    let folder = folder.path().join("portkey");
    fs::create_dir(&folder).unwrap();
    let port = free_port().to_string();
    let mut command = Command::new("node");
    command.arg(installed("node_modules/@portkey-ai/gateway/build/start-server.js"));
    command.args([&format!("--port={port}"), "--headless"]);
    let target = |key| {
        serde_json::json!({
            "provider": "openai", "api_key": format!("key-{key}"), "custom_host": format!("http://{upstream}/v1"),
        })
    };
    let config = serde_json::json!({
        "strategy": { "mode": "loadbalance" }, "targets": (0..4).map(target).collect::<Vec<_>>(),
    });
    let headers = vec![("x-portkey-config".to_owned(), config.to_string())];
    // Its streams fail under current versions of Node.
    up("Portkey", command, &folder, port, headers, false).await
}

fn installed(file: &str) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(file);
    assert!(path.exists(), "{file} is missing. Run: BENCH_PEERS=1 make bench");
    path
}

async fn up(
    name: &'static str,
    command: Command,
    folder: &Path,
    port: String,
    headers: Vec<(String, String)>,
    streams: bool,
) -> Peer {
    let process = Process::start(command, folder, "KILL");
    let address = format!("127.0.0.1:{port}");
    eventually(START, async || TcpStream::connect(&address).await.map(drop).map_err(|_| process.log())).await;
    Peer { name, address, process, headers, streams }
}
