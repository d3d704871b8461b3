//! Lua scripts and how they are sent: by hash, with the source only when the server does not know it.

use super::{
    codec::{Args, RECORD_FIELDS},
    error::state_error,
};
use crate::{
    balance::{ErrorClass, Standing, Strategy, constants, millis},
    state::StateError,
};
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
    source: String,
}

/// One run of a script.
#[derive(Clone)]
pub(super) struct Run {
    keys: Vec<Value>,
    args: Vec<Value>,
}

/// The script of that file, behind what every script shares.
macro_rules! script {
    ($name:literal) => {
        $crate::state::redis::script::Script::new(
            $name,
            $crate::state::redis::script::shared_lua() + include_str!(concat!($name, ".lua")),
        )
    };
}
pub(super) use script;

/// What every script shares: the numbers and names of the rules in `src/balance/`, as Lua's constants, and `common.lua`.
pub(super) fn shared_lua() -> String {
    let numbers = [
        ("EPISODE_DECAY", millis(constants::EPISODE_DECAY)),
        ("MAX_EPISODES", constants::MAX_EPISODES.into()),
        ("SHARE_WINDOW", millis(constants::SHARE_WINDOW)),
        ("SHARE", constants::SHARE.into()),
        ("SHARE_VOLUME", constants::SHARE_VOLUME.into()),
        ("KEPT", millis(constants::KEPT)),
        ("BUCKET", millis(constants::BUCKET)),
        ("BUCKETS", constants::BUCKETS),
        ("CONCURRENCY_PAUSE", millis(constants::CONCURRENCY_PAUSE)),
        ("SCALE", constants::SCALE.unsigned_abs()),
        ("AVAILABLE", Standing::Available.severity().into()),
        ("HALF_OPEN", Standing::HalfOpen.severity().into()),
        ("TRIAL_RUNNING", Standing::TrialRunning.severity().into()),
        ("COOLING", Standing::COOLING.into()),
    ];
    let strategies =
        Strategy::ALL.map(|strategy| (strategy.name().to_uppercase().replace('-', "_"), strategy.name()));
    let classes = ErrorClass::ALL.map(|class| (class.name().to_owned(), class.name()));
    let mut lua = String::new();
    for (name, value) in numbers {
        lua += &format!("local {name} = {value}\n");
    }
    for (name, value) in strategies.into_iter().chain(classes) {
        lua += &format!("local {name} = '{value}'\n");
    }
    lua += &format!("local FIELDS = {{ '{}' }}\n", RECORD_FIELDS.join("', '"));
    lua + include_str!("common.lua")
}

impl Script {
    pub(super) fn new(name: &'static str, source: String) -> Self {
        Self { name, sha: fred::util::sha1_hash(&source).into(), source }
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
            answer = client.custom(command("EVAL", slot), run.into_args(self.source.as_str().into())).await;
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
