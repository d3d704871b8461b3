//! Lua scripts, their arguments, and how they are sent: by hash, with the source only when the server does not know it.

use super::error::Result;
use bytes::Bytes;
use fred::{
    prelude::{ClientLike, Error, ErrorKind, FromValue},
    types::{ClusterHash, CustomCommand, Value},
    util::redis_keyslot,
};
use std::time::Duration;

/// One script with its hash.
pub(crate) struct Script {
    /// The file's name, without its ending.
    pub(crate) name: &'static str,
    sha: Value,
    source: String,
}

/// One run of a script.
#[derive(Clone)]
pub(crate) struct Run {
    keys: Vec<Value>,
    args: Args,
}

/// Arguments in the making.
#[derive(Clone, Default)]
pub(crate) struct Args(Vec<Value>);

impl Args {
    pub(crate) fn text(self, text: &str) -> Self {
        self.all([text])
    }

    pub(crate) fn bytes(self, bytes: Bytes) -> Self {
        self.all([bytes])
    }

    pub(crate) fn number(self, number: u64) -> Self {
        self.all([i64::try_from(number).unwrap_or(i64::MAX)])
    }

    pub(crate) fn millis(self, duration: Duration) -> Self {
        self.number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn flag(self, set: bool) -> Self {
        self.text(if set { "1" } else { "0" })
    }

    pub(crate) fn optional(self, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(number),
            None => self.text("-"),
        }
    }

    pub(crate) fn all(mut self, more: impl IntoIterator<Item: Into<Value>>) -> Self {
        self.0.extend(more.into_iter().map(Into::into));
        self
    }
}

impl IntoIterator for Args {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Script {
    pub(crate) fn new(name: &'static str, source: String) -> Self {
        Self { name, sha: fred::util::sha1_hash(&source).into(), source }
    }

    /// Runs it, again where its keys have moved to another node, and with its source where the server has lost it.
    pub(crate) async fn run<T: FromValue>(&self, client: &impl ClientLike, run: Run) -> Result<T> {
        match self.by_hash(client, &run).await {
            Err(error) if has_moved(&error) || is_unknown(&error) => {
                // Apart, so that what happens once in a while takes no room in every run.
                Ok(Box::pin(self.again(client, run, error)).await?)
            }
            answer => Ok(answer?),
        }
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
    pub(crate) fn new(keys: impl IntoIterator<Item: Into<Value>>, args: Args) -> Self {
        Self { keys: keys.into_iter().map(Into::into).collect(), args }
    }

    /// Where a cluster has its keys, which are all of one tenant.
    fn slot(&self) -> u16 {
        self.keys.first().and_then(Value::as_bytes).map_or(0, redis_keyslot)
    }

    fn into_args(self, script: Value) -> Vec<Value> {
        let mut all = Vec::with_capacity(2 + self.keys.len() + self.args.0.len());
        all.push(script);
        all.push(i64::try_from(self.keys.len()).unwrap_or(0).into());
        all.extend(self.keys);
        all.extend(self.args.0);
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
