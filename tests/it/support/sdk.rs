//! SDKs at work: programs of `tests/clients` that call Rota as an application would. Each answers one question a line, so
//! that many calls pay for one start. What questions and answers hold stands in `tests/clients/python/sdk.py`.

use std::{
    fs::File,
    io::{Read, Seek},
    process::Stdio,
    time::Duration,
};

use rota::scripted::Upstream;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{process::find_program, python, root, rota::Rota, world::Scene};

/// Longer than any call takes that a test makes.
const LIMIT: Duration = Duration::from_secs(120);

/// What every SDK is asked for.
pub const ASKS: [&str; 6] = ["text", "tool", "tools", "image", "object", "reasoning"];

/// A program at work. Dropped, it is killed.
pub struct Sdk {
    _process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    complaints: File,
}

impl Sdk {
    /// One of those in Python that `make test` installs: `sdk_openai.py`, `sdk_anthropic.py`, `sdk_gemini.py`.
    pub async fn python(file: &str) -> Self {
        let mut command = Command::from(python::command());
        command.arg(root().join("tests/clients/python").join(file));
        Self::start(command).await
    }

    /// One of those in Python that `make sdks` installs.
    pub async fn more_python(file: &str) -> Self {
        let program = root().join("target/sdks/python/bin/python");
        assert!(program.is_file(), "the SDKs are missing. Run: make sdks");
        let mut command = Command::new(program);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(root().join("tests/clients/python").join(file));
        Self::start(command).await
    }

    /// One of those in Node.
    pub async fn node(file: &str) -> Self {
        let packages = root().join("target/sdks/node_modules");
        let program = find_program("node", &[]).filter(|_| packages.is_dir());
        let mut command = Command::new(program.expect("Node or its packages are missing. Run: make sdks"));
        command.env("NODE_PATH", packages).arg(root().join("tests/clients/node").join(file));
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Self {
        let complaints = tempfile::tempfile().unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints.try_clone().unwrap());
        let mut process = command.kill_on_drop(true).spawn().unwrap();
        let questions = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut sdk = Self { _process: process, questions, answers, complaints };
        assert_eq!(sdk.answer().await, json!({"ready": true}));
        sdk
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&mut self, question: &Value) -> Value {
        self.questions.write_all(format!("{question}\n").as_bytes()).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> Value {
        match timeout(LIMIT, self.answers.next_line()).await {
            Ok(Ok(Some(line))) => serde_json::from_str(&line).unwrap(),
            other => {
                let mut said = String::new();
                self.complaints.rewind().unwrap();
                self.complaints.read_to_string(&mut said).unwrap();
                panic!("no answer ({other:?}): {said}");
            }
        }
    }
}

/// A question for the scene's model through the HTTP door of that Rota, with these fields besides.
pub async fn question(rota: &Rota, scene: &Scene, fields: Value) -> Value {
    let mut question = json!({
        "base": format!("http://{}", rota.http().await),
        "token": scene.token,
        "model": format!("{}/{}", scene.provider, scene.key.model),
        "ask": "text",
    });
    let (Some(question_), Value::Object(fields)) = (question.as_object_mut(), fields) else {
        panic!("fields are an object")
    };
    question_.extend(fields);
    question
}

/// What answers of a discreet scripted upstream name a key.
pub fn named(key: &str) -> &str {
    key.split_once('-').map_or(key, |(_, rest)| rest)
}

/// Which config's key an answer of a discreet scripted upstream names, by what follows "served by".
pub fn served_by(scene: &Scene, answer: &Value) -> Option<usize> {
    let text = answer["text"].as_str()?;
    scene.keys.iter().position(|key| text == format!("served by {}", named(key)))
}

/// How many calls came with any of the scene's keys.
pub fn calls(scene: &Scene, upstream: &Upstream) -> u64 {
    scene.hits(upstream).iter().sum()
}
