//! Word between replicas: that configuration has changed, and whatever else one wants to hear.
//!
//! It says when to look, never what to believe: of configuration the outbox in the database tells that, and is read every
//! 250 ms anyhow.
//!
//! When Redis is gone no word comes, and changes arrive with the next look.

use super::connect::{Connection, RedisOptions};
use crate::tasks::{Task, Tasks};
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, broadcast::error::RecvError},
    time::{sleep, timeout},
};

/// What the word is said on. Not of a tenant: in a Cluster all nodes hear it.
const CHANNEL: &str = "rota:changes";
/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// A channel beside that of changes, and who hears what is said there: the word, or none where one may have been missed.
/// One connection serves all channels.
#[derive(Clone)]
pub(crate) struct Hearing {
    pub(crate) channel: String,
    pub(crate) hear: Arc<dyn Fn(Option<&str>) + Send + Sync>,
}

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
        tasks
            .spawn_endless(Task::RedisChanges, move || listen(options.clone(), woken.clone(), other.clone()));
        Self { connection, heard }
    }

    /// Tells all replicas that configuration has changed. When Redis is away, nobody is told.
    pub async fn announce(&self) {
        if let Err(error) = self.connection.client().publish::<i64, _, _>(CHANNEL, "").await {
            tracing::debug!(error = error.details(), "a change was not announced");
        }
    }

    /// Waits until a replica has told of a change, or may have while this one could not listen.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }
}

/// Wakes `heard` at every word of a change, and tells `other` what is said on its channel, until `heard` is dropped.
async fn listen(options: RedisOptions, heard: Weak<Notify>, other: Hearing) {
    while heard.strong_count() > 0 {
        // A subscription needs a connection of its own, and is over when that breaks.
        if let Ok(client) = options.client(&[]) {
            let (mut words, mut problems) = (client.message_rx(), client.error_rx());
            let task = client.connect();
            let ready = timeout(options.patience(), async {
                client.wait_for_connect().await?;
                client.subscribe(vec![CHANNEL, &other.channel]).await
            });
            // Until here something may have been said.
            let mut listening = matches!(ready.await, Ok(Ok(()))) && wake(&heard);
            (other.hear)(None);
            while listening {
                listening = tokio::select! {
                    word = words.recv() => match word {
                        Ok(word) if word.channel == other.channel => {
                            (other.hear)(word.value.as_str().as_deref());
                            true
                        }
                        Ok(_) => wake(&heard),
                        Err(RecvError::Lagged(_)) => {
                            (other.hear)(None);
                            wake(&heard)
                        }
                        Err(RecvError::Closed) => false,
                    },
                    _ = problems.recv() => false,
                };
            }
            task.abort();
        }
        sleep(PAUSE).await;
    }
}

fn wake(heard: &Weak<Notify>) -> bool {
    heard.upgrade().is_some_and(|heard| {
        heard.notify_one();
        true
    })
}
