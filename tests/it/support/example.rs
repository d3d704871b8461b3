//! The clients of `examples/`, run as the processes that their readers would start.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tokio::sync::OnceCell;

use super::{process::find_program, python, root};

/// Their languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
    Rust,
}

/// What a run said, by the word before the colon of each line.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended well.
    pub well: bool,
    words: HashMap<String, String>,
    /// All of it.
    pub text: String,
}

impl Said {
    fn new(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
        let words = text.lines().filter_map(|line| line.split_once(": "));
        let words = words.map(|(word, rest)| (word.to_owned(), rest.to_owned())).collect();
        Self { well: output.status.success(), words, text }
    }

    /// What stands behind that word.
    pub fn of(&self, word: &str) -> &str {
        self.words.get(word).map_or("", String::as_str)
    }
}

impl Language {
    /// Its example, to be run on these replicas (`127.0.0.1:PORT`).
    pub async fn example(self, replicas: &[&str], token: &str) -> Command {
        let root = root();
        let mut command = match self {
            Self::Python => {
                let mut command = python::command();
                command.env("PYTHONPATH", python::stubs().await).arg(root.join("examples/python/client.py"));
                command
            }
            Self::Node => node(&root.join("examples/node/client.js")),
            Self::Rust => Command::new(rust().await),
        };
        let urls: Vec<_> = replicas.iter().map(|replica| format!("http://{replica}")).collect();
        command
            .env("ROTA_TARGET", format!("ipv4:{}", replicas.join(",")))
            .env("ROTA_REPLICAS", urls.join(","))
            .env("ROTA_TOKEN", token);
        command
    }
}

/// Runs it to its end.
pub async fn run(mut command: Command) -> Said {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    Said::new(&output)
}

/// Node, with the packages of `examples/node`, about to run that file.
pub fn node(file: &Path) -> Command {
    let packages = root().join("target/node/node_modules");
    let program = find_program("node", &[]).filter(|_| packages.is_dir());
    let mut command = Command::new(program.expect("Node or its packages are missing. Run: make test"));
    command.arg(file).env("NODE_PATH", packages).env("ROTA_PROTO", root().join("proto"));
    command
}

/// The example in Rust, built as this test is.
async fn rust() -> &'static Path {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT
        .get_or_init(async || {
            let folder = Path::new(env!("CARGO_BIN_EXE_rota")).parent().unwrap();
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--locked", "--quiet", "--example", "rust"]).current_dir(root());
            if folder.ends_with("release") {
                cargo.arg("--release");
            }
            let output = tokio::task::spawn_blocking(move || cargo.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            folder.join("examples/rust")
        })
        .await
}
