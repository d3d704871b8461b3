//! Callers in another language that do not stop: `tests/clients/python/callers.py`. Every call is kept, with its times.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{python, root, rota::Rota, world::Scene};

/// How many there are of each kind.
#[derive(Clone, Copy, Default)]
pub struct Count {
    /// Those that wait for whole answers.
    pub unary: usize,
    /// Those that read streams to their end.
    pub stream: usize,
    /// Those that leave streams after their first message.
    pub cancel: usize,
}

/// What a caller wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Unary,
    Stream,
    Cancelled,
}

/// One call that has ended.
#[derive(Debug, Clone)]
pub struct Call {
    pub kind: Kind,
    pub began: Instant,
    pub ended: Instant,
    /// The status's name, such as `OK`.
    pub code: String,
    /// The reason of Rota's; empty where gRPC itself has given up.
    pub reason: String,
    /// The status's message.
    pub text: String,
    /// As the Route says.
    pub attempts: usize,
    /// As the Route says.
    pub degraded: bool,
    /// How many came.
    pub messages: usize,
    /// Whether the answer was there to its end: a stream's finish reason has come.
    pub whole: bool,
}

impl Call {
    /// It has come to its end.
    pub fn served(&self) -> bool {
        self.code == "OK" && self.whole
    }

    /// It ended as if it were whole, and was not.
    pub fn silently_cut(&self) -> bool {
        self.code == "OK" && !self.whole
    }

    /// What it is counted as where it failed: the reason, or the status.
    pub fn failure(&self) -> &str {
        if self.reason.is_empty() { &self.code } else { &self.reason }
    }
}

/// A line of theirs.
#[derive(Deserialize)]
struct Told {
    kind: Kind,
    began: f64,
    ended: f64,
    code: String,
    reason: String,
    text: String,
    attempts: usize,
    degraded: bool,
    messages: usize,
    whole: bool,
}

/// The callers at work. Dropped, they are killed.
pub struct Callers {
    process: Child,
    calls: Arc<Mutex<Vec<Call>>>,
    reader: JoinHandle<()>,
}

impl Callers {
    /// So many of them call the scene's model through all of these replicas.
    pub async fn start(rotas: &[&Rota], scene: &Scene, count: Count) -> Self {
        let targets = rotas.iter().map(|rota| rota.address()).collect::<Vec<_>>().join(",");
        let key = json!({
            "tenant_id": scene.key.tenant_id,
            "provider": scene.key.provider,
            "model_type": "MODEL_TYPE_LLM",
            "model": scene.key.model,
        });
        let mut command = Command::from(python::command());
        command.arg(root().join("tests/clients/python/callers.py"));
        command.args(["--targets", &targets, "--token", &scene.token, "--key", &key.to_string()]);
        let counts = [("--unary", count.unary), ("--stream", count.stream), ("--cancel", count.cancel)];
        for (flag, count) in counts {
            command.args([flag, &count.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = timeout(Duration::from_secs(60), lines.next_line()).await;
        let Ok(Ok(Some(ready))) = ready else { panic!("callers.py: {}", complaint(&mut process).await) };
        let now = serde_json::from_str::<serde_json::Value>(&ready).unwrap()["now"].as_f64().unwrap();
        let clock = Clock { now, here: Instant::now() };
        let calls = Arc::new(Mutex::new(Vec::new()));
        let kept = calls.clone();
        let reader = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                let told: Told = serde_json::from_str(&line).unwrap();
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(clock.call(told));
            }
        });
        Self { process, calls, reader }
    }

    /// Those that have ended so far.
    pub fn so_far(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many there are for which this holds.
    pub fn count(&self, holds: impl Fn(&Call) -> bool) -> usize {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call| holds(call)).count()
    }

    /// Lets calls on their way end, and returns all in the order in which they ended.
    pub async fn end(mut self) -> Vec<Call> {
        drop(self.process.stdin.take());
        timeout(Duration::from_secs(60), &mut self.reader).await.expect("callers do not end").unwrap();
        let status = self.process.wait().await.unwrap();
        assert!(status.success(), "callers.py: {}", complaint(&mut self.process).await);
        self.so_far()
    }
}

async fn complaint(process: &mut Child) -> String {
    let _ = process.start_kill();
    let mut text = String::new();
    if let Some(mut stderr) = process.stderr.take() {
        let _ = stderr.read_to_string(&mut text).await;
    }
    text
}

/// Their clock beside ours: both only go on, at the same pace.
struct Clock {
    now: f64,
    here: Instant,
}

impl Clock {
    fn at(&self, time: f64) -> Instant {
        self.here + Duration::from_secs_f64((time - self.now).max(0.0))
    }

    fn call(&self, told: Told) -> Call {
        let Told { kind, began, ended, code, reason, text, attempts, degraded, messages, whole } = told;
        let (began, ended) = (self.at(began), self.at(ended));
        Call { kind, began, ended, code, reason, text, attempts, degraded, messages, whole }
    }
}
