//! A real Prometheus.

use std::{fs, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use super::{
    process::{Process, free_port},
    root,
    tools::find,
};

/// A Prometheus that scrapes one target every second, as the job `rota`, with the alerts of `deploy/prometheus`.
pub struct Prometheus {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one and waits until it answers.
    pub async fn start(target: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = root().join("deploy/prometheus/rules.yaml");
        // JSON is YAML.
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{"job_name": "rota", "static_configs": [{"targets": [target]}]}],
        });
        let path = folder.path().join("prometheus.yaml");
        fs::write(&path, config.to_string()).unwrap();
        // A free port may be taken by another test before Prometheus has it.
        let mut failure = String::new();
        for _ in 0..5 {
            let port = free_port();
            let mut command = Command::new(find("prometheus"));
            command.current_dir(folder.path()).arg("--config.file").arg(&path);
            command.arg("--storage.tsdb.path").arg(folder.path().join(port.to_string()));
            command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
            let mut process = Process::start(command, folder.path(), "KILL");
            let ready = |line: &str| line.contains("Server is ready").then_some(());
            match process.wait_for_line(ready).await {
                Ok(()) => return Self { port, _process: process, _folder: folder },
                Err(log) => failure = log,
            }
        }
        panic!("prometheus does not start:\n{failure}");
    }

    /// What an expression comes to now: a series an element.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.ask("query", &[("query", expression)]).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// How each alert stands: its name with `inactive`, `pending` or `firing`.
    pub async fn alerts(&self) -> Vec<(String, String)> {
        let answer = self.ask("rules", &[]).await;
        let rules = answer["data"]["groups"][0]["rules"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rules.iter().map(|rule| (text(&rule["name"]), text(&rule["state"]))).collect()
    }

    async fn ask(&self, what: &str, asked: &[(&str, &str)]) -> Value {
        let address = format!("http://127.0.0.1:{}/api/v1/{what}", self.port);
        let address = Url::parse_with_params(&address, asked).unwrap();
        serde_json::from_str(&reqwest::get(address).await.unwrap().text().await.unwrap()).unwrap()
    }
}

/// The value of the line that has this name and these labels, in whatever order: all that is asked for here are whole.
pub fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let found = text.lines().find(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    found.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default() as u64
}
