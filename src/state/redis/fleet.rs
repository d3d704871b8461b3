//! What replicas tell each other of addresses: what fails for one of them may be its own trouble.
//!
//! A vote is written off the caller's path, at a failure and at the first success after it. Votes decide nothing by
//! themselves: each replica takes in the word of the others where it knows nothing better. Words that are lost cost a call
//! that finds out by itself. While Redis is away there are none.

use super::{keys::address_key, script::script, shared::Shared};
use crate::{
    balance::{Cooldown, ErrorClass, VOTE_WINDOW},
    redis::{Args, RedisOptions, Result, listen},
    state::addresses::Word,
    tasks::Task,
};
use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

/// Where it is said. The number goes with the format.
const CHANNEL: &str = "rota:addresses:1";
/// So many votes may wait. One that finds no place is not cast.
const WAITING: usize = 1024;

/// Who hears what other replicas say of an address of a tenant.
pub(in crate::state) type Hear = dyn Fn(Uuid, Arc<str>, Word) + Send + Sync;

/// The replicas that share a Redis.
pub(in crate::state) struct Fleet {
    shared: Arc<Shared>,
    votes: mpsc::Sender<Vote>,
}

/// What this replica has seen of an address.
struct Vote {
    tenant: Uuid,
    address: Arc<str>,
    kind: Kind,
}

enum Kind {
    Failed(Duration, ErrorClass),
    Served,
    /// It does not count any more.
    Withdrawn,
    /// An operator has cleared the cooldown, for all.
    Cleared,
}

impl Fleet {
    /// Begins to listen and to tell.
    pub(super) fn join(shared: Arc<Shared>, options: &RedisOptions, hear: Arc<Hear>) -> Self {
        let (votes, inbox) = mpsc::channel(WAITING);
        let inbox = Arc::new(Mutex::new(inbox));
        let telling = Arc::downgrade(&shared);
        shared.tasks.spawn_endless(Task::AddressVotes, move || tell(telling.clone(), inbox.clone()));
        let (options, own) = (options.clone(), shared.replica.clone());
        shared.tasks.spawn_endless(Task::AddressVotes, move || {
            let (hear, own) = (hear.clone(), own.clone());
            listen(options.clone(), vec![CHANNEL.to_owned()], move |word| {
                if let Some((tenant, address, word)) = word.and_then(|(_, text)| heard(text, &own)) {
                    hear(tenant, address, word);
                }
                true
            })
        });
        Self { shared, votes }
    }

    /// How many replicas were alive when last seen.
    pub(in crate::state) fn replicas(&self) -> u32 {
        self.shared.replicas.load(Ordering::Relaxed)
    }

    /// This replica cannot reach the address.
    pub(in crate::state) fn failed(&self, tenant: Uuid, address: &Arc<str>, cooldown: &Cooldown) {
        self.cast(tenant, address.clone(), Kind::Failed(cooldown.duration, cooldown.class));
    }

    /// This replica was served from the address.
    pub(in crate::state) fn served(&self, tenant: Uuid, address: &Arc<str>) {
        self.cast(tenant, address.clone(), Kind::Served);
    }

    /// What this replica has said of that address does not count any more.
    pub(in crate::state) fn withdraw(&self, tenant: Uuid, address: Arc<str>) {
        self.cast(tenant, address, Kind::Withdrawn);
    }

    /// No replica may hold against the address what it has seen until now.
    pub(in crate::state) fn cleared(&self, tenant: Uuid, address: &Arc<str>) {
        self.cast(tenant, address.clone(), Kind::Cleared);
    }

    fn cast(&self, tenant: Uuid, address: Arc<str>, kind: Kind) {
        if self.votes.try_send(Vote { tenant, address, kind }).is_err() {
            tracing::debug!("too many words about addresses at once: one is not said");
        }
    }
}

/// Writes votes one after the other.
async fn tell(shared: Weak<Shared>, inbox: Arc<Mutex<mpsc::Receiver<Vote>>>) {
    let mut inbox = inbox.lock().await;
    while let Some(vote) = inbox.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = write(&shared, &vote).await {
            tracing::debug!(%error, "what was seen of an address was not told");
        }
    }
}

async fn write(shared: &Shared, vote: &Vote) -> Result<()> {
    let Vote { tenant, address, kind } = vote;
    let args = shared.args().text(&shared.replica);
    let named = |args: Args, kind: &str| {
        args.text(kind).millis(VOTE_WINDOW).text(CHANNEL).text(&tenant.simple().to_string()).text(address)
    };
    let args = match kind {
        Kind::Failed(left, class) => named(args, "failed").millis(*left).text(class.name()),
        Kind::Served => named(args, "served"),
        Kind::Withdrawn => named(args, "withdrawn"),
        Kind::Cleared => named(args, "cleared"),
    };
    shared.run(script!("vote"), [address_key(*tenant, address)], args).await
}

/// What another replica has said.
fn heard(text: &str, own: &str) -> Option<(Uuid, Arc<str>, Word)> {
    let mut words = text.split(' ');
    let tenant = Uuid::try_parse(words.next()?).ok()?;
    let address = words.next()?.into();
    if words.next()? == own {
        return None;
    }
    let word = match words.next()? {
        "failed" => Word::Failed,
        "agreed" => {
            let left = Duration::from_millis(words.next()?.parse().ok()?);
            Word::Agreed(left.min(VOTE_WINDOW), ErrorClass::from_name(words.next()?)?)
        }
        "served" => Word::Served,
        "cleared" => Word::Cleared,
        _ => return None,
    };
    Some((tenant, address, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_read_and_the_rest_is_passed_over() {
        let tenant = Uuid::from_u128(7);
        let said = |word: &str| heard(&format!("{} a1 other {word}", tenant.simple()), "own");
        let some = |word| Some((tenant, "a1".into(), word));
        assert_eq!(said("failed"), some(Word::Failed));
        assert_eq!(said("served"), some(Word::Served));
        assert_eq!(said("cleared"), some(Word::Cleared));
        let agreed = Word::Agreed(Duration::from_secs(10), ErrorClass::Connection);
        assert_eq!(said("agreed 10000 CONNECTION"), some(agreed));
        let long = Word::Agreed(VOTE_WINDOW, ErrorClass::Timeout);
        assert_eq!(said("agreed 99999999 TIMEOUT"), some(long), "nobody can cool it for long");
        for word in ["agreed", "agreed x CONNECTION", "agreed 1 NOTHING", "later", ""] {
            assert_eq!(said(word), None, "{word}");
        }
        assert_eq!(heard(&format!("{} a1 own failed", tenant.simple()), "own"), None);
        assert_eq!(heard("", "own"), None);
    }
}
