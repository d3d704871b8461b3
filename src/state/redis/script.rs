//! Lua scripts and how they are sent: by hash, with the source only when the server does not know it.

use super::{codec::Args, state_error};
use crate::state::StateError;
use fred::{
    prelude::{ClientLike, Error, ErrorKind, FromValue},
    types::{ClusterHash, CustomCommand, Value},
    util::redis_keyslot,
};

/// One script with its hash.
pub(super) struct Script {
    /// The file's name, without its ending.
    pub(super) name: &'static str,
    sha: String,
    source: &'static str,
}

/// One run of a script.
#[derive(Clone)]
pub(super) struct Run {
    keys: Vec<String>,
    args: Vec<Value>,
}

/// The script of that name, with `common.lua` before it, or what else is named.
macro_rules! script {
    ($name:literal) => {
        script!($name, "common")
    };
    ($name:literal, $($before:literal),*) => {
        $crate::state::redis::script::Script::new(
            $name,
            concat!($(include_str!(concat!($before, ".lua")),)* include_str!(concat!($name, ".lua"))),
        )
    };
}
pub(super) use script;

impl Script {
    pub(super) fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, sha: fred::util::sha1_hash(source), source }
    }

    /// Runs it, again where its keys have moved to another node, and with its source where the server has lost it.
    pub(super) async fn run<T: FromValue>(
        &self,
        client: &impl ClientLike,
        run: Run,
    ) -> Result<T, StateError> {
        let slot = run.slot();
        let by_hash = || client.custom(command("EVALSHA", slot), run.clone().into_args(&self.sha));
        let mut answer = by_hash().await;
        if answer.as_ref().is_err_and(has_moved) {
            answer = by_hash().await;
        }
        if answer.as_ref().is_err_and(is_unknown) {
            answer = client.custom(command("EVAL", slot), run.into_args(self.source)).await;
        }
        answer.map_err(state_error)
    }
}

impl Run {
    pub(super) fn new(keys: Vec<String>, args: Vec<Value>) -> Self {
        Self { keys, args }
    }

    pub(super) fn push(&mut self, more: Args) {
        self.args.extend(more.0);
    }

    /// Where a cluster has its keys, which are all of one tenant.
    fn slot(&self) -> u16 {
        self.keys.first().map_or(0, |key| redis_keyslot(key.as_bytes()))
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

/// fred has `evalsha` on its plain client alone, not with options. Of a custom command it regards no policy but a slot.
fn command(name: &'static str, slot: u16) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::Custom(slot), false)
}

/// Whether the server does not know the script: it has restarted, or someone has flushed its scripts, or another node
/// has taken its place.
fn is_unknown(error: &Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}

/// Whether another node has the keys. It has not run, and fred has learnt from the cluster where they are.
fn has_moved(error: &Error) -> bool {
    *error.kind() == ErrorKind::Routing && error.details() == "Too many redirections."
}
