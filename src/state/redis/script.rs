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
    sha: Value,
    source: &'static str,
}

/// One run of a script.
#[derive(Clone)]
pub(super) struct Run {
    keys: Vec<Value>,
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
        Self { name, sha: fred::util::sha1_hash(source).into(), source }
    }

    /// Runs it, again where its keys have moved to another node, and with its source where the server has lost it.
    pub(super) async fn run<T: FromValue>(
        &self,
        client: &impl ClientLike,
        run: Run,
    ) -> Result<T, StateError> {
        match self.by_hash(client, &run).await {
            Err(error) if has_moved(&error) || is_unknown(&error) => {
                // Apart, so that what happens once in a while takes no room in every run.
                Box::pin(self.again(client, run, error)).await
            }
            answer => answer,
        }
        .map_err(state_error)
    }

    fn by_hash<T: FromValue>(
        &self,
        client: &impl ClientLike,
        run: &Run,
    ) -> impl Future<Output = Result<T, Error>> {
        client.custom(command("EVALSHA", run.slot()), run.clone().into_args(self.sha.clone()))
    }

    async fn again<T: FromValue>(
        &self,
        client: &impl ClientLike,
        run: Run,
        error: Error,
    ) -> Result<T, Error> {
        let mut answer = Err(error);
        if answer.as_ref().is_err_and(has_moved) {
            answer = self.by_hash(client, &run).await;
        }
        if answer.as_ref().is_err_and(is_unknown) {
            let slot = run.slot();
            answer = client.custom(command("EVAL", slot), run.into_args(self.source.into())).await;
        }
        answer
    }
}

impl Run {
    pub(super) fn new(keys: Vec<String>, args: Vec<Value>) -> Self {
        Self::of(keys.into_iter().map(Value::from).collect(), args)
    }

    /// With keys that are values already.
    pub(super) fn of(keys: Vec<Value>, args: Vec<Value>) -> Self {
        Self { keys, args }
    }

    pub(super) fn push(&mut self, more: Args) {
        self.args.extend(more.0);
    }

    /// Where a cluster has its keys, which are all of one tenant.
    fn slot(&self) -> u16 {
        self.keys.first().and_then(Value::as_bytes).map_or(0, redis_keyslot)
    }

    fn into_args(self, script: Value) -> Vec<Value> {
        let mut all = Vec::with_capacity(2 + self.keys.len() + self.args.len());
        all.push(script);
        all.push(i64::try_from(self.keys.len()).unwrap_or(0).into());
        all.extend(self.keys);
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
