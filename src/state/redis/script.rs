//! Lua scripts and how they are sent: by hash, with the source only when the server does not know it.

use super::{codec::Args, state_error};
use crate::state::StateError;
use fred::{
    prelude::{ClientLike, Error, FromValue},
    types::{ClusterHash, CustomCommand, Value},
};

/// One script with its hash.
pub(super) struct Script {
    sha: String,
    source: &'static str,
}

/// One run of a script.
#[derive(Clone)]
pub(super) struct Run {
    keys: Vec<String>,
    args: Vec<Value>,
}

/// The script in that file, with `common.lua` before it.
macro_rules! script {
    ($file:literal) => {
        $crate::state::redis::script::Script::new(concat!(include_str!("common.lua"), include_str!($file)))
    };
}
pub(super) use script;

impl Script {
    pub(super) fn new(source: &'static str) -> Self {
        Self { sha: fred::util::sha1_hash(source), source }
    }

    /// Runs it, and sends the source along where the server has lost it.
    pub(super) async fn run<T: FromValue>(
        &self,
        client: &impl ClientLike,
        run: Run,
    ) -> Result<T, StateError> {
        match self.send(client, run.clone()).await {
            Err(error) if is_unknown(&error) => self.send_source(client, run).await.map_err(state_error),
            answer => answer.map_err(state_error),
        }
    }

    /// Sends its hash alone; on a pipeline: queues it.
    pub(super) async fn send<T: FromValue>(&self, client: &impl ClientLike, run: Run) -> Result<T, Error> {
        client.custom(command("EVALSHA"), run.into_args(self.sha.as_str())).await
    }

    /// Sends its source, which the server then remembers.
    pub(super) async fn send_source<T: FromValue>(
        &self,
        client: &impl ClientLike,
        run: Run,
    ) -> Result<T, Error> {
        client.custom(command("EVAL"), run.into_args(self.source)).await
    }
}

impl Run {
    pub(super) fn new(keys: Vec<String>, args: Vec<Value>) -> Self {
        Self { keys, args }
    }

    pub(super) fn push(&mut self, more: Args) {
        self.args.extend(more.0);
    }

    fn into_args(self, script: &str) -> Vec<Value> {
        let mut all = Vec::with_capacity(2 + self.keys.len() + self.args.len());
        all.push(script.into());
        all.push(i64::try_from(self.keys.len()).unwrap_or(0).into());
        all.extend(self.keys.into_iter().map(Value::from));
        all.extend(self.args);
        all
    }
}

/// fred has `evalsha` on its plain client alone, not with options and not on a pipeline. The first key, behind the
/// script and the number of keys, says which cluster node runs it.
fn command(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::Offset(2), false)
}

/// Whether the server does not know the script: it has restarted, or someone has flushed its scripts.
pub(super) fn is_unknown(error: &Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}
