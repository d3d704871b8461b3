//! Word between replicas: that configuration has changed, and whatever else one wants to hear.
//!
//! It says when to look, never what to believe: of configuration the outbox in the database tells that, and is read every
//! 250 ms anyhow.
//!
//! When Redis is gone no word comes, and changes arrive with the next look.

use super::{
    connect::{Connection, RedisOptions},
    error::{RedisError, Result},
    words::{listen, subscribe},
};
use crate::tasks::{Task, Tasks};
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use std::sync::{Arc, Weak};
use tokio::{sync::Notify, time::timeout};

/// What the word is said on. Not of a tenant: in a Cluster all nodes hear it.
const CHANNEL: &str = "rota:changes";

/// A channel beside that of changes, and who hears what is said there: the word, or none where one may have been missed.
/// One connection serves all channels.
#[derive(Clone)]
pub(crate) struct Hearing {
    pub(crate) channel: String,
    pub(crate) hear: Arc<Hear>,
}

type Hear = dyn Fn(Option<&str>) + Send + Sync;

/// Word of changed configuration, from replica to replica. It only saves time: replicas read the outbox in any case.
#[derive(Clone)]
pub struct ChangeFeed {
    connection: Arc<Connection>,
    heard: Arc<Notify>,
}

impl ChangeFeed {
    /// Begins to listen, until its last clone is dropped.
    pub(crate) fn start(
        connection: Arc<Connection>,
        options: &RedisOptions,
        tasks: &Tasks,
        other: Hearing,
    ) -> Self {
        let (options, heard) = (options.clone(), Arc::<Notify>::default());
        let woken = Arc::downgrade(&heard);
        tasks.spawn_endless(Task::RedisChanges, move || {
            let (woken, other) = (woken.clone(), other.clone());
            let channels = vec![CHANNEL.to_owned(), other.channel.clone()];
            listen(options.clone(), channels, move |word| match word {
                Some((channel, word)) if channel == other.channel => {
                    (other.hear)(Some(word));
                    true
                }
                Some(_) => wake(&woken),
                None => {
                    (other.hear)(None);
                    wake(&woken)
                }
            })
        });
        Self { connection, heard }
    }

    /// Tells all replicas that configuration has changed. When Redis is away, nobody is told.
    pub async fn announce(&self) {
        if let Err(error) = self.connection.client().publish::<i64, _, _>(CHANNEL, "").await {
            let error = RedisError::from(error);
            if error.is_refusal() {
                tracing::error!(%error, "a change was not announced: other replicas learn of it from the database");
            } else {
                tracing::debug!(%error, "a change was not announced");
            }
        }
    }

    /// Listens, says a word and waits until it is heard: whether Redis lets us.
    ///
    /// # Errors
    /// What Redis says. Of a subscription that it refuses, fred tells nothing.
    pub async fn try_out(&self, options: &RedisOptions) -> Result<()> {
        let client = options.client(&[])?;
        let mut words = client.message_rx();
        let task = client.connect();
        let tried = async {
            subscribe(&client, options, &[CHANNEL.to_owned()]).await?;
            self.connection.client().publish::<i64, _, _>(CHANNEL, "").await?;
            let heard = timeout(options.patience(), words.recv()).await;
            heard.map(drop).map_err(|_| RedisError::refused(&["subscribe".to_owned()]))
        };
        let tried = tried.await;
        task.abort();
        tried
    }

    /// Waits until a replica has told of a change, or may have while this one could not listen.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }
}

fn wake(heard: &Weak<Notify>) -> bool {
    heard.upgrade().is_some_and(|heard| {
        heard.notify_one();
        true
    })
}
